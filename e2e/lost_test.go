// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"thaw.dev/thaw/internal/testkit"
)

// hostMarker is in the name of data folders: no tenant may ever read it.
const hostMarker = "host-path-hostMarker"

// readyURL is where the log says that the server tells whether it is ready.
var readyURL = regexp.MustCompile(`ready=(http://\S+/readyz)`)

// mustFail invokes a function that can't start, and wants the host's fault.
func (w *world) mustFail(client *lambda.Client, name, when string) {
	w.t.Helper()
	out, err := client.Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)},
		func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	var answer *smithyhttp.ResponseError
	if err == nil || !errors.As(err, &answer) || answer.HTTPStatusCode() < 500 || strings.Contains(err.Error(), hostMarker) {
		w.t.Errorf("%s: %+v, %v", when, out, err)
		return
	}
	id := answer.Response.Header.Get("X-Amzn-RequestId")
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(w.Log.String(), id) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // the log comes by a pipe
	}
	if id == "" || !strings.Contains(w.Log.String(), id) {
		w.t.Errorf("%s: the log does not name request %q", when, id)
	}
}

// ready is the status of /readyz, and its reasons.
func (w *world) ready() (int, string) {
	w.t.Helper()
	return w.get(readyURL.FindStringSubmatch(w.Log.String())[1])
}

// TestWhatTheHostLost is told as the host's fault, by its readiness too, and heals
// when it is back.
func TestWhatTheHostLost(t *testing.T) {
	data := filepath.Join(t.TempDir(), hostMarker)
	w := newWorldAt(t, data, withAdmin...)
	client := w.create(t.Context(), "hello", w.push("go-hello:1", "hello:v1"))
	for _, part := range []string{"origin/objects", "keys", "origin"} {
		if status, reasons := w.ready(); status != 200 {
			t.Errorf("before %s is lost: %d %s", part, status, reasons)
		}
		path := filepath.Join(data, part)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		w.mustFail(client, "hello", "without "+part)
		if status, reasons := w.ready(); status != 503 {
			t.Errorf("without %s: %d %s", part, status, reasons)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	if got, failed := invoke(t.Context(), t, client, "hello", `{"name":"you"}`); failed != "" || !strings.Contains(got, "hello you") {
		t.Errorf("afterwards: %s %s", failed, got)
	}
}

// TestAFullDisk: invocations go on, warm and cold; what must be written is refused
// as the host's fault, and works when there is room again.
func TestAFullDisk(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	disk, image := filepath.Join(dir, "disk"), filepath.Join(dir, "image")
	if err := errors.Join(os.Mkdir(disk, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 200<<20)); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, disk}} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	w := newWorldAt(t, filepath.Join(disk, hostMarker), withAdmin...)
	ctx := t.Context()
	client := w.create(ctx, "warm", w.push("go-hello:1", "warm:v1"))
	w.create(ctx, "cold", w.push("go-hello:2", "cold:v1"))
	greeted := func(name, when string) {
		t.Helper()
		if got, failed := invoke(ctx, t, client, name, `{"name":"you"}`); failed != "" || !strings.Contains(got, "hello you") {
			t.Errorf("%s, %s: %s %s", name, when, failed, got)
		}
	}
	greeted("warm", "before")
	fill := filepath.Join(disk, "fill")
	if out, err := exec.CommandContext(ctx, "dd", "if=/dev/zero", "of="+fill, "bs=1M", "oflag=sync").CombinedOutput(); err == nil {
		t.Fatalf("the disk did not fill: %s", out)
	}
	greeted("warm", "on a full disk")
	greeted("cold", "on a full disk")
	if status, reasons := w.ready(); status != 503 || !strings.Contains(reasons, "disk") {
		t.Errorf("on a full disk: %d %s", status, reasons)
	}
	layout, err := images("probe:1")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.Thaw(ctx, "deploy", "new", layout+":probe:1")
	if err == nil || strings.Contains(err.Error(), hostMarker) || !strings.Contains(strings.ToUpper(err.Error()), "UNAVAILABLE") {
		t.Errorf("deploying on a full disk: %v: %s", err, out)
	}
	for i := range 3 { // of which the database meets one
		text := strings.Repeat(fmt.Sprint(i), 250)
		_, err := client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("warm"), Description: &text},
			func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
		var answer *smithyhttp.ResponseError
		if errors.As(err, &answer) && answer.HTTPStatusCode() < 500 || err != nil && strings.Contains(err.Error(), hostMarker) {
			t.Errorf("a change on a full disk: %v", err)
		}
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "the server to be ready", func() bool { status, _ := w.ready(); return status == 200 })
	if out, err := w.Thaw(ctx, "deploy", "new", layout+":probe:1"); err != nil {
		t.Errorf("with room again: %v: %s", err, out)
	}
	greeted("cold", "afterwards")
}
