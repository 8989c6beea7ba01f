// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/testkit"
)

// tailed invokes a function and returns its payload and its log's tail.
func (w *world) tailed(client *lambda.Client, name, payload string) (answer, tail string) {
	w.t.Helper()
	out, err := client.Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload), LogType: types.LogTypeTail})
	if err != nil {
		w.t.Fatal(err)
	}
	if out.FunctionError != nil {
		w.t.Errorf("%s %s: %s", name, payload, out.Payload)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out.Payload), string(text)
}

var usedMemory = regexp.MustCompile(`Max Memory Used: ([0-9]+) MB`)

// TestTmpIsDisk: a function of 128 MB fills the 512 MB of its /tmp, finds them
// in its next invocation after a freeze, and its REPORT shows none of it.
func TestTmpIsDisk(t *testing.T) {
	for _, kind := range []string{"jail", "oci"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "oci" {
				testkit.RequireTool(t, "crun")
			}
			w := newWorld(t, "--sandbox", kind)
			client := w.create(t.Context(), "small", w.push("probe:1", "probe:v1"), func(in *lambda.CreateFunctionInput) {
				in.MemorySize, in.Timeout = aws.Int32(128), aws.Int32(120)
			})
			for _, step := range []struct{ payload, want string }{
				{`{"fill":"/tmp/a","fillMB":300}`, `{"mb":300,"error":""}`},
				{`{"size":"/tmp/a"}`, strconv.Itoa(300 << 20)},
				{`{"fill":"/tmp/b","fillMB":300}`, `{"mb":212,"error":"write /tmp/b: no space left on device"}`},
				{`{"size":"/tmp/a"}`, strconv.Itoa(300 << 20)},
			} {
				got, tail := w.tailed(client, "small", step.payload)
				if got != step.want {
					t.Errorf("%s: %s, want %s", step.payload, got, step.want)
				}
				m := usedMemory.FindStringSubmatch(tail)
				if m == nil {
					t.Fatalf("%s", tail)
				}
				if used, err := strconv.Atoi(m[1]); err != nil || used > 40 {
					t.Errorf("%s: %s", step.payload, m[0])
				}
				time.Sleep(200 * time.Millisecond) // until it is frozen
			}
		})
	}
}

// TestLargestTmp: 10,240 MB of /tmp are to be had, and hold more than the
// default; where the disk has not so much the answer says so, and not what it has.
func TestLargestTmp(t *testing.T) {
	w := newWorld(t, append(withAdmin, "--tmp-disk", "20000")...)
	large := func(in *lambda.CreateFunctionInput) {
		in.EphemeralStorage, in.Timeout = &types.EphemeralStorage{Size: aws.Int32(10240)}, aws.Int32(120)
	}
	ref := w.push("probe:1", "probe:v1")
	client := w.create(t.Context(), "large", ref, large)
	if got, _ := w.tailed(client, "large", `{"fill":"/tmp/a","fillMB":600}`); got != `{"mb":600,"error":""}` {
		t.Error(got)
	}
	if metrics := w.metrics(); !strings.Contains(metrics, "\nthaw_tmp_bound_bytes 2.097152e+10\n") {
		t.Errorf("metrics: %s", metrics)
	}

	w = newWorld(t, "--tmp-disk", "5000")
	client = w.create(t.Context(), "large", w.push("probe:1", "probe:v1"), large)
	_, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("large")}, func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	if err == nil || !strings.Contains(err.Error(), "10240 MB of /tmp (EphemeralStorage), for which the worker's disk has no room now") {
		t.Errorf("10 GB of 5: %v", err)
	}
	var response interface{ HTTPStatusCode() int }
	if !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusServiceUnavailable {
		t.Errorf("10 GB of 5: %v", err)
	}
}

// withAdmin are the flags of a server with an admin listener.
var withAdmin = []string{"--admin-listen", "127.0.0.1:0"}

// metrics scrapes a server that has an admin listener.
func (w *world) metrics() string {
	w.t.Helper()
	until(w.t.Context(), w.t, "the admin listener", func() bool { return adminAddress.MatchString(w.Log.String()) })
	_, text := w.get("http://" + adminAddress.FindStringSubmatch(w.Log.String())[1] + "/metrics")
	return text
}

// get asks a server's admin listener, and returns the status and the body.
func (w *world) get(url string) (int, string) {
	w.t.Helper()
	response, err := http.Get(url) //nolint:noctx // a test's own server
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestFullDisk: with not a byte free on the disk of the data folder functions
// start and answer, get ENOSPC in /tmp, and are told so in one line of their log
// and of the server's. With room again the same sandbox writes.
func TestFullDisk(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "mkfs.ext4", "mount", "umount")
	dir := t.TempDir()
	disk, image := filepath.Join(dir, "disk"), filepath.Join(dir, "image")
	if err := errors.Join(os.Mkdir(disk, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, disk}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	w := newWorldAt(t, filepath.Join(disk, "data"), withAdmin...)
	ref := w.push("probe:1", "probe:v1")
	var client *lambda.Client
	for _, name := range []string{"one", "two", "three"} {
		client = w.create(t.Context(), name, ref)
	}
	filler := filepath.Join(disk, "filler")
	fillUp(t, filler)
	for _, name := range []string{"one", "two", "three"} {
		got, tail := w.tailed(client, name, `{"fill":"/tmp/a","fillMB":5}`)
		if got != `{"mb":0,"error":"write /tmp/a: no space left on device"}` {
			t.Errorf("%s: %s", name, got)
		}
		if strings.Count(tail, "[thaw] /tmp takes no files now (ENOSPC): the worker's disk is full\n") != 1 {
			t.Errorf("%s: its log is %s", name, tail)
		}
	}
	if n := strings.Count(w.Log.String(), "the disk for /tmp is full"); n != 1 {
		t.Errorf("the server's log has %d lines of it", n)
	}
	if !strings.Contains(w.metrics(), "\nthaw_tmp_full 1\n") {
		t.Error("the metric does not tell")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	got := ""
	for end := time.Now().Add(waitBound); got != `{"mb":5,"error":""}` && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		got, _ = w.tailed(client, "one", `{"fill":"/tmp/a","fillMB":5}`)
	}
	if got != `{"mb":5,"error":""}` {
		t.Errorf("with room again: %s", got)
	}
}

// fillUp writes a file until its file system has no byte left.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, block := range []int{1 << 20, 4096} {
		for range 1 << 20 {
			if _, err = f.Write(make([]byte, block)); err != nil {
				break
			}
		}
		if err == nil {
			t.Fatal("it does not fill up")
		}
	}
	time.Sleep(time.Second) // the server looks four times a second
}

// TestKillLeavesNoTmp: of a server that is killed while a function has much in
// its /tmp, neither the bytes stay nor a device.
func TestKillLeavesNoTmp(t *testing.T) {
	for _, kind := range []string{"jail", "oci"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "oci" {
				testkit.RequireTool(t, "crun")
			}
			w := newWorld(t, "--sandbox", kind)
			client := w.create(t.Context(), "full", w.push("probe:1", "probe:v1"))
			if got, _ := w.tailed(client, "full", `{"fill":"/tmp/a","fillMB":100}`); got != `{"mb":100,"error":""}` {
				t.Error(got)
			}
			if len(loopDevices(t, w.Data)) == 0 {
				t.Error("no device was ever seen: the test looks in the wrong place")
			}
			if err := w.Kill(); err != nil {
				t.Fatal(err)
			}
			// A container outlives its server until the next one.
			if err := w.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.Stop(); err != nil {
				t.Error(err)
			}
			for end := time.Now().Add(waitBound); len(loopDevices(t, w.Data)) > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("left: %v", loopDevices(t, w.Data))
				}
			}
			if names, err := os.ReadDir(filepath.Join(w.Data, "run", "tmp")); err != nil || len(names) > 0 {
				t.Errorf("left: %v, %v", names, err)
			}
			if err := w.Run(t.Context()); err != nil { // for the world's own end
				t.Fatal(err)
			}
		})
	}
}
