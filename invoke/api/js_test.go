// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"os"
	"os/exec"
	"testing"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/control/controltest"
)

// TestJavaScriptSDK drives a function's life with AWS's SDK for JavaScript.
func TestJavaScriptSDK(t *testing.T) {
	installed := testkit.JavaScriptSDK(t)
	s := newServer(t)
	s.images.Push(s.alice.ID, "127.0.0.1:5000/app:1", controltest.Image{Content: "one"})
	cmd := exec.CommandContext(t.Context(), "node", "testdata/js/life.mjs", s.url, "127.0.0.1:5000/app:1")
	cmd.Env = append(os.Environ(), "SDK_FROM="+installed, "AWS_ACCESS_KEY_ID="+s.alice.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+s.alice.Secret,
		"AWS_SESSION_TOKEN=", "NODE_NO_WARNINGS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
