// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// probeLayout makes an image of the probe, as /p, and files beside it.
func probeLayout(t *testing.T, config map[string]any, files map[string]string) string {
	t.Helper()
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "p")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", binary, "./bench/images/probe")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	probe, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	layer := testkit.NewTar(t).Add(tar.Header{Typeflag: tar.TypeReg, Name: "p", Mode: 0o755}, string(probe))
	for name, content := range files {
		layer.Add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, content)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	testkit.WriteLayoutOf(t, dir, "latest", config, testkit.GzipLayer(t, layer.Bytes()))
	return dir
}

// TestWhatAProgramIsTold: what images and settings say reaches the program, and
// what they lack its owner, through a whole server.
func TestWhatAProgramIsTold(t *testing.T) {
	w := newWorld(t)
	thaw := func(args ...string) (string, error) { return w.Thaw(t.Context(), args...) }
	large := slices.Repeat([]string{"LARGE=" + strings.Repeat("y", 1000)}, 200)
	image := probeLayout(t, map[string]any{"Entrypoint": []string{"/p"}, "Cmd": []string{"app.handler"},
		"Env": append(large, "TZ=America/New_York", "AWS_REGION=mars", "_HANDLER=mine")},
		map[string]string{"opt/extensions/agent": "#!/bin/sh\n"})
	if out, err := thaw("deploy", "env", image, "--env", "AWS_ACCESS_KEY_ID=key", "--env", "AWS_SESSION_TOKEN=token"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := w.Lambda(w.creds).UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("env"),
		LoggingConfig: &types.LoggingConfig{LogFormat: types.LogFormatJson, LogGroup: aws.String("/mine")}}); err != nil {
		t.Fatal(err)
	}
	out, err := thaw("invoke", "env", "-d", `{"environ":true}`)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var env []string
	if err := json.Unmarshal([]byte(out), &env); err != nil {
		t.Fatalf("%v: %.300s", err, out)
	}
	for _, want := range []string{"TZ=America/New_York", "AWS_REGION=us-east-1", "_HANDLER=app.handler", "AWS_EXECUTION_ENV=AWS_Lambda_Image",
		"AWS_ACCESS_KEY_ID=key", "AWS_SESSION_TOKEN=token", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=INFO",
		"AWS_LAMBDA_LOG_GROUP_NAME=/mine", large[0]} {
		if !slices.Contains(env, want) {
			t.Errorf("no %.60s in the environment", want)
		}
	}
	if out, err := thaw("logs", "env"); err != nil || !strings.Contains(out, "[thaw] extensions are not supported yet: /opt/extensions/{agent}") {
		t.Errorf("%v: %s", err, out)
	}

	crlf := probeLayout(t, map[string]any{"Entrypoint": []string{"/run.sh"}}, map[string]string{"run.sh": "#!/bin/sh\r\nexec /p\r\n"})
	if out, err := thaw("deploy", "crlf", crlf); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err = thaw("invoke", "crlf", "--tail")
	for _, want := range []string{`"errorType":"Runtime.InvalidEntrypoint"`, "fork/exec /run.sh: no such file or directory"} {
		if err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("no %q: %v, %s", want, err, out)
		}
	}
	if out, err := thaw("logs", "crlf"); err != nil || !strings.Contains(out, `asks for the interpreter "/bin/sh\r": its lines end as in Windows`) {
		t.Errorf("%v: %s", err, out)
	}

	long := probeLayout(t, map[string]any{"Entrypoint": []string{"/p", strings.Repeat("y", 140_000)}}, nil)
	if out, err := thaw("deploy", "long", long); err == nil || !strings.Contains(err.Error()+out, "InvalidImage") ||
		!strings.Contains(err.Error()+out, "argument 1 has 140000 bytes") {
		t.Errorf("%v: %s", err, out)
	}
}
