// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// licenceLine is in the first lines of every source file, as SPDX has it.
const licenceLine = "SPDX-License-Identifier: Apache-2.0"

// TestLicenceHeaders: each Go file and each script of the repository says under
// which licence it is, so that one that is copied out of it still does.
func TestLicenceHeaders(t *testing.T) {
	for _, f := range trackedFiles(t) {
		if ext := filepath.Ext(f.name); ext != ".go" && ext != ".sh" || strings.Contains(f.name, "testdata/") {
			continue
		}
		file, err := os.Open(filepath.Join("..", "..", f.name))
		if os.IsNotExist(err) {
			continue // deleted, and the index does not know yet
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		found := false
		for range 3 {
			found = found || lines.Scan() && strings.Contains(lines.Text(), licenceLine)
		}
		_ = file.Close() // only read
		if !found {
			t.Errorf("%s does not say \"%s\" in its first lines", f.name, licenceLine)
		}
	}
}
