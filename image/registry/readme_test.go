// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/internal/testkit"
)

// TestReadmePushes runs the lines of README.md that push an image, as they stand
// there but for the address, with the login where `thaw login` writes it.
// Docker is not driven: its daemon is not for a test.
func TestReadmePushes(t *testing.T) {
	testkit.RequireRoot(t)
	for _, tool := range []string{"podman", "buildah", "skopeo"} {
		testkit.RequireTool(t, tool)
	}
	crane := testkit.GoTool(t, testkit.Crane)
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "    ") && len(fields) > 2 && (fields[1] == "push" || fields[1] == "copy") {
			lines[fields[0]] = strings.TrimSpace(line)
		}
	}
	for _, tool := range []string{"docker", "podman", "buildah", "skopeo", "crane"} {
		if lines[tool] == "" {
			t.Errorf("README.md has no line that pushes with %s", tool)
		}
	}

	s := startServer(t, options(t.TempDir()))
	home := t.TempDir()
	login := base64.StdEncoding.EncodeToString([]byte("key-" + string(alice) + ":" + secretOf(alice)))
	writeTestFile(t, filepath.Join(home, ".docker", "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.host(), login))
	writeTestFile(t, filepath.Join(home, "storage.conf"), fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", home+"/store", home+"/run"))
	env := append(os.Environ(), "HOME="+home, "CONTAINERS_STORAGE_CONF="+filepath.Join(home, "storage.conf"), "XDG_RUNTIME_DIR="+home, "REGISTRY_AUTH_FILE=", "DOCKER_CONFIG=",
		"PATH="+filepath.Dir(crane)+":"+os.Getenv("PATH"))
	shell := func(line string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(line, "127.0.0.1:9800", s.host()))
		cmd.Dir, cmd.Env = home, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	writeTestFile(t, filepath.Join(home, "app.py"), "print('hello')\n")
	shell("container=$(buildah from scratch); buildah copy --quiet $container app.py /app.py; buildah commit --quiet $container 127.0.0.1:9800/hello:v1")
	shell("buildah push --quiet 127.0.0.1:9800/hello:v1 docker-archive:image.tar:127.0.0.1:9800/hello:v1")
	for _, tool := range []string{"podman", "buildah", "skopeo", "crane"} {
		shell(lines[tool])
		expectWhole(t, s.host()+"/hello:v1")
		repo, err := s.store.Writer(registry.Identity{Tenant: alice}, "hello")
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.DeleteTag("v1"); err != nil {
			t.Errorf("%s pushed nothing: %v", tool, err)
		}
	}
}

func writeTestFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
