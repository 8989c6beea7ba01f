package erofs

import "testing"

// TestReader compares what our own reader sees with the tree that was given.
func TestReader(t *testing.T) {
	for _, tree := range nastyTrees() {
		t.Run(tree.name, func(t *testing.T) {
			im := build(t, tree.root())
			sameLines(t, listReader(t, im.reader(t)), im.want())
		})
	}
}
