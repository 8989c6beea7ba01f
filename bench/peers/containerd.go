// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"thaw.dev/thaw/bench/measure"
)

// namespace is containerd's, and the control group of its containers.
var namespace = fmt.Sprintf("thaw-bench-%d", os.Getpid())

// containerd is a daemon with nothing in it.
type containerd struct {
	*jailed
	programs programs
	dir      string // its content and snapshots
}

const containerdConfig = `version = 3
root = %q
[plugins."io.containerd.transfer.v1.local"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/%[2]s"
snapshotter = "overlayfs"
differ = "walking"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/%[2]s"
snapshotter = "stargz"
differ = "walking"
`

// startContainerd returns when the daemon answers. Stop it.
func (p programs) startContainerd(ctx context.Context, dir string) (*containerd, error) {
	dir, err := os.MkdirTemp(dir, "containerd-")
	if err != nil {
		return nil, err
	}
	c := &containerd{programs: p, dir: dir}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig, dir, runtime.GOARCH), 0o600); err != nil {
		return nil, err
	}
	if c.jailed, err = p.startJailed(fmt.Sprintf("exec containerd --config '%s'\n", config)); err != nil {
		return nil, err
	}
	return c, c.until(ctx, func() error {
		return try(c.ctr(ctx, "version"))
	})
}

// stop ends the daemon and its containers, and removes what they leave.
func (c *containerd) stop() {
	c.jailed.stop()
	_ = os.RemoveAll(c.dir)
	// Below each hierarchy, or below the only one of cgroup v2.
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + namespace, "/sys/fs/cgroup/" + namespace} {
		for _, group := range []string{pattern + "/*", pattern} {
			found, _ := filepath.Glob(group) // the pattern is well-formed
			for _, g := range found {
				_ = os.Remove(g)
			}
		}
	}
}

func (c *containerd) ctr(ctx context.Context, args ...string) *exec.Cmd {
	return c.programs.command(ctx, c.jailed, "ctr", args...)
}

func envFlags(environ []string) []string {
	var flags []string
	for _, v := range environ {
		flags = append(flags, "--env", v)
	}
	return flags
}

// optimize has stargz-snapshotter's own tool make an eStargz image of one, with
// what its start reads in front of each layer. Compression is the quickest that
// the tool has: the best takes minutes for a large image, and spares a loopback
// nothing.
func (b *bench) optimize(ctx context.Context, ref, optimized string) error {
	c, err := b.programs.startContainerd(ctx, b.Dir)
	if err != nil {
		return err
	}
	defer c.stop()
	convert := append([]string{"image", "optimize", "--oci", "--net-host", "--period", "20", "--estargz-compression-level", "1"}, envFlags(b.api.Environ())...)
	for _, cmd := range []*exec.Cmd{
		c.ctr(ctx, "image", "pull", "--plain-http", ref),
		b.programs.command(ctx, c.jailed, "ctr-remote", append(convert, ref, optimized)...),
		c.ctr(ctx, "image", "push", "--plain-http", optimized),
	} {
		if err := try(cmd); err != nil {
			return err
		}
	}
	return nil
}

// start pulls an image into an empty containerd and runs it, and returns how
// long the pull took, and how long all took until the handler asked for an
// invocation.
func (b *bench) start(ctx context.Context, snapshotter, ref string) (pull, whole time.Duration, err error) {
	c, err := b.programs.startContainerd(ctx, b.Dir)
	if err != nil {
		return 0, 0, err
	}
	defer c.stop()
	run := append([]string{"run", "--snapshotter", snapshotter, "--net-host"}, envFlags(b.api.Environ())...)
	if err := measure.DropPageCache(); err != nil {
		return 0, 0, err
	}
	if err := b.programs.readIn(); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := try(c.ctr(ctx, "image", "pull", "--plain-http", "--snapshotter", snapshotter, ref)); err != nil {
		return 0, 0, err
	}
	pull = time.Since(begin)
	started, err := b.api.Start(c.ctr(ctx, append(run, ref, "bench")...), func() {})
	if err == nil && snapshotter == "stargz" {
		err = c.pulledLazily()
	}
	return pull, pull + started, err
}

// lazyBytes is more than the manifest and the configuration of an image, and
// less than its layers.
const lazyBytes = 1 << 20

// pulledLazily fails where layers came by the way that they come by otherwise,
// which containerd does unasked where a snapshotter does not know a layer.
func (c *containerd) pulledLazily() error {
	var held int64
	err := filepath.WalkDir(filepath.Join(c.dir, "io.containerd.content.v1.content", "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			held += info.Size()
		}
		return err
	})
	if err == nil && held > lazyBytes {
		err = fmt.Errorf("a lazy pull fetched %d bytes of content", held)
	}
	return err
}
