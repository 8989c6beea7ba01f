// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// TestGoTestdata ingests the tars that Go's own reader is tested with, good ones
// and bad ones, each as a layer. What umoci unpacks too must be the same tree;
// what is refused must be told by a sentence that names the layer, and the entry
// if the tar was read that far.
func TestGoTestdata(t *testing.T) {
	testkit.RequireTool(t, "umoci")
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("go env: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "src/archive/tar/testdata/*.tar"))
	if err != nil || len(files) < 30 {
		t.Skipf("Go came without its tests: %d files, %v", len(files), err)
	}
	same := 0
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			blob := testkit.PlainLayer(data)
			w := newWorld(t)
			r, err := ingest.Run(t.Context(), private(blob), "sha256:feed", w.options())
			if err != nil {
				expectSentence(t, err, blob.Digest)
				return
			}
			got := w.mounted(t, r.Image)
			want, err := tryUmoci(t, blob)
			if err != nil {
				t.Logf("umoci refuses it: %v", err)
				return
			}
			forgetUnsaid(got, want)
			report(t, ingesttest.Diff(got, want, added(want)))
			same++
		})
	}
	if same < 15 {
		t.Errorf("only %d of %d files were compared", same, len(files))
	}
}

// expectSentence wants an error that says which layer, and which entry or what
// of the tar.
func expectSentence(t *testing.T, err error, digest string) {
	t.Helper()
	known, ok := errors.AsType[*thaw.Error](err)
	if kind := thaw.KindOf(err); !ok || kind != thaw.Invalid && kind != thaw.TooLarge {
		t.Errorf("kind %v of %v", thaw.KindOf(err), known)
	}
	text := err.Error()
	if !strings.Contains(text, digest) || !strings.Contains(text, "entry") && !strings.Contains(text, "tar") {
		t.Errorf("it names neither the layer nor what in it: %s", text)
	}
	t.Log(text)
}
