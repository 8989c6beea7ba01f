// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"regexp"
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

// TestSlowInitHoldsNoStart: a second try, which may take as long as the function's
// timeout, leaves its start to others once it takes longer than an init may.
func TestSlowInitHoldsNoStart(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.InitTimeout, c.MaxStarts, c.QueueWait = 300*time.Millisecond, 1, time.Minute })
	slow := goFunction(t)
	slow.Name, slow.Timeout = "slow", time.Hour
	slow.Env = map[string]string{"INIT_SLOW": "1"}
	ended := make(chan error, 1)
	go func() {
		_, err := w.Invoke(context.Background(), slow, Request{})
		ended <- err
	}()
	until(t, "it starts", func() bool { return w.Stats().Starting == 1 })
	if res, _ := w.do(goFunction(t), ask{}); !res.ColdStart {
		t.Fatal("not cold")
	}
	select {
	case err := <-ended:
		t.Fatalf("the slow one ended: %v", err)
	default:
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(gone); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; thaw.KindOf(err) != thaw.Unavailable {
		t.Fatal(err)
	}
}

// TestLaunchErrors: what is no error of the host is the function's, and tried
// twice like any init.
func TestLaunchErrors(t *testing.T) {
	for name, row := range map[string]struct {
		change       func(*Function)
		typ, message string
		line, hint   string
	}{
		"missing": {func(f *Function) { f.Entrypoint = []string{"/no/such"}; f.Command = []string{"a", "b"} },
			"Runtime.InvalidEntrypoint", `fork/exec /no/such: no such file or directory`,
			`\tEntrypoint: \[/no/such\]\tCmd: \[a,b\]\tWorkingDir: \[/\]`, "the image has no /no/such"},
		"missing on PATH": {func(f *Function) { f.Entrypoint = []string{"no-such"} },
			"Runtime.InvalidEntrypoint", `exec: "no-such": executable file not found in $PATH`,
			`\tEntrypoint: \[no-such\]\tCmd: \[\]\tWorkingDir: \[/\]`, "the image has no no-such"},
		"not executable": {func(f *Function) { f.Entrypoint = []string{"/etc/passwd"} },
			"Runtime.InvalidEntrypoint", `fork/exec /etc/passwd: permission denied`,
			`\tEntrypoint: \[/etc/passwd\]\tCmd: \[\]\tWorkingDir: \[/\]`, ""},
		"working directory": {func(f *Function) { f.WorkingDir = "/no/dir" },
			"Runtime.InvalidWorkingDir", `the working directory doesn't exist: /no/dir`,
			`\tEntrypoint: \[.*/handler\]\tCmd: \[\]\tWorkingDir: \[/no/dir\]`, ""},
		"relative directory": {func(f *Function) { f.WorkingDir = "app" },
			"Runtime.InvalidWorkingDir", `the working directory 'app' is invalid, it needs to be an absolute path`,
			`\tEntrypoint: \[.*/handler\]\tCmd: \[\]\tWorkingDir: \[app\]`, ""},
		"no command": {func(f *Function) { f.Entrypoint = nil },
			"Runtime.InvalidEntrypoint", `neither the image nor the function names a command`,
			`\tEntrypoint: \[\]\tCmd: \[\]\tWorkingDir: \[/\]`, ""},
		"empty command": {func(f *Function) { f.Entrypoint = []string{""} },
			"Runtime.InvalidEntrypoint", `exec: the first word of the command is empty`,
			`\tEntrypoint: \[\]\tCmd: \[\]\tWorkingDir: \[/\]`, ""},
		"long argument": {func(f *Function) { f.Entrypoint = []string{"/p"}; f.Command = []string{strings.Repeat("x", 200_000)} },
			"Runtime.InvalidEntrypoint", `fork/exec /p: argument 1 has 200000 bytes; a program can be given 131071 in one`,
			`\tEntrypoint: \[/p\]\tCmd: \[x+\]\tWorkingDir: \[/\]`, ""},
		"NUL": {func(f *Function) { f.Entrypoint = []string{"/p"}; f.ImageEnv = append(f.ImageEnv, "A=\x00") },
			"Runtime.InvalidEntrypoint", `fork/exec /p: the environment variable "A" contains a NUL character`,
			`\tEntrypoint: \[/p\]\tCmd: \[\]\tWorkingDir: \[/\]`, ""},
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
			message := regexp.QuoteMeta(row.message)
			line := `IMAGE\tLaunch error: ` + message + row.line
			lines := []string{line, logInitReport + "init\t" + status, line, logInitReport + "invoke\t" + status, logStart,
				"RequestId: " + id + " Error: " + message, row.typ}
			if row.hint != "" {
				lines = append(lines, `\[thaw\] `+row.hint)
			}
			if name == "long argument" { // the tail has the end of it
				lines, res.LogTail = lines[len(lines)-2:], res.LogTail[bytes.LastIndex(res.LogTail, []byte("RequestId: "+res.RequestID+" Error")):]
			}
			expectLog(t, res, append(lines, logEnd, report+status)...)
		})
	}
}

// TestSilentPrograms: whoever never asks the Runtime API is told so, once, with
// the remedy; who fails by itself or has asked is not.
func TestSilentPrograms(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		env  map[string]string
		want string // "" for none
	}{
		"ends":         {[]string{"/bin/true"}, nil, "the program ended before it asked the Runtime API for an event. A function's program is a loop"},
		"waits":        {[]string{"/bin/sleep", "60"}, nil, "the program made no request to the Runtime API in the 0.40 s since its start. A function's program"},
		"fails":        {[]string{"/bin/false"}, nil, ""},
		"is killed":    {[]string{"/bin/sh", "-c", "kill -9 $$"}, nil, ""},
		"is not there": {[]string{"/no/such"}, nil, ""},
		"asks another thing": {[]string{"python3", "-c", "import os, time, urllib.request as u\n" +
			"u.urlopen('http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/ping')\ntime.sleep(60)"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.InitTimeout = 400 * time.Millisecond })
			f := goFunction(t)
			f.Entrypoint, f.Env, f.Timeout = row.args, row.env, 400*time.Millisecond
			if name == "asks another thing" {
				f.Timeout = 5 * time.Second // python starts
			}
			res, _ := w.do(f, ask{})
			said := strings.Count(string(res.LogTail), "[thaw] ")
			if row.want == "" && strings.Contains(string(res.LogTail), "Runtime API") || row.want != "" && (said != 1 || !strings.Contains(string(res.LogTail), "[thaw] "+row.want)) {
				t.Fatalf("%s", show(res))
			}
		})
	}
}

// TestExtensionsAreTold: at each start, and not in each invocation.
func TestExtensionsAreTold(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	f.Extensions = []string{"agent", "other"}
	res, _ := w.do(f, ask{})
	expectLog(t, res, `\[thaw\] extensions are not supported yet: /opt/extensions/\{agent,other\} of the image will not be started`,
		"init", logStart, logEnd, logReport+logInit)
	res, _ = w.do(f, ask{})
	expectLog(t, res, logStart, logEnd, logReport)
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
	f.TmpMB = 600
	w.do(f, ask{})
	spec := w.launcher.specs[0]
	if spec.Root != "/" || spec.Dir != "/" || spec.MemoryBytes != 128<<20 || spec.TmpBytes != 600<<20 ||
		!spec.BoostInit || spec.CPUs < 0.072 || spec.CPUs > 0.073 || spec.Stdout != spec.Stderr {
		t.Fatalf("%+v", spec)
	}
	if calls := w.launcher.noted(); !strings.HasPrefix(calls, "start endboost") {
		t.Fatal(calls)
	}
}
