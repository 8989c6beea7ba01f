// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
)

// command runs bin/thaw as a user's shell would and returns what it printed and
// its status.
func command(t *testing.T, env []string, args ...string) (out, said string, status int) {
	t.Helper()
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(root, "bin", "thaw"), args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		status = exit.ExitCode()
	}
	return stdout.String(), stderr.String(), status
}

// TestRedeploy: thaw deploy of a function that exists changes what is named and
// keeps every other setting, and nothing where the image is refused.
func TestRedeploy(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	layout, err := images("go-hello:1")
	if err != nil {
		t.Fatal(err)
	}
	client := w.create(ctx, "kept", w.push("go-hello:1", "kept:1"), func(in *lambda.CreateFunctionInput) {
		in.Description, in.Tags = aws.String("what it does"), map[string]string{"team": "blue"}
		in.Environment = &types.Environment{Variables: map[string]string{"KEPT": "1", "CHANGED": "1", "REMOVED": "1"}}
		in.ImageConfig = &types.ImageConfig{WorkingDirectory: aws.String("/tmp")}
	})
	function := func() *lambda.GetFunctionOutput {
		f, err := client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("kept")})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	before := function()
	if out, err := w.Thaw(ctx, "deploy", "kept", w.Registry()+"/nothing:1", "--env", "CHANGED=2"); err == nil {
		t.Errorf("an image that is not there was deployed: %s", out)
	}
	if got := function().Configuration.Environment.Variables["CHANGED"]; got != "1" {
		t.Errorf("a deployment that was refused changed a variable to %s", got)
	}
	w.thaw("deploy", "kept", layout+":go-hello:2", "--env", "CHANGED=2", "--env", "REMOVED-", "--env", "NEW=")
	after := function()
	if want := map[string]string{"KEPT": "1", "CHANGED": "2", "NEW": ""}; !reflect.DeepEqual(after.Configuration.Environment.Variables, want) {
		t.Errorf("the variables are %v, want %v", after.Configuration.Environment.Variables, want)
	}
	if *after.Configuration.CodeSha256 == *before.Configuration.CodeSha256 {
		t.Error("the image is the old one")
	}
	w.thaw("deploy", "kept", layout+":go-hello:1", "--timeout", "1m")
	w.thaw("deploy", "kept", layout+":go-hello:2", "--memory", "1G")
	w.thaw("deploy", "kept", layout+":go-hello:2")
	last := function()
	if *last.Configuration.Timeout != 60 || *last.Configuration.MemorySize != 1024 {
		t.Errorf("timeout %d s, memory %d MB; want 60, 1024", *last.Configuration.Timeout, *last.Configuration.MemorySize)
	}
	for what, pair := range map[string][2]any{
		"description":      {before.Configuration.Description, last.Configuration.Description},
		"tags":             {before.Tags, last.Tags},
		"image's settings": {before.Configuration.ImageConfigResponse, last.Configuration.ImageConfigResponse},
		"storage":          {before.Configuration.EphemeralStorage, last.Configuration.EphemeralStorage},
		"logging":          {before.Configuration.LoggingConfig, last.Configuration.LoggingConfig},
		"role":             {before.Configuration.Role, last.Configuration.Role},
		"variables":        {after.Configuration.Environment, last.Configuration.Environment},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("the %s changed from %v to %v", what, pair[0], pair[1])
		}
	}
}

// TestPrintedNames: what a command prints of a function, an image, a request or a
// tenant is taken by the commands that want one.
func TestPrintedNames(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	layout, err := images("go-hello:1")
	if err != nil {
		t.Fatal(err)
	}
	arn, _, _ := strings.Cut(w.thaw("deploy", "named", layout+":go-hello:1"), " ")
	w.thaw("deploy", arn, layout+":go-hello:2") // the first image is no function's any more
	if out := w.thaw("invoke", arn); !strings.Contains(out, "greeting") {
		t.Errorf("invoked by its ARN it answers %s", out)
	}
	if out := w.thaw("logs", arn); !strings.Contains(out, "REPORT") {
		t.Errorf("the log by its ARN is %q", out)
	}
	var functions []struct{ CodeSha256 string }
	var image, same struct{ Image, Source string }
	if err := errors.Join(w.ThawJSON(ctx, &functions, "ls"), w.ThawJSON(ctx, &image, "image", "inspect", "named")); err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{arn, image.Image, image.Image[:12], image.Source, image.Source[:20], functions[0].CodeSha256[:12]} {
		if err := w.ThawJSON(ctx, &same, "image", "inspect", printed); err != nil || same.Image != image.Image {
			t.Errorf("thaw image inspect %s: %v, of image %s; want %s", printed, err, same.Image, image.Image)
		}
	}
	listed := strings.Fields(strings.Split(w.thaw("trace"), "\n")[1])[0]
	if out := w.thaw("trace", listed[:8]); !strings.Contains(out, listed) {
		t.Errorf("thaw trace %s printed %s", listed[:8], out)
	}
	account, err := w.CreateTenant(ctx, "team")
	if err != nil {
		t.Fatal(err)
	}
	if out := w.thaw("env", "--tenant", account.Account); !strings.Contains(out, account.AccessKey) {
		t.Errorf("thaw env of account %s printed %s", account.Account, out)
	}
	w.thaw("ls", "--tenant", account.Account)

	out, said, status := command(t, []string{"THAW_DATA=" + w.Data}, "rm", "absent", "named", "a b")
	if status != 1 || out != "deleted named\n" || !strings.Contains(said, "absent") || !strings.Contains(said, "'a b'") || !strings.Contains(said, "stay") {
		t.Errorf("thaw rm of three names: status %d, printed %q, said %q", status, out, said)
	}
}

// TestTwoServers: the environment of one server does not reach another's commands.
func TestTwoServers(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	layout, err := images("go-hello:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*world{a, b} {
		w.thaw("deploy", "same", layout+":go-hello:1")
	}
	script := `eval "$(bin/thaw env --data "$A")" && bin/thaw rm same --data "$B" && bin/thaw ls && THAW_DATA=$B bin/thaw ls && bin/thaw logs same`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "A="+a.Data, "B="+b.Data)
	if cmd.Dir, err = livetest.Root(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "same") != 2 { // deleted, and A's in the first list
		t.Errorf("%v: %s", err, out)
	}
	if out := a.thaw("ls"); !strings.Contains(out, "same") {
		t.Errorf("thaw rm --data B deleted on A: %s", out)
	}
	if out := b.thaw("ls"); strings.Contains(out, "same") {
		t.Errorf("thaw rm --data B did not delete on B: %s", out)
	}
}

// TestInterruptedCommands: ctrl-C ends a command at once with status 130, and it
// says what goes on.
func TestInterruptedCommands(t *testing.T) {
	w := newWorld(t)
	layout, err := images("go-hello:1")
	if err != nil {
		t.Fatal(err)
	}
	w.thaw("deploy", "hello", layout+":go-hello:1")
	w.thaw("invoke", "hello")
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		args   string
		status int
		says   string
	}{
		{"logs hello -f", 0, ""},
		{"invoke hello -d -", 130, "thaw: interrupted\n"},
	} {
		cmd := exec.Command(filepath.Join(root, "bin", "thaw"), strings.Fields(try.args)...)
		cmd.Env = []string{"THAW_DATA=" + w.Data}
		stdin, err := cmd.StdinPipe() // of which nothing comes
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // until it waits; sooner the outcome is the same but for the log
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		_ = stdin.Close()
		if got := cmd.ProcessState.ExitCode(); got != try.status || said.String() != try.says {
			t.Errorf("thaw %s, interrupted: status %d, said %q; want %d, %q", try.args, got, &said, try.status, try.says)
		}
	}
}
