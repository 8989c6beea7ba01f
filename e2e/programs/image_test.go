// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thaw.dev/thaw/internal/debimage"
	"thaw.dev/thaw/internal/livetest"
)

// image makes an OCI layout with one image, tagged "programs": Debian with the
// packages of all programs, and the programs' own files over it.
func image(t *testing.T, programs map[string]program) string {
	t.Helper()
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	layout, err := debimage.NewLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	debian, err := layout.AddTar(debian(t, root, programs), debimage.Plain)
	if err != nil {
		t.Fatal(err)
	}
	own, err := layout.AddLayer(t.Context(), debimage.Layer{Dirs: map[string]string{"var/task": task(t, root, programs)}}, debimage.Plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.AddImage("programs", []debimage.Descriptor{debian, own}, debimage.Config{Entrypoint: []string{"/bin/false"}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// debian returns a tar of Debian with the packages installed, as people's
// Dockerfiles install them. It is kept for the next run.
func debian(t *testing.T, root string, programs map[string]program) string {
	t.Helper()
	packages := []string{"ca-certificates", "python3"}
	for _, p := range programs {
		packages = append(packages, p.Packages...)
	}
	slices.Sort(packages)
	list := strings.Join(slices.Compact(packages), ",")
	sum := sha256.Sum256([]byte(list))
	cache := filepath.Join(root, ".cache", "programs")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cache, "debian-"+hex.EncodeToString(sum[:8])+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	t.Logf("installing Debian with %s: takes minutes", list)
	old, _ := filepath.Glob(filepath.Join(cache, "debian-*.tar"))
	for _, o := range old {
		_ = os.Remove(o)
	}
	args := []string{"--mode=root", "--variant=minbase", "--include=" + list, "bookworm", file + ".new.tar"}
	for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources"} {
		sources, _ := filepath.Glob(pattern)
		args = append(args, sources...)
	}
	if out, err := exec.CommandContext(t.Context(), "mmdebstrap", args...).CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	if err := os.Rename(file+".new.tar", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// task returns the folder that becomes /var/task: a folder for each program,
// with its own files and what its prepare.sh makes.
func task(t *testing.T, root string, programs map[string]program) string {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	run("cp", "examples/python/bootstrap.py", dir)
	for name := range programs {
		source := filepath.Join("e2e", "programs", name)
		run("cp", "-r", source, dir)
		if script := filepath.Join(source, "prepare.sh"); exists(filepath.Join(root, script)) {
			run("bash", "-eu", script, filepath.Join(dir, name))
		}
	}
	run("chmod", "-R", "a+rX", dir)
	return dir
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// push copies the image to the server's registry and returns its reference.
func push(t *testing.T, server *livetest.Server, creds livetest.Credentials, layout string) string {
	t.Helper()
	ref := server.Registry() + "/programs:latest"
	out, err := exec.CommandContext(t.Context(), "skopeo", "copy", "-q", "--dest-tls-verify=false",
		"--dest-creds", creds.AccessKey+":"+creds.Secret, "oci:"+layout+":programs", "docker://"+ref).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	return ref
}
