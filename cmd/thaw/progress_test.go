// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestProgressEnds: close returns although the last reports were of work half
// done, as those of a fast server are. If it does not, the test's time runs out.
func TestProgressEnds(t *testing.T) {
	p := newProgress(io.Discard, false)
	updates := make(chan v1.Update)
	stop := p.watchPush(updates)
	updates <- v1.Update{Total: 100, Complete: 10}
	updates <- v1.Update{Total: 200, Complete: 50}
	stop()
	for range 100 { // reports of a push that has failed arrive after its end
		updates <- v1.Update{Total: 200, Complete: 60}
	}
	p.showIngest(ingestStatus{Done: 1, Total: 10})
	p.close()
	p.close()
}

func TestIsLocal(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "layout")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]bool{
		folder: true, folder + ":app": true, folder + ":app:v1": true, folder + "x:app:v1": false, "registry.example:5000/app:v1": false,
	} {
		if isLocal(image) != want {
			t.Errorf("%s: local %v", image, !want)
		}
	}
}
