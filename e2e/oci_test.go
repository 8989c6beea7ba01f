// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw/internal/testkit"
)

// TestOCIServerComesBack: with an OCI runtime functions answer, also after
// kill -9 of the server with a container alive, of which nothing is left once
// a successor of either kind has come and gone.
func TestOCIServerComesBack(t *testing.T) {
	testkit.RequireTool(t, "crun")
	w := newWorld(t, "--sandbox", "oci", "--pool", "0") // what a successor makes ahead would be taken for what was left
	ctx := t.Context()
	client := w.create(ctx, "first", w.push("go-hello:1", "first:v1"))
	for range 2 {
		if got, failed := invoke(ctx, t, client, "first", `{"name":"you"}`); failed != "" || !strings.Contains(got, "hello you") {
			t.Fatalf("%s %s", failed, got)
		}
		// The container is idle, and so frozen: it does not end by itself.
		if err := w.Kill(); err != nil {
			t.Fatal(err)
		}
		if len(ociLeft(w.Data, "bundles/*")) == 0 {
			t.Error("the killed server has left nothing to remove")
		}
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if left := ociLeft(w.Data, "bundles/*", "state/*"); len(left) != 0 {
			t.Errorf("the successor has not removed %v", left)
		}
		client = w.Lambda(w.creds)
	}
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
	if left := ociLeft(w.Data, ""); len(left) != 0 {
		t.Errorf("after the server's end are left: %v", left)
	}
	if err := w.Run(ctx); err != nil { // for the world's own end
		t.Fatal(err)
	}
}

// ociLeft lists what there is of a server's runtimes: names in their folder, and
// their sandboxes' control groups in any hierarchy.
func ociLeft(data string, names ...string) []string {
	sum := sha256.Sum256([]byte(data))
	instance := fmt.Sprintf("%x", sum[:6])
	patterns := []string{"/sys/fs/cgroup/thaw/" + instance + "/oci-*", "/sys/fs/cgroup/*/thaw/" + instance + "/oci-*"}
	for _, name := range names {
		patterns = append(patterns, filepath.Join("/run/thaw-oci", instance, name))
	}
	var left []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return left
}
