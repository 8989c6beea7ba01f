// Command start measures cold starts with a full worker cache against starting
// the same handler from an unpacked tree on the local disk: by plain fork,
// chroot and exec, and by crun. The kernel's page cache is dropped before each
// start. A start lasts from its cause to the handler's first request to the
// Runtime API; for thaw from the invocation's request on. A worker whose own cache
// is empty, but knows what the version's starts read, is measured beside.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"thaw.dev/thaw/bench/measure"
)

// kind is a handler and how it is run by hand.
type kind struct {
	tag, dir string
	args     []string
	limit    float64 // promised ratio to the plain start
}

var kinds = []kind{
	{"go-hello:1", "/", []string{"/handler"}, 2},
	{"py-hello:1", "/var/task", []string{"/usr/bin/python3", "bootstrap.py", "app.handler"}, 1.3},
	{"node-api:1", "/var/task", []string{"/usr/bin/node", "bootstrap.mjs", "app.handler"}, 1.3},
}

func main() {
	log.SetFlags(0)
	runs := flag.Int("n", 20, "starts of each kind")
	flag.Parse()
	if err := run(context.Background(), *runs); err != nil {
		log.Fatal("bench/start: ", err)
	}
}

func run(ctx context.Context, runs int) error {
	b, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	var tags []string
	for _, k := range kinds {
		tags = append(tags, k.tag)
	}
	layout, err := b.Images(ctx, "gzip", tags...)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if err := compare(ctx, b, layout, k, runs); err != nil {
			return fmt.Errorf("%s: %w", k.tag, err)
		}
	}
	return nil
}

// prepare makes the function and the unpacked tree of one kind.
func prepare(ctx context.Context, b *measure.Bench, layout string, k kind) (function, bundle string, err error) {
	function, _, _ = strings.Cut(k.tag, ":")
	if err := b.Create(ctx, layout, k.tag, function); err != nil {
		return "", "", err
	}
	bundle = filepath.Join(b.Dir, "bundle-"+function)
	if out, err := exec.CommandContext(ctx, "umoci", "unpack", "--image", layout+":"+k.tag, bundle).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("umoci unpack: %w: %s", err, out)
	}
	return function, bundle, nil
}

func compare(ctx context.Context, b *measure.Bench, layout string, k kind, runs int) error {
	function, bundle, err := prepare(ctx, b, layout, k)
	if err != nil {
		return err
	}
	api, err := measure.NewRuntimeAPI()
	if err != nil {
		return err
	}
	defer api.Close()
	if err := writeBundle(bundle, k, api.Environ()); err != nil {
		return err
	}
	if _, err := b.Invoke(ctx, function); err != nil { // fills L1
		return err
	}
	if err := b.Packed(ctx); err != nil {
		return err
	}
	var full, empty, plain, crun measure.Samples
	for i := range runs {
		for _, s := range []struct {
			drop    string
			samples *measure.Samples
		}{{"kernel", &full}, {"l1", &empty}} {
			took, err := b.ColdStart(ctx, function, s.drop)
			if err != nil {
				return err
			}
			*s.samples = append(*s.samples, took)
		}
		if err := measure.DropPageCache(); err != nil {
			return err
		}
		took, err := api.Start(chrootCommand(bundle, k, api.Environ()), func() {})
		if err != nil {
			return err
		}
		plain = append(plain, took)
		id := fmt.Sprintf("thaw-bench-%d-%d", os.Getpid(), i)
		if err := measure.DropPageCache(); err != nil {
			return err
		}
		if took, err = api.Start(crunIn("run", "--bundle", bundle, id), func() { _ = crunIn("delete", "--force", id).Run() }); err != nil {
			return err
		}
		crun = append(crun, took)
	}
	fmt.Printf("%s\n  thaw, full L1     %s\n  thaw, empty L1    %s\n  fork+chroot+exec  %s\n  crun run          %s\n", k.tag, full, empty, plain, crun)
	measure.Ratio(os.Stdout, fmt.Sprintf("  full L1 to fork+chroot+exec (promised %.1f)", k.limit), full, plain)
	measure.Ratio(os.Stdout, "  full L1 to crun run (promised below 1)", full, crun)
	measure.Ratio(os.Stdout, "  empty L1 to full L1 (promised 1.15)", empty, full)
	return nil
}

func chrootCommand(bundle string, k kind, environ []string) *exec.Cmd {
	cmd := exec.Command(k.args[0], k.args[1:]...)
	cmd.Path, cmd.Err = k.args[0], nil // looked up inside the tree
	cmd.Dir = k.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: filepath.Join(bundle, "rootfs")}
	cmd.Env = environ
	return cmd
}
