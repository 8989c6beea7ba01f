// Package network makes what sandboxes need of the network: a namespace of
// their own with a loopback and a listener on it, and outbound access behind
// NAT where the operator wants it. It knows links, addresses and packet
// filters, nothing of processes.
package network

import (
	"errors"
	"net"
	"os"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

var instancePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,15}$`)

// ValidInstance reports whether s may name an instance: 1 to 16 of [a-z0-9-],
// which fits into the names of interfaces and tables.
func ValidInstance(s string) bool { return instancePattern.MatchString(s) }

// Namespace is a network namespace that no process needs to be in. It lives as
// long as its file, a process or a socket in it.
type Namespace struct {
	File     *os.File     // for setns, and as /proc/<pid>/fd/<n>
	Listener net.Listener // inside
}

// NewNamespace makes a namespace with the loopback up and a listener on
// address. The threads of this process stay where they were.
func NewNamespace(address string) (*Namespace, error) {
	type result struct {
		n   *Namespace
		err error
	}
	made := make(chan result, 1)
	go func() {
		n, err := newNamespace(address)
		made <- result{n, err}
	}()
	r := <-made
	return r.n, thaw.Wrap("network: namespace", r.err)
}

// newNamespace runs on a goroutine of its own: where it can't return to the
// namespace it came from, it leaves its thread locked, so that Go ends it.
func newNamespace(address string) (_ *Namespace, err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	n := &Namespace{}
	n.File, err = os.Open("/proc/thread-self/ns/net")
	if err == nil {
		err = loopbackUp()
	}
	if err == nil {
		n.Listener, err = net.Listen("tcp4", address)
	}
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		err = errors.Join(err, back)
	} else {
		runtime.UnlockOSThread()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// Close closes the listener and lets go of the namespace.
func (n *Namespace) Close() error {
	var errs []error
	if n.Listener != nil {
		if err := n.Listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if n.File != nil {
		errs = append(errs, n.File.Close())
	}
	return errors.Join(errs...)
}
