// SPDX-License-Identifier: Apache-2.0

// Command sandbox measures what a sandbox adds to a start, up to the handler's
// exec: a jail of the pool, the same with a /tmp that is not made ahead, a jail made afresh, and a container of an OCI
// runtime, beside plain fork and exec of the same static program, one after the
// other in turns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/jail"
	"thaw.dev/thaw/invoke/sandbox/oci"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

// settleTime lets the pool fill, and what ended be removed, between two starts.
const settleTime = 150 * time.Millisecond

func main() {
	log.SetFlags(0)
	n := flag.Int("n", 40, "starts of each kind")
	runtime := flag.String("oci-runtime", oci.DefaultRuntime, "the OCI runtime")
	flag.Parse()
	if err := run(context.Background(), *n, *runtime); err != nil {
		log.Fatal("bench/sandbox: ", err)
	}
}

// kind is a way to start the program; start returns once it was executed, and
// what ends it.
type kind struct {
	name    string
	start   func(ctx context.Context) (end func() error, err error)
	most    time.Duration // promised p50 over plain; 0 promises nothing
	samples measure.Samples
}

func run(ctx context.Context, n int, runtime string) (err error) {
	dir, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := image(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(root, unix.MNT_DETACH)) }()
	tmp, err := tmpdisk.Open(tmpdisk.Config{Dir: filepath.Join(dir, "tmp"), Ahead: 2})
	if err != nil {
		return err
	}
	defer tmp.Close(ctx)
	pooled, err := jail.New(ctx, jail.Config{Instance: "bench-pooled", Pool: 2, Tmp: tmp})
	if err != nil {
		return err
	}
	defer pooled.Close(ctx)
	fresh, err := jail.New(ctx, jail.Config{Instance: "bench-fresh", Tmp: tmp})
	if err != nil {
		return err
	}
	defer fresh.Close(ctx)
	containers, err := oci.New(ctx, oci.Config{Instance: "bench-oci", Runtime: runtime, Tmp: tmp, Pool: 2})
	if err != nil {
		return err
	}
	defer containers.Close(ctx)
	kinds := []*kind{
		{name: "fork+exec", start: plain(root)},
		{name: "jail, of the pool", start: sandboxed(pooled, root), most: 5 * time.Millisecond},
		{name: "jail, of the pool, with a /tmp of 1 GB", start: sandboxed(pooled, root, func(s *sandbox.Spec) { s.TmpBytes = 1 << 30 })},
		{name: "jail, fresh", start: sandboxed(fresh, root), most: 20 * time.Millisecond},
		{name: "oci, " + runtime, start: sandboxed(containers, root)},
	}
	const warmUp = 3
	for i := range n + warmUp {
		for _, k := range kinds {
			if err := errors.Join(pooled.Ready(ctx), containers.Ready(ctx)); err != nil {
				return err
			}
			time.Sleep(settleTime)
			begin := time.Now()
			end, err := k.start(ctx)
			took := time.Since(begin)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if err := end(); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if i >= warmUp {
				k.samples = append(k.samples, took)
			}
		}
	}
	report(kinds)
	return nil
}

func report(kinds []*kind) {
	floor := kinds[0].samples
	for _, k := range kinds {
		fmt.Printf("%-38s %s\n", k.name, k.samples)
	}
	for _, k := range kinds[1:] {
		adds := func(q float64) float64 { return float64(k.samples.Quantile(q)-floor.Quantile(q)) / 1e6 }
		promise := ""
		if k.most > 0 {
			promise = fmt.Sprintf("  (promised p50 %d ms)", k.most.Milliseconds())
		}
		fmt.Printf("%-38s adds up to exec: p50 %6.2f  p95 %6.2f ms%s\n", k.name, adds(0.5), adds(0.95), promise)
	}
}

// plain starts the program as a child. os/exec returns once it was executed.
func plain(root string) func(context.Context) (func() error, error) {
	return func(context.Context) (func() error, error) {
		cmd := exec.Command(filepath.Join(root, "probe"), "sleep")
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return func() error {
			err := cmd.Process.Kill()
			_ = cmd.Wait() // killed
			return err
		}, nil
	}
}

// sandboxed starts the program in a sandbox with the limits of a function.
func sandboxed(l sandbox.Launcher, root string, change ...func(*sandbox.Spec)) func(context.Context) (func() error, error) {
	ids := 0
	return func(ctx context.Context) (func() error, error) {
		ids++
		const memory = 1769 << 20
		spec := sandbox.Spec{
			ID: fmt.Sprintf("s-%d", ids), Root: root, Args: []string{"/probe", "sleep"}, MemoryBytes: memory, CPUs: sandbox.CPUsFor(memory),
		}
		for _, c := range change {
			c(&spec)
		}
		s, err := l.Start(ctx, spec)
		if err != nil {
			return nil, err
		}
		return func() error { return s.Stop(ctx) }, nil
	}
}

// image builds the program into an EROFS image and mounts it.
func image(dir string) (string, error) {
	source, err := livetest.Root()
	if err != nil {
		return "", err
	}
	tree, file, mount := filepath.Join(dir, "tree"), filepath.Join(dir, "image"), filepath.Join(dir, "root")
	for _, d := range []string{tree, mount, filepath.Join(tree, "proc"), filepath.Join(tree, "sys"), filepath.Join(tree, "dev"), filepath.Join(tree, "tmp")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(tree, "probe"), "./invoke/sandbox/sandboxtest/probe")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{build, exec.Command("mkfs.erofs", "-Enoinline_data", file, tree)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", cmd, err, out)
		}
	}
	return mount, unix.Mount(file, mount, "erofs", unix.MS_RDONLY, "")
}
