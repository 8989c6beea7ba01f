// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/logs"
)

func itoa(n int) string { return strconv.Itoa(n) }

// handlerBinary builds testdata/handler once for all tests.
var handlerBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "thaw-worker-test-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "handler")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", binary, "./testdata/handler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it must run in an empty root
	out, err := build.CombinedOutput()
	if err != nil {
		return "", thaw.Errorf("build handler", thaw.Internal, "%v: %s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := handlerBinary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

// world is a worker with all around it.
type world struct {
	*Worker
	t        testing.TB
	launcher *launcher
	logs     *logs.Store
	attached atomic.Int32
	started  atomic.Int32
	released atomic.Int32

	mu  sync.Mutex
	err error // what Attach returns
	obs []Observation
}

func (w *world) Attach(context.Context, Start) (Root, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return Root{}, w.err
	}
	w.attached.Add(1)
	return Root{Dir: "/", Started: func() { w.started.Add(1) }, Release: func() { w.released.Add(1) }}, nil
}

// newWorld opens a worker that is closed, and checked for leaks, at the end.
func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	before := runtime.NumGoroutine()
	store, err := logs.Open(t.TempDir(), logs.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, launcher: &launcher{t: t}, logs: store}
	cfg := Default()
	cfg.Launcher, cfg.Rootfs, cfg.Logs = w.launcher, w, store
	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	cfg.Observe = func(o Observation) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.obs = append(w.obs, o)
	}
	if change != nil {
		change(&cfg)
	}
	if w.Worker, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
		if s := w.Stats(); s != (Stats{}) {
			t.Errorf("after Close: %+v", s)
		}
		if w.attached.Load() != w.released.Load() {
			t.Errorf("%d roots attached, %d released", w.attached.Load(), w.released.Load())
		}
		if w.launcher.alive != 0 {
			t.Errorf("%d sandboxes left", w.launcher.alive)
		}
		for range 300 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after: %s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
	})
	return w
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// goFunction is a function of the real Go client.
func goFunction(t testing.TB) Function {
	t.Helper()
	binary, err := handlerBinary()
	if err != nil {
		t.Fatal(err)
	}
	return Function{
		Tenant:     "123456789012",
		Name:       "fn",
		ARN:        "arn:aws:lambda:us-east-1:123456789012:function:fn",
		Version:    "$LATEST",
		Revision:   "1",
		Entrypoint: []string{binary},
		ImageEnv:   []string{"PATH=" + os.Getenv("PATH"), "FROM=image", "BOTH=image"},
		Env:        map[string]string{"BOTH": "function"},
		MemoryMB:   128,
		Timeout:    20 * time.Second,
	}
}

// scriptFunction is a function of a runtime client in testdata.
func scriptFunction(t testing.TB, interpreter, script string) Function {
	t.Helper()
	testkit.RequireTool(t, interpreter)
	path, err := filepath.Abs(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	f := goFunction(t)
	f.Entrypoint, f.Command = []string{interpreter}, []string{path}
	if f.Entrypoint[0], err = exec.LookPath(interpreter); err != nil {
		t.Fatal(err)
	}
	return f
}

// ask is what testdata's handlers understand.
type ask struct {
	Do     string `json:",omitempty"`
	Text   string `json:",omitempty"`
	Bytes  int    `json:",omitempty"`
	Millis int    `json:",omitempty"`
	Code   int    `json:",omitempty"`
}

// told is what they answer, and Lambda's form of an error.
type told struct {
	Pid          int
	Text         string
	RequestID    string
	ARN          string
	Client       map[string]string
	LeftMillis   int64
	TraceID      string
	Environment  []string
	ErrorMessage string `json:"errorMessage"`
	ErrorType    string `json:"errorType"`
}

func (a ask) payload(t testing.TB) []byte {
	t.Helper()
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// do invokes with the log's tail and must get a result.
func (w *world) do(f Function, a ask) (*Result, told) {
	w.t.Helper()
	res, err := w.Invoke(context.Background(), f, Request{Payload: a.payload(w.t), LogTail: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var out told
	if err := json.Unmarshal(res.Payload, &out); err != nil && a.Do != "big" {
		w.t.Fatalf("%v: %q", err, res.Payload)
	}
	return res, out
}

// show is a result as a person reads it.
func show(r *Result) string {
	return fmt.Sprintf("cold %v, %s %s\n%+v\npayload %.500s\nlog:\n%s", r.ColdStart, r.FunctionError, r.ErrorType, r.Timings, r.Payload, r.LogTail)
}

// expectLog compares a log with a pattern for each line.
func expectLog(t testing.TB, res *Result, lines ...string) {
	t.Helper()
	got := strings.Split(strings.TrimSuffix(string(res.LogTail), "\n"), "\n")
	for i := range max(len(got), len(lines)) {
		if i >= len(got) || i >= len(lines) || !regexp.MustCompile("^"+lines[i]+"$").MatchString(got[i]) {
			t.Fatalf("line %d of\n%s\nwant\n%s", i+1, strings.Join(got, "\n"), strings.Join(lines, "\n"))
		}
	}
}

// The lines of Lambda's logs; ID stands for the request's id.
const (
	id        = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
	logStart  = `START RequestId: ` + id + ` Version: \$LATEST`
	logEnd    = `END RequestId: ` + id
	logReport = `REPORT RequestId: ` + id + `\tDuration: [0-9]+\.[0-9]{2} ms\tBilled Duration: [0-9]+ ms\tMemory Size: 128 MB\tMax Memory Used: 31 MB\t`
	logInit   = `Init Duration: [0-9]+\.[0-9]{2} ms\t`
)

// until waits for a condition that something else brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}
