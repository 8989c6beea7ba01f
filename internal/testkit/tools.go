// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Crane is go-containerregistry's command, for [GoTool].
const Crane = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"

// ORAS is the command that pushes artifacts that are no images, for [GoTool].
const ORAS = "oras.land/oras/cmd/oras@v1.3.6"

// GoTool returns the path of a command of a Go module, PACKAGE@VERSION. It is
// built once, into the repository's .cache.
func GoTool(t testing.TB, module string) string {
	t.Helper()
	dir := filepath.Join(root(t), ".cache", "bin", path.Base(module))
	name, _, _ := strings.Cut(path.Base(module), "@")
	tool := filepath.Join(dir, name)
	if _, err := os.Stat(tool); err == nil {
		return tool
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", module)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", module, err, out)
	}
	return tool
}

// JavaScriptSDK returns the folder that AWS's SDK for JavaScript is installed
// in, in the version that invoke/api/testdata/js names. Tests do not install it.
func JavaScriptSDK(t testing.TB) string {
	t.Helper()
	RequireTool(t, "node")
	dir := filepath.Join(root(t), ".cache", "js")
	if _, err := os.Stat(filepath.Join(dir, "node_modules/@aws-sdk/client-lambda")); err != nil {
		missing(t, "needs the JavaScript SDK: mkdir -p .cache/js && cp invoke/api/testdata/js/package*.json .cache/js && npm ci --prefix .cache/js")
	}
	return dir
}

// root is the folder of the repository.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("not inside the repository")
	return ""
}
