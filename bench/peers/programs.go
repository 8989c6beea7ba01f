// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"thaw.dev/thaw/internal/livetest"
)

// programs is the folder that install.sh put the peers' programs into.
type programs string

// install builds and fetches what is missing.
func install(ctx context.Context) (programs, error) {
	root, err := livetest.Root()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bench", "peers", "install.sh"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("install.sh: %w", err)
	}
	return programs(strings.TrimSpace(string(out))), nil
}

// environ is an environment in which the programs find one another.
func (p programs) environ() []string {
	return append(os.Environ(), "PATH="+string(p)+":"+os.Getenv("PATH"), "CONTAINERD_NAMESPACE="+namespace, "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1")
}

// path is where a program is, of the peers or of the machine.
func (p programs) path(name string) (string, error) {
	own := filepath.Join(string(p), name)
	if _, err := os.Stat(own); err == nil {
		return own, nil
	}
	return exec.LookPath(name)
}

// readIn reads what a peer runs at a start back into the page cache: a worker
// has its own programs in memory, as thaw has its.
func (p programs) readIn() error {
	for _, name := range []string{"nsenter", "ctr", "containerd", "containerd-shim-runc-v2", "runc"} {
		path, err := p.path(name)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, file)
		_ = file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// jailed is a process that is the first of a mount and a PID namespace: with it
// end all processes and mounts that it made. It ends with the benchmark, however
// that ends.
type jailed struct {
	cmd *exec.Cmd
	log *livetest.SafeBuffer
}

// startJailed runs a shell script, which is to mount what it needs and then to
// execute the program.
func (p programs) startJailed(script string) (*jailed, error) {
	const prepare = "set -e\nmount --make-rprivate /\nmount -t proc proc /proc\nmount -t tmpfs tmpfs /run\n"
	j := &jailed{cmd: exec.Command("sh", "-c", prepare+script), log: &livetest.SafeBuffer{}}
	j.cmd.Env = p.environ()
	j.cmd.Stdout, j.cmd.Stderr = j.log, j.log
	j.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Setpgid: true, Pdeathsig: syscall.SIGKILL,
	}
	return j, j.cmd.Start()
}

// stop returns when nothing of it is left.
func (j *jailed) stop() {
	_ = j.cmd.Process.Kill()
	_ = j.cmd.Wait()
}

// command is one that runs in the namespaces.
func (p programs) command(ctx context.Context, j *jailed, name string, args ...string) *exec.Cmd {
	inside := []string{"--target", fmt.Sprint(j.cmd.Process.Pid), "--mount", "--pid", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(inside, args...)...)
	cmd.Env = p.environ()
	cmd.WaitDelay = time.Second // what nsenter started ends with the namespace only
	return cmd
}

// try runs a command, and tells what it printed where it fails.
func try(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
