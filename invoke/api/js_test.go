package api_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/control/controltest"
)

// TestJavaScriptSDK needs the SDK that testdata/js/package-lock.json names, in
// .cache/js of the repository. Tests do not reach the internet by themselves.
func TestJavaScriptSDK(t *testing.T) {
	testkit.RequireTool(t, "node")
	installed, err := filepath.Abs("../../.cache/js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(installed, "node_modules/@aws-sdk/client-lambda")); err != nil {
		why := "needs the JavaScript SDK: mkdir -p .cache/js && cp invoke/api/testdata/js/package*.json .cache/js && npm ci --prefix .cache/js"
		if os.Getenv(testkit.StrictEnv) == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	s := newServer(t)
	s.images.Push(s.alice.ID, "127.0.0.1:5000/app:1", controltest.Image{Content: "one"})
	cmd := exec.CommandContext(t.Context(), "node", "testdata/js/life.mjs", s.url, "127.0.0.1:5000/app:1")
	cmd.Env = append(os.Environ(), "SDK_FROM="+installed, "AWS_ACCESS_KEY_ID="+s.alice.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+s.alice.Secret,
		"AWS_SESSION_TOKEN=", "NODE_NO_WARNINGS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
