package worker

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw"
)

const logInitReport = `INIT_REPORT Init Duration: [0-9]+\.[0-9]{2} ms\tPhase: `

func TestInitExits(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	f.Env = map[string]string{"INIT_EXIT": "2"}
	res, out := w.do(f, ask{})
	if !res.ColdStart || res.ErrorType != "Runtime.ExitError" ||
		out.ErrorMessage != "RequestId: "+res.RequestID+" Error: Runtime exited with error: exit status 2" {
		t.Fatalf("%s", show(res))
	}
	const status = "\tStatus: error\tError Type: Runtime.ExitError"
	expectLog(t, res, "init", "init fails", logInitReport+"init"+status, "init", "init fails", logInitReport+"invoke"+status,
		logStart, "RequestId: "+id+" Error: Runtime exited with error: exit status 2", "Runtime.ExitError", logEnd,
		logReport+"Status: error\tError Type: Runtime.ExitError")
	if w.attached.Load() != 1 || w.started.Load() != 0 {
		t.Fatalf("attached %d, started %d", w.attached.Load(), w.started.Load())
	}
}

func TestInitErrorIsReported(t *testing.T) {
	w := newWorld(t, nil)
	f := scriptFunction(t, "python3", "runtime.py")
	f.Env = map[string]string{"INIT_ERROR": "1"}
	res, out := w.do(f, ask{})
	if res.FunctionError != "Unhandled" || out.ErrorType != "Runtime.ImportModuleError" || out.ErrorMessage != "No module named 'x'" {
		t.Fatalf("%s", show(res))
	}
	const status = "\tStatus: error\tError Type: Runtime.ImportModuleError"
	expectLog(t, res, "import fails", logInitReport+"init"+status, "import fails", logInitReport+"invoke"+status,
		logStart, logEnd, logReport+"Status: error\tError Type: Runtime.ImportModuleError")
}

// TestInitTimesOutThenSucceeds: the second try has the function's timeout, and
// the invocation what is left of it.
func TestInitTimesOutThenSucceeds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.InitTimeout = 500 * time.Millisecond })
	f := goFunction(t)
	f.Env = map[string]string{"INIT_SLOW_ONCE": filepath.Join(t.TempDir(), "mark")}
	res, out := w.do(f, ask{Text: "late"})
	if res.FunctionError != "" || out.Text != "late" || res.Timings.Init < 500*time.Millisecond {
		t.Fatalf("%s", show(res))
	}
	expectLog(t, res, "init", logInitReport+"init\tStatus: timeout", "init", logStart, logEnd, logReport)
	if res, _ := w.do(f, ask{}); res.ColdStart {
		t.Fatal("the sandbox of the second try was not kept")
	}
}

func TestInitTimesOutTwice(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.InitTimeout = 400 * time.Millisecond })
	f := goFunction(t)
	f.Timeout = 300 * time.Millisecond
	f.Env = map[string]string{"INIT_SLOW": "1"}
	res, out := w.do(f, ask{})
	if out.ErrorType != "Sandbox.Timedout" || !strings.HasSuffix(out.ErrorMessage, "Task timed out after 0.30 seconds") {
		t.Fatalf("%s", show(res))
	}
	if log := string(res.LogTail); !strings.Contains(log, "Phase: init\tStatus: timeout\n") ||
		!strings.Contains(log, "Phase: invoke\tStatus: timeout\n") || !strings.HasSuffix(log, "\tStatus: timeout\n") {
		t.Fatalf("%s", log)
	}
	if w.launcher.alive != 0 {
		t.Fatal("a sandbox runs after the timeout")
	}
}

// TestLaunchErrors: what is no error of the host is the function's, and tried
// twice like any init.
func TestLaunchErrors(t *testing.T) {
	for name, row := range map[string]struct {
		change       func(*Function)
		typ, message string
		line         string
	}{
		"missing": {func(f *Function) { f.Entrypoint = []string{"/no/such"}; f.Command = []string{"a", "b"} },
			"Runtime.InvalidEntrypoint", `exec: "/no/such": no such file or directory`,
			`IMAGE\tLaunch error: exec: "/no/such": no such file or directory\tEntrypoint: \[/no/such\]\tCmd: \[a,b\]\tWorkingDir: \[/\]`},
		"not executable": {func(f *Function) { f.Entrypoint = []string{"/etc/passwd"} },
			"Runtime.InvalidEntrypoint", `fork/exec /etc/passwd: permission denied`,
			`IMAGE\tLaunch error: fork/exec /etc/passwd: permission denied\tEntrypoint: \[/etc/passwd\]\tCmd: \[\]\tWorkingDir: \[/\]`},
		"working directory": {func(f *Function) { f.WorkingDir = "/no/dir" },
			"Runtime.InvalidWorkingDir", `chdir /no/dir: no such file or directory`,
			`IMAGE\tLaunch error: chdir /no/dir: no such file or directory\tEntrypoint: \[.*/handler\]\tCmd: \[\]\tWorkingDir: \[/no/dir\]`},
		"no command": {func(f *Function) { f.ImageEntrypoint = nil },
			"Runtime.InvalidEntrypoint", `neither the image nor the function names a command`,
			`IMAGE\tLaunch error: neither the image nor the function names a command\tEntrypoint: \[\]\tCmd: \[\]\tWorkingDir: \[/\]`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			f := goFunction(t)
			row.change(&f)
			res, out := w.do(f, ask{})
			if res.FunctionError != "Unhandled" || out.ErrorType != row.typ ||
				out.ErrorMessage != "RequestId: "+res.RequestID+" Error: "+row.message {
				t.Fatalf("%s", show(res))
			}
			status := "Status: error\tError Type: " + row.typ
			report := strings.Replace(logReport, "Used: 31", "Used: [0-9]+", 1)
			expectLog(t, res, row.line, logInitReport+"init\t"+status, row.line, logInitReport+"invoke\t"+status, logStart,
				"RequestId: "+id+" Error: "+row.message, row.typ, logEnd, report+status)
		})
	}
}

// TestHostTrouble: what fails on the host is an error, not the function's, and
// leaves nothing behind.
func TestHostTrouble(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	w.launcher.err = thaw.Errorf("launcher", thaw.Unavailable, "no jail")
	if _, err := w.Invoke(t.Context(), f, Request{}); thaw.KindOf(err) != thaw.Unavailable || !errors.Is(err, w.launcher.err) {
		t.Fatal(err)
	}
	w.launcher.err = nil
	w.err = thaw.Errorf("rootfs", thaw.Corrupt, "no image")
	if _, err := w.Invoke(t.Context(), f, Request{}); thaw.KindOf(err) != thaw.Corrupt {
		t.Fatal(err)
	}
	w.err = nil
	until(t, "the slots are free again", func() bool { return w.Stats() == (Stats{}) })
	if res, _ := w.do(f, ask{}); !res.ColdStart {
		t.Fatal("not cold")
	}
}

// TestSpec: what a sandbox is given.
func TestSpec(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	f.TmpMB, f.WritableRoot = 600, true
	w.do(f, ask{})
	spec := w.launcher.specs[0]
	if spec.Root != "/" || spec.Dir != "/" || spec.MemoryBytes != 128<<20 || spec.TmpBytes != 600<<20 || !spec.WritableRoot ||
		!spec.BoostInit || spec.CPUs < 0.072 || spec.CPUs > 0.073 || spec.Stdout != spec.Stderr {
		t.Fatalf("%+v", spec)
	}
	if calls := w.launcher.noted(); !strings.HasPrefix(calls, "start endboost") {
		t.Fatal(calls)
	}
}
