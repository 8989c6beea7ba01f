// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"fmt"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/erofs"
)

// DefaultBudget is the memory for what an image says about its files: enough for
// some 600,000 of them, twice what the largest images of this world have.
const DefaultBudget = 640 << 20

// What a name costs at most until its image is encoded, in bytes. A file that is
// alone in its folder costs most: it has a chunk of its own. Strings are kept in
// the list, in the tree, and in its encoded form.
const (
	entryCost = 900
	textCost  = 3 // for each byte of a name, a path or a target
	xattrCost = 2 // for each byte of an attribute
)

// Budget bounds the memory that names, paths, link targets and extended
// attributes of one image take, all its layers together, however well they were
// compressed. The bytes of files are not its concern. One goroutine uses it.
type Budget struct {
	limit, used int64
}

// NewBudget returns a budget of that many bytes; 0 is [DefaultBudget].
func NewBudget(bytes int64) *Budget {
	if bytes <= 0 {
		bytes = DefaultBudget
	}
	return &Budget{limit: bytes}
}

// BudgetError is why an image is [thaw.TooLarge]: not for its files, but for
// what it says about them.
type BudgetError struct {
	Entry string // with which it was too much
	Limit int64  // bytes
}

// Error says what to do.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("with entry %.300q the names, link targets and extended attributes of the image take more than the %d MiB of memory "+
		"that they may take: have fewer or shorter ones", e.Entry, e.Limit>>20)
}

// take charges for an entry of a layer.
func (b *Budget) take(layer, entry string, bytes int64) error {
	if b.used += bytes; b.used > b.limit {
		return &thaw.Error{Op: op(layer), Kind: thaw.TooLarge, Err: &BudgetError{Entry: entry, Limit: b.limit}}
	}
	return nil
}

// cost is what an entry takes of a budget.
func (e *entry) cost() int64 {
	return entryCost + textCost*int64(len(e.name)+len(e.link)) + xattrCost*bytesOf(e.xattrs)
}

func bytesOf(xattrs []erofs.Xattr) int64 {
	n := 0
	for _, x := range xattrs {
		const kept = 40 // the headers of name and value
		n += kept + len(x.Name) + len(x.Value)
	}
	return int64(n)
}
