// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// pushLayers pushes an image of these layers as a tenant and returns its reference.
func (w *world) pushLayers(creds livetest.Credentials, repository string, layers ...testkit.Blob) string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "layout")
	testkit.WriteLayoutOf(w.t, dir, "latest", map[string]any{"Entrypoint": []string{"/p"}}, layers...)
	ref := w.Registry() + "/" + repository
	w.run("skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", creds.AccessKey+":"+creds.Secret, "oci:"+dir+":latest", "docker://"+ref)
	return ref
}

// begin creates a function and does not wait for its image.
func (w *world) begin(client *lambda.Client, name, ref string) {
	w.t.Helper()
	_, err := client.CreateFunction(w.t.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &ref}, Role: aws.String("arn:aws:iam::000000000000:role/test"),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// reason waits until a function is no longer pending, and returns its state and why.
func (w *world) reason(client *lambda.Client, name string) (types.State, string) {
	w.t.Helper()
	var got *lambda.GetFunctionConfigurationOutput
	w.waitFor(name+" is no longer pending", func() (settled bool) {
		var err error
		if got, err = client.GetFunctionConfiguration(w.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name}); err != nil {
			w.t.Fatal(err)
		}
		return got.State != types.StatePending
	})
	return got.State, aws.ToString(got.StateReason)
}

// attacker makes a tenant.
func (w *world) attacker() (livetest.Credentials, *lambda.Client) {
	w.t.Helper()
	creds, err := w.CreateTenant(w.t.Context(), "mallory")
	if err != nil {
		w.t.Fatal(err)
	}
	return creds, w.Lambda(creds)
}

// residentPeak is the most memory that the server ever had, in MiB.
func (w *world) residentPeak() int {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return kib >> 10
}

// TestPoisonedImages: images of a few MB that name gigabytes are refused with a
// reason, the server's own memory does not notice, and its other functions answer.
func TestPoisonedImages(t *testing.T) {
	w := newWorld(t)
	client := w.create(t.Context(), "victim", w.push("go-hello:1", "hello:1"))
	creds, attacker := w.attacker()
	for _, p := range []struct {
		kind    string
		entries int
	}{{"attributes", 16_000}, {"links", 150_000}} {
		layer := testkit.PoisonNamed(t, p.kind).Layer(t, p.entries)
		w.begin(attacker, p.kind, w.pushLayers(creds, "poison:"+p.kind, layer))
		state, why := w.reason(attacker, p.kind)
		if state != types.StateFailed || !strings.Contains(why, "MiB of memory") || !strings.Contains(why, layer.Digest) {
			t.Errorf("%s: %s: %s", p.kind, state, why)
		}
		t.Logf("%s, %d KB: %s; the server's peak is %d MiB", p.kind, len(layer.Data)>>10, why, w.residentPeak())
		if _, failed := invoke(t.Context(), t, client, "victim", `{}`); failed != "" {
			t.Errorf("the other function: %s", failed)
		}
	}
	if peak := w.residentPeak(); peak > 256 {
		t.Errorf("the server had %d MiB resident", peak)
	}
}

// TestRestartWithPoisonedPreparations: a server that was killed while it prepared
// twenty poisoned images serves its other functions at once after the next start,
// and new ones soon; the twenty fail, each with a reason.
func TestRestartWithPoisonedPreparations(t *testing.T) {
	w := newWorld(t)
	hello := w.push("go-hello:1", "hello:1")
	client := w.create(t.Context(), "victim", hello)
	creds, attacker := w.attacker()
	ref := w.pushLayers(creds, "poison:1", testkit.PoisonNamed(t, "attributes").Layer(t, 16_000))
	const functions = 20
	for i := range functions {
		w.begin(attacker, fmt.Sprint("poison-", i), ref)
	}
	if err := w.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resumed := strings.Count(w.Log.String(), "preparation resumed"); resumed < functions/2 {
		t.Errorf("only %d preparations were resumed", resumed)
	}
	if _, failed := invoke(t.Context(), t, client, "victim", `{}`); failed != "" {
		t.Errorf("the other function: %s", failed)
	}
	w.create(t.Context(), "another", hello)
	failed := 0
	for i := range functions {
		if state, _ := w.reason(attacker, fmt.Sprint("poison-", i)); state == types.StateFailed {
			failed++
		}
	}
	if failed != functions {
		t.Errorf("%d of %d failed", failed, functions)
	}
	if peak := w.residentPeak(); peak > 256 {
		t.Errorf("the server had %d MiB resident", peak)
	}
}

// silent is a registry that has one image, whose layer it begins to send and never
// ends. It tells of each beginning.
func silent(t *testing.T, begun func(), pause func(ctx context.Context)) (ref string) {
	t.Helper()
	dir := t.TempDir()
	layer := testkit.GzipLayer(t, testkit.NewTar(t).File("p", strings.Repeat("x", 1<<20)).Bytes())
	testkit.WriteLayoutOf(t, dir, "latest", map[string]any{"Entrypoint": []string{"/p"}}, layer)
	var index struct {
		Manifests []struct{ Digest string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(text, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, what, _ := strings.Cut(r.URL.Path, "/v2/")
		digest := what[strings.LastIndexByte(what, '/')+1:]
		if digest == "latest" {
			digest = index.Manifests[0].Digest
		}
		data, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:")))
		switch {
		case what == "":
		case err != nil:
			http.NotFound(rw, r)
		case digest == layer.Digest:
			begun()
			for i := range data {
				_, _ = rw.Write(data[i : i+1])
				rw.(http.Flusher).Flush()
				pause(r.Context())
				if r.Context().Err() != nil {
					return
				}
			}
		default:
			if strings.Contains(what, "/manifests/") {
				rw.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			}
			_, _ = rw.Write(data)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/app:latest"
}

// ingests are the processes of the server that make images now, or wait to.
func (w *world) ingests() []int {
	w.t.Helper()
	var pids []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", w.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // a thread may be gone
		for pid := range strings.FieldsSeq(string(text)) {
			if args, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline")); err == nil && strings.Contains(string(args), "\x00ingest\x00") {
				n, err := strconv.Atoi(pid)
				if err != nil {
					w.t.Fatal(err)
				}
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// TestIngestsAreKilled: whatever becomes of the processes that make images, the
// server lives, tells it, and gives up an image after three of them.
func TestIngestsAreKilled(t *testing.T) {
	var begun atomic.Int32
	ref := silent(t, func() { begun.Add(1) }, func(ctx context.Context) { <-ctx.Done() })
	host, _, _ := strings.Cut(ref, "/")
	w := newWorld(t, "--allow-registry", "http://"+host)
	client := w.create(t.Context(), "victim", w.push("go-hello:1", "hello:1"))
	w.begin(client, "killed", ref)
	for i := range int32(3) {
		w.waitFor("the next try", func() bool { return begun.Load() > i })
		w.waitFor("the process", func() bool { return len(w.ingests()) > 0 })
		for _, pid := range w.ingests() {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
			if err == nil && strings.TrimSpace(string(text)) != "300" {
				continue // the one that waits for the next image
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
	}
	state, why := w.reason(client, "killed")
	if state != types.StateFailed || !strings.Contains(why, "ended 3 times with its process") || begun.Load() != 3 {
		t.Errorf("after %d tries: %s: %s", begun.Load(), state, why)
	}
	if _, failed := invoke(t.Context(), t, client, "victim", `{}`); failed != "" {
		t.Errorf("the other function: %s", failed)
	}
	w.create(t.Context(), "next", w.Registry()+"/hello:1")
}

// TestSlowRegistries: as many registries as there are turns, which send a byte now
// and then, do not keep another tenant's image waiting.
func TestSlowRegistries(t *testing.T) {
	var begun atomic.Int32
	tick := make(chan struct{})
	ref := silent(t, func() { begun.Add(1) }, func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-tick:
		}
	})
	defer close(tick)
	host, _, _ := strings.Cut(ref, "/")
	w := newWorld(t, "--allow-registry", "http://"+host)
	_, attacker := w.attacker()
	for i := range 8 {
		w.begin(attacker, fmt.Sprint("slow-", i), ref)
	}
	w.waitFor("two of them", func() bool { return begun.Load() >= 2 })
	client := w.create(t.Context(), "victim", w.push("go-hello:1", "hello:1"))
	if _, failed := invoke(t.Context(), t, client, "victim", `{}`); failed != "" {
		t.Errorf("the function: %s", failed)
	}
	if n := begun.Load(); n != 2 {
		t.Errorf("%d images of one tenant are prepared at once", n)
	}
}
