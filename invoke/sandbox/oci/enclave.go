// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
)

// enclave is a mount namespace with one thread of this process in it, which
// starts every runtime. What is mounted there the host does not see, and the
// kernel unmounts it when the last process in it ends.
type enclave struct {
	view  string // folder of a file system that exists only here
	calls chan func()
}

// devices are the nodes of every sandbox's /dev, and links those that
// containers have there.
var (
	devices = map[string]uint64{
		"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "full": unix.Mkdev(1, 7),
		"random": unix.Mkdev(1, 8), "urandom": unix.Mkdev(1, 9), "tty": unix.Mkdev(5, 0),
	}
	links = map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	}
)

// openEnclave makes the namespace, with what all sandboxes share below view.
// Without the unified hierarchy, where hybrid is, crun takes a hybrid host for
// one of cgroup v1; it refuses it otherwise.
func openEnclave(view string, groups *cgroup.Parent, withoutUnified bool) (*enclave, error) {
	e := &enclave{view: view, calls: make(chan func())}
	ready := make(chan error, 1)
	go groups.Outside(func(err error) {
		if err == nil {
			err = e.enter(withoutUnified)
		}
		if err == nil {
			err = e.furnish(groups)
		}
		ready <- err
		for call := range e.calls {
			call()
		}
	})
	if err := <-ready; err != nil {
		e.close()
		return nil, thaw.Wrap("oci: mount namespace", err)
	}
	return e, nil
}

// do runs f on the thread.
func (e *enclave) do(f func() error) error {
	done := make(chan error, 1)
	e.calls <- func() { done <- f() }
	return <-done
}

func (e *enclave) close() { close(e.calls) }

func (e *enclave) enter(withoutUnified bool) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	// What the host unmounts must go here too, and nothing back.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if !withoutUnified {
		return nil
	}
	err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // not a hybrid host
	}
	return err
}

// furnish makes what all sandboxes see: their /dev, and the folder that holds
// their groups. Whoever is root in a sandbox is nobody here.
func (e *enclave) furnish(groups *cgroup.Parent) error {
	if err := unix.Mount("thaw", e.view, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0711"); err != nil {
		return err
	}
	for _, dir := range []string{e.dev(), e.cgroup(), filepath.Join(e.view, "masks"), filepath.Join(e.view, "boxes")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for name, number := range devices {
		path := filepath.Join(e.dev(), name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(number)); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask
			return err
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(e.dev(), name)); err != nil {
			return err
		}
	}
	for _, view := range groups.Views() {
		if err := e.furnishView(view); err != nil {
			return err
		}
	}
	return nil
}

// furnishView makes where a hierarchy is mounted, under the names of all its
// controllers, and what is shown in place of some of its files.
func (e *enclave) furnishView(view cgroup.View) error {
	if err := os.MkdirAll(filepath.Join(e.cgroup(), view.Name), 0o755); err != nil {
		return err
	}
	for name := range strings.SplitSeq(view.Options, ",") {
		if err := os.Symlink(view.Name, filepath.Join(e.cgroup(), name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for _, mask := range view.Masks {
		name, text, _ := strings.Cut(mask, "=")
		if err := os.WriteFile(e.mask(name), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// null opens a null device that nobody else has. crun gives what it gets as
// standard streams to the container's root, and the host's own would be its.
func (e *enclave) null() (null *os.File, err error) {
	path := filepath.Join(e.view, "null")
	err = e.do(func() error {
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(devices["null"])); err != nil {
			return err
		}
		null, err = os.OpenFile(path, os.O_RDWR, 0)
		return err
	})
	return null, err
}

func (e *enclave) dev() string    { return filepath.Join(e.view, "dev") }
func (e *enclave) cgroup() string { return filepath.Join(e.view, "cgroup") }

func (e *enclave) mask(name string) string { return filepath.Join(e.view, "masks", name) }

// own is a name in the folder of one sandbox.
func (e *enclave) own(id, name string) string { return filepath.Join(e.view, "boxes", id, name) }

// root is where the root of a sandbox is mounted.
func (e *enclave) root(id string) string { return e.own(id, "root") }

// put writes a file of the host's id owner into the folder of a sandbox.
func (e *enclave) put(id, name, text string, owner int) error {
	return e.do(func() error {
		return errors.Join(os.WriteFile(e.own(id, name), []byte(text), 0o644), os.Chown(e.own(id, name), owner, owner))
	})
}

// attach mounts the mapped root and /tmp of a sandbox, for the runtime to bind.
func (e *enclave) attach(id string, root, tmp *os.File) error {
	return e.do(func() error {
		for _, dir := range []string{"", "root", "tmp"} {
			if err := os.Mkdir(e.own(id, dir), 0o755); err != nil {
				return err
			}
		}
		err := unix.MoveMount(int(tmp.Fd()), "", unix.AT_FDCWD, e.own(id, "tmp"), unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err != nil {
			return err
		}
		return unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, e.root(id), unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}

// resolve follows a name in the root of a sandbox, symlinks included and never
// out of it, and returns where it leads and what is there. Runtimes differ in
// which links they follow.
func (e *enclave) resolve(id, name string) (path string, mode uint32, err error) {
	err = e.do(func() error {
		root, err := unix.Open(e.root(id), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(root)
		fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return err
		}
		mode = stat.Mode
		full, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
		path = strings.TrimPrefix(full, e.root(id))
		return err
	})
	return path, mode, err
}

// detach undoes attach, however far that came.
func (e *enclave) detach(id string) error {
	return e.do(func() error {
		for _, name := range []string{"tmp", "root"} {
			err := unix.Unmount(e.own(id, name), unix.MNT_DETACH)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return os.RemoveAll(e.own(id, ""))
	})
}
