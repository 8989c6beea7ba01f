// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox/sandboxtest"
)

// TestIsolation has functions of one server try what a sandbox must not be
// able to do, with the probe of the suite that every kind of sandbox passes:
// here it runs in an image that was pushed, in what an invocation gives it.
func TestIsolation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.pushImage(prober(t), "prober:v1")
	ref := w.Registry() + "/prober:v1"
	const secret = "squeamish-ossifrage"
	client := w.create(ctx, "victim", ref, environment("SECRET", secret))
	w.create(ctx, "inside", ref, sized(2048))
	w.create(ctx, "small", ref, sized(128))

	t.Run("attempts", func(t *testing.T) {
		addresses := append(w.hostAddresses(t), "169.254.169.254:80", "10.0.0.1:80")
		results := map[string]string{}
		w.probe(t, "inside", &results, append([]string{"try"}, addresses...)...)
		for _, address := range addresses {
			if got := results["connect "+address]; got != "ECONNREFUSED" && got != "ENETUNREACH" {
				t.Errorf("connect to %s: %q", address, got)
			}
			delete(results, "connect "+address)
		}
		sandboxtest.CheckAttempts(t, results)
	})
	t.Run("neighbours", func(t *testing.T) {
		var wrote, stolen []string
		var victim, inside sandboxtest.View
		w.probe(t, "victim", &wrote, "write", "/tmp/"+secret)
		w.probe(t, "victim", &victim, "look", "/tmp/"+secret)
		w.probe(t, "inside", &inside, "look", "/tmp/"+secret)
		w.probe(t, "inside", &stolen, "steal", secret)
		if !slices.Contains(victim.Env, "SECRET="+secret) || !strings.Contains(victim.Paths["/tmp/"+secret], "written") {
			t.Fatalf("the victim has no secret: %+v", victim)
		}
		if len(stolen) > 0 || inside.Paths["/tmp/"+secret] != "ENOENT" || strings.Contains(strings.Join(inside.Env, " "), secret) {
			t.Errorf("the neighbour has seen %v, %v, %v", stolen, inside.Paths, inside.Env)
		}
		// Each listens for its runtime at the same address of another network.
		for kind, id := range inside.Namespaces {
			if own, _ := os.Readlink("/proc/self/ns/" + kind); id == own || id == victim.Namespaces[kind] || id == "" {
				t.Errorf("%s namespace %q is also the victim's or the host's", kind, id)
			}
		}
		if fmt.Sprint(inside.Interfaces) != "[lo]" {
			t.Errorf("interfaces %v", inside.Interfaces)
		}
		for _, process := range inside.Processes {
			if name := strings.Fields(process)[1]; !slices.Contains([]string{"handler", "probe", "init", "thaw-init"}, name) {
				t.Errorf("sees process %s", process)
			}
		}
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if strings.Trim(inside.Status[set], "0") != "" {
				t.Errorf("%s is %s", set, inside.Status[set])
			}
		}
	})
	t.Run("limits", func(t *testing.T) {
		payload, failed := invoke(ctx, t, client, "small", `{"alloc":300}`)
		if failed != "Unhandled" || !strings.Contains(payload, "Runtime.OutOfMemory") {
			t.Errorf("300 MB in 128: %s %s", failed, payload)
		}
		if payload, failed := invoke(ctx, t, client, "small", `{"alloc":20}`); failed != "" {
			t.Errorf("20 MB in 128: %s %s", failed, payload)
		}
		var filled struct {
			Written int
			Error   string
		}
		w.probe(t, "inside", &filled, "fill", "/tmp/large", "600")
		if filled.Error != "ENOSPC" || filled.Written > 512<<20 || filled.Written < 500<<20 {
			t.Errorf("600 MB in /tmp of 512: %+v", filled)
		}
		var processes int
		w.probe(t, "inside", &processes, "processes", "2000")
		if processes < 1 || processes >= 1024 { // their threads count too
			t.Errorf("%d processes", processes)
		}
	})
	t.Run("timeout", func(t *testing.T) { w.overtime(t, ref) })
}

// overtime shows that a function which never ends runs while it may, and
// nothing of it once the answer says that its time is over.
func (w *world) overtime(t *testing.T, ref string) {
	ctx := t.Context()
	client := w.create(ctx, "late", ref, func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(2) })
	const mark = "over-time-of-this-test"
	running := func() []string {
		return pidsWhere(t, func(dir string) bool {
			text, err := os.ReadFile(dir + "/cmdline")
			return err == nil && bytes.Contains(text, []byte("tick\x00"+mark))
		})
	}
	type answer struct{ payload, failed string }
	answers := make(chan answer, 1)
	go func() {
		out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("late"), Payload: []byte(`{"run":["/probe","tick","` + mark + `"]}`)})
		if err != nil {
			answers <- answer{failed: err.Error()}
			return
		}
		answers <- answer{string(out.Payload), aws.ToString(out.FunctionError)}
	}()
	seen := false
	for {
		select {
		case a := <-answers:
			if a.failed != "Unhandled" || !strings.Contains(a.payload, "Task timed out after 2.00 seconds") {
				t.Errorf("answered %s %s", a.failed, a.payload)
			}
			if left := running(); len(left) > 0 {
				t.Errorf("processes %v run on", left)
			}
			if !seen {
				t.Error("it was never seen to run")
			}
			return
		case <-time.After(10 * time.Millisecond):
			seen = seen || len(running()) > 0
		}
	}
}

// prober is the probe's function with, beside it, the probe of sandboxtest.
func prober(t *testing.T) v1.Image {
	t.Helper()
	testkit.RequireTool(t, "tar", "setcap")
	tree := t.TempDir()
	sandboxtest.Plant(t, tree)
	layer, err := exec.CommandContext(t.Context(), "tar", "-C", tree, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return appendLayer(t, builtImage(t, "probe:1"), layer, ocitypes.OCIUncompressedLayer)
}

// probe runs the probe in a function and decodes what it answers.
func (w *world) probe(t *testing.T, function string, into any, args ...string) {
	t.Helper()
	event, err := json.Marshal(map[string]any{"run": append([]string{"/probe"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	payload, failed := invoke(t.Context(), t, w.Lambda(w.creds), function, string(event))
	var ran struct{ Output, Errors, Exit string }
	if err := json.Unmarshal([]byte(payload), &ran); err != nil || failed != "" || ran.Exit != "" {
		t.Fatalf("probe %v: %s %v: %.500s", args, failed, err, payload)
	}
	if err := json.Unmarshal([]byte(ran.Output), into); err != nil {
		t.Fatalf("probe %v: %v in %.500s", args, err, payload)
	}
}

// hostAddresses are addresses of this host at which something listens: the
// server, and the test itself on all interfaces.
func (w *world) hostAddresses(t *testing.T) []string {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	addresses := []string{w.Registry()}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip := a.(*net.IPNet).IP.To4(); ip != nil {
			addresses = append(addresses, fmt.Sprintf("%s:%d", ip, l.Addr().(*net.TCPAddr).Port))
		}
	}
	return addresses
}

func environment(name, value string) func(*lambda.CreateFunctionInput) {
	return func(in *lambda.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{name: value}}
	}
}

func sized(memoryMB int32) func(*lambda.CreateFunctionInput) {
	return func(in *lambda.CreateFunctionInput) { in.MemorySize = &memoryMB }
}
