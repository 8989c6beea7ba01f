// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"thaw.dev/thaw/internal/testkit"
)

// TestClients takes an image to a function that answers with each tool that
// pushes and with AWS's SDK for JavaScript. The AWS CLI has its own test; the
// SDK for Go and skopeo are what the other tests work with.
func TestClients(t *testing.T) {
	w := newWorld(t)
	home := t.TempDir()
	env := append(w.Environ(w.creds), "HOME="+home, "DOCKER_CONFIG="+filepath.Join(home, ".docker"), "REGISTRY_AUTH_FILE="+filepath.Join(home, ".docker", "config.json"))
	run := func(t *testing.T, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env, cmd.Dir = env, home
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	answers := func(t *testing.T, function, ref string) {
		t.Helper()
		client := w.create(t.Context(), function, ref)
		if got, failed := invoke(t.Context(), t, client, function, `{"name":"you"}`); failed != "" || !strings.Contains(got, `"greeting":"hello you"`) {
			t.Errorf("%s answered %s %s", function, failed, got)
		}
	}

	t.Run("crane", func(t *testing.T) {
		tool := testkit.GoTool(t, testkit.Crane)
		dir := filepath.Join(home, "layout")
		path, err := layout.Write(dir, empty.Index)
		if err == nil {
			err = path.AppendImage(builtImage(t, "go-hello:1"))
		}
		if err != nil {
			t.Fatal(err)
		}
		run(t, tool, "auth", "login", w.Registry(), "-u", w.creds.AccessKey, "-p", w.creds.Secret)
		run(t, tool, "push", dir, w.Registry()+"/crane:v1")
		answers(t, "crane", w.Registry()+"/crane:v1")
	})
	t.Run("buildah", func(t *testing.T) {
		testkit.RequireTool(t, "buildah")
		buildah := func(args ...string) string {
			t.Helper()
			state := []string{"--root", filepath.Join(home, "store"), "--runroot", filepath.Join(home, "run"), "--storage-driver", "vfs"}
			return strings.TrimSpace(run(t, "buildah", append(state, args...)...))
		}
		dir, err := images("go-hello:1")
		if err != nil {
			t.Fatal(err)
		}
		buildah("login", "--tls-verify=false", "-u", w.creds.AccessKey, "-p", w.creds.Secret, w.Registry())
		from := buildah("from", "--quiet", "oci:"+dir+":go-hello:1")
		for name, options := range map[string]string{"buildah": "", "buildah-docker": "--format v2s2", "buildah-zstd": "--format oci --compression-format zstd",
			"buildah-chunked": "--format oci --compression-format zstd:chunked"} {
			// The program of one image in one that buildah makes from nothing, under
			// another name each time: bytes that it knows it does not compress anew.
			made := buildah("from", "--quiet", "scratch")
			buildah("copy", "--from", from, made, "/handler", "/bin/"+name)
			buildah("config", "--entrypoint", `["/bin/`+name+`"]`, made)
			ref := w.Registry() + "/" + name + ":v1"
			buildah("commit", "--quiet", made, ref)
			buildah(append(append([]string{"push", "--quiet", "--tls-verify=false"}, strings.Fields(options)...), ref)...)
			answers(t, name, ref)
		}
	})
	t.Run("JavaScript SDK", func(t *testing.T) {
		installed := testkit.JavaScriptSDK(t)
		script, err := filepath.Abs("testdata/life.mjs")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "node", script, w.Endpoint, w.Region, w.push("go-hello:1", "js:v1"), w.push("go-hello:2", "js:v2"))
		cmd.Env = append(env, "SDK_FROM="+installed, "NODE_NO_WARNINGS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
