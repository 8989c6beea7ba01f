// SPDX-License-Identifier: Apache-2.0

// Package peer starts handlers without thaw, for the benchmarks that compare:
// from a tree unpacked on the local disk, by chroot and exec or by crun, up to
// the handler's first request to the Runtime API.
package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/bench/measure"
)

// Handler is an image's tree on the local disk, and how its configuration says
// that it is run.
type Handler struct {
	Bundle string   // the folder; the tree is rootfs in it
	Args   []string // the first is a path in the tree
	Dir    string   // in the tree
}

// Unpack unpacks an image of an OCI layout into bundle, which is not there yet.
func Unpack(ctx context.Context, layout, tag, bundle string) (Handler, error) {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return Handler{}, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return Handler{}, err
	}
	h := Handler{Bundle: bundle, Args: append(file.Config.Entrypoint, file.Config.Cmd...), Dir: filepath.Join("/", file.Config.WorkingDir)}
	if out, err := exec.CommandContext(ctx, "umoci", "unpack", "--image", layout+":"+tag, bundle).CombinedOutput(); err != nil {
		return Handler{}, fmt.Errorf("umoci unpack: %w: %s", err, out)
	}
	// crun makes the folders that it mounts on, and fails where another crun is
	// faster.
	for _, dir := range []string{"proc", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(bundle, "rootfs", dir), 0o755); err != nil {
			return Handler{}, err
		}
	}
	return h, nil
}

// Chroot is the command that runs the handler in its tree, with nothing else
// around it.
func (h Handler) Chroot(environ []string) *exec.Cmd {
	cmd := exec.Command(h.Args[0], h.Args[1:]...)
	cmd.Path, cmd.Err = h.Args[0], nil // looked up inside the tree
	cmd.Dir = h.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: filepath.Join(h.Bundle, "rootfs")}
	cmd.Env = environ
	return cmd
}

// Configure writes the OCI configuration of a container that is isolated as a
// function is, but on the host's network, where the Runtime API listens. Any number of containers may use it at a time: the tree is
// read-only.
func (h Handler) Configure(environ []string) error {
	spec := exec.Command("crun", "spec")
	spec.Dir = h.Bundle
	path := filepath.Join(h.Bundle, "config.json")
	_ = os.Remove(path)
	if out, err := spec.CombinedOutput(); err != nil {
		return fmt.Errorf("crun spec: %w: %s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	process, _ := config["process"].(map[string]any)
	process["terminal"], process["args"], process["cwd"], process["env"] = false, h.Args, h.Dir, environ
	linux, _ := config["linux"].(map[string]any)
	var namespaces []any
	list, _ := linux["namespaces"].([]any)
	for _, ns := range list {
		if m, _ := ns.(map[string]any); m["type"] != "network" && m["type"] != "cgroup" {
			namespaces = append(namespaces, ns)
		}
	}
	linux["namespaces"] = namespaces
	if text, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// Crun starts crun in a mount namespace without the unified control group,
// which crun refuses to see beside the old ones. The namespace is made once, so
// that no start pays for it.
type Crun struct {
	jobs chan func()
}

// OpenCrun makes the namespace. Close it.
func OpenCrun() (*Crun, error) {
	c := &Crun{jobs: make(chan func())}
	ready := make(chan error)
	go func() { // ends with Close; its thread, never unlocked, ends with it
		runtime.LockOSThread()
		ready <- leaveUnified()
		for job := range c.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close gives the namespace up. Containers that run are not disturbed.
func (c *Crun) Close() { close(c.jobs) }

// leaveUnified gives the thread a mount namespace of its own, and takes the
// unified control group out of it, where there is one beside others.
func leaveUnified() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("a mount namespace for crun: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a mount namespace for crun: %w", err)
	}
	_ = unix.Unmount("/sys/fs/cgroup/unified", 0) // fails where nothing is mounted there
	return nil
}

func (c *Crun) command(args ...string) *exec.Cmd {
	cmd := exec.Command("crun", append([]string{"--cgroup-manager=cgroupfs"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (c *Crun) start(cmd *exec.Cmd) error {
	started := make(chan error)
	c.jobs <- func() { started <- cmd.Start() }
	return <-started
}

// Container is one run of a handler by crun.
type Container struct {
	Cmd  *exec.Cmd // crun run, which ends with the container
	crun *Crun
	id   string
}

// Container returns a container of that id, which does not run yet.
func (c *Crun) Container(h Handler, id string) Container {
	return Container{c.command("run", "--bundle", h.Bundle, id), c, id}
}

// Start runs it, and returns when crun has been executed.
func (c Container) Start() error { return c.crun.start(c.Cmd) }

// Remove kills it and removes what is left of it, unless crun run is faster. The
// caller waits for Cmd.
func (c Container) Remove() {
	remove := c.crun.command("delete", "--force", c.id)
	remove.Stderr = nil // it fails where crun run was faster
	if c.crun.start(remove) != nil || remove.Wait() != nil {
		_ = syscall.Kill(-c.Cmd.Process.Pid, syscall.SIGKILL) // if it never came up
	}
}
