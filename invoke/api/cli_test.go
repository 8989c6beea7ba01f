// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/control/controltest"
	"thaw.dev/thaw/tenant"
)

// awsCLI is Debian's; another may come first on the PATH.
const awsCLI = "/usr/bin/aws"

// aws runs the AWS CLI against the server, as its user would.
func (s *server) aws(t *testing.T, account tenant.Account, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), awsCLI, append([]string{"--endpoint-url", s.url, "--output", "json"}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"HOME=" + cmd.Dir, "PATH=/usr/bin:/bin", "AWS_ACCESS_KEY_ID=" + account.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + account.Secret, "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "AWS_EC2_METADATA_DISABLED=true"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAWSCLI(t *testing.T) {
	testkit.RequireTool(t, awsCLI)
	s := newServer(t)
	must := func(args ...string) string {
		t.Helper()
		out, err := s.aws(t, s.alice, append([]string{"lambda"}, args...)...)
		if err != nil {
			t.Fatalf("aws lambda %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	fails := func(account tenant.Account, want string, args ...string) {
		t.Helper()
		out, err := s.aws(t, account, append([]string{"lambda"}, args...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("aws lambda %s: %v\n%s\nwant ...%s...", strings.Join(args, " "), err, out, want)
		}
	}
	release := s.images.Hold()
	digest := s.images.Push(s.alice.ID, "127.0.0.1:5000/app:1", controltest.Image{Content: "one"})
	created := must("create-function", "--function-name", "f", "--package-type", "Image", "--code", "ImageUri=127.0.0.1:5000/app:1",
		"--role", role, "--image-config", "Command=a,b", "--environment", "Variables={KEY=value}", "--memory-size", "256", "--tags", "k=v")
	if !strings.Contains(created, `"State": "Pending"`) || !strings.Contains(created, `"CodeSha256": "`+strings.TrimPrefix(digest, "sha256:")) {
		t.Errorf("created %s", created)
	}
	fails(s.alice, "ResourceConflictException", "invoke", "--function-name", "f", "out")
	release()
	must("wait", "function-active-v2", "--function-name", "f")
	must("wait", "function-updated-v2", "--function-name", "f")
	must("wait", "function-exists", "--function-name", "f")
	if got := must("get-function", "--function-name", "f"); !strings.Contains(got, `"ResolvedImageUri": "127.0.0.1:5000/app@`+digest) ||
		!strings.Contains(got, `"State": "Active"`) || !strings.Contains(got, `"KEY": "value"`) {
		t.Errorf("got %s", got)
	}

	file := filepath.Join(t.TempDir(), "out.json")
	invoked := must("invoke", "--function-name", "f", "--payload", `{"from":"the cli"}`, "--cli-binary-format", "raw-in-base64-out",
		"--log-type", "Tail", file)
	var result struct {
		StatusCode      int
		LogResult       string
		ExecutedVersion string
	}
	if err := json.Unmarshal([]byte(invoked), &result); err != nil || result.StatusCode != 200 || result.LogResult == "" || result.ExecutedVersion != "$LATEST" {
		t.Errorf("invoked: %s, %v", invoked, err)
	}
	if payload, err := os.ReadFile(file); err != nil || string(payload) != `{"from":"the cli"}` {
		t.Errorf("payload %s, %v", payload, err)
	}
	if dry := must("invoke", "--function-name", "f", "--invocation-type", "DryRun", file); !strings.Contains(dry, "204") {
		t.Errorf("dry run: %s", dry)
	}

	s.images.Push(s.alice.ID, "127.0.0.1:5000/app:2", controltest.Image{Content: "two"})
	if updated := must("update-function-code", "--function-name", "f", "--image-uri", "127.0.0.1:5000/app:2"); !strings.Contains(updated, `"LastUpdateStatus": "InProgress"`) {
		t.Errorf("updated: %s", updated)
	}
	must("wait", "function-updated-v2", "--function-name", "f")
	if configured := must("update-function-configuration", "--function-name", "f", "--timeout", "20"); !strings.Contains(configured, `"Timeout": 20`) {
		t.Errorf("configured: %s", configured)
	}
	arn := "arn:aws:lambda:us-east-1:" + string(s.alice.ID) + ":function:f"
	must("tag-resource", "--resource", arn, "--tags", "a=b")
	must("untag-resource", "--resource", arn, "--tag-keys", "k")
	if tags := must("list-tags", "--resource", arn); !strings.Contains(tags, `"a": "b"`) || strings.Contains(tags, `"k"`) {
		t.Errorf("tags: %s", tags)
	}
	if list := must("list-functions"); strings.Count(list, `"FunctionName"`) != 1 {
		t.Errorf("list: %s", list)
	}
	must("get-account-settings")
	fails(s.bob, "ResourceNotFoundException", "get-function", "--function-name", arn)
	fails(tenant.Account{AccessKeyID: s.alice.AccessKeyID, Secret: "wrong"}, "InvalidSignatureException", "list-functions")
	fails(s.alice, "ValidationException", "update-function-configuration", "--function-name", "f", "--timeout", "1000")
	must("delete-function", "--function-name", arn)
	fails(s.alice, "ResourceNotFoundException", "get-function-configuration", "--function-name", "f")
}

// TestCurl invokes with curl's own signatures.
func TestCurl(t *testing.T) {
	testkit.RequireTool(t, "curl")
	s := newServer(t)
	s.ready(t, "f")
	for _, header := range []string{"Content-Type: application/json", "X-Amz-Log-Type: Tail"} {
		cmd := exec.CommandContext(t.Context(), "curl", "-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:lambda",
			"--user", s.alice.AccessKeyID+":"+s.alice.Secret, "-H", header, "--data", `{"from":"curl"}`, s.url+functions+"/f/invocations")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != `{"from":"curl"}` {
			t.Errorf("%s: %s, %v", header, out, err)
		}
	}
}
