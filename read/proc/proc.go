// SPDX-License-Identifier: Apache-2.0

// Package proc keeps the processes of the read path apart from one another and
// from strangers: who a recorded process is, whether it still lives, and the
// pipe by which a child notices that its parent is gone. It knows process ids
// and files, nothing of what the processes do.
package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Identity tells a process from any other that had or will have its id.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // ticks from boot to its start
	Boot  string `json:"boot"`  // the kernel's id of this boot
}

// identify returns the identity of a living process.
func identify(pid int) (Identity, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Identity{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, err
	}
	// The name, in parentheses, may hold anything; what follows may not.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const startField = 22 - 3 // counted from the state, which is field 3
	if len(fields) <= startField {
		return Identity{}, thaw.Errorf("identify a process", thaw.Internal, "/proc/%d/stat has %d fields", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" { // dead; only its parent has not looked yet
		return Identity{}, fs.ErrNotExist
	}
	start, err := strconv.ParseUint(fields[startField], 10, 64)
	return Identity{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, err
}

// Record writes the identity of this process to a file. On a full disk it uses
// the room of what a predecessor wrote there.
func Record(path string) error {
	const op = "record the process"
	id, err := identify(os.Getpid())
	if err != nil {
		return thaw.Wrap(op, err)
	}
	b, err := json.Marshal(id)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	tmp := path + ".tmp"
	if err = os.WriteFile(tmp, b, 0o600); err == nil {
		return thaw.Wrap(op, os.Rename(tmp, path))
	}
	_ = os.Remove(tmp) // of no use, if it is there at all
	if overwrite(path, b) == nil {
		return nil
	}
	return thaw.Wrap(op, err)
}

// overwrite replaces the content of a file that is there.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}

// killWait bounds the wait for a killed process to be gone. One that hangs in
// the kernel longer than this needs somebody to look.
const killWait = 10 * time.Second

// KillRecorded kills the process that a file of [Record] names, waits until it
// is gone, and removes the file. If there is no such file, or the process is
// not the one that wrote it, nobody is killed.
func KillRecorded(path string) error {
	op := "kill what " + path + " names"
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return thaw.Wrap(op, err)
	}
	var id Identity
	if json.Unmarshal(b, &id) == nil && id.PID > 1 {
		if err := id.kill(); err != nil {
			return thaw.Wrap(op, err)
		}
	}
	return thaw.Wrap(op, os.Remove(path))
}

// kill holds on to the process by a descriptor, so that a new owner of its id
// can't be hit between the look and the shot.
func (id Identity) kill() error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	now, err := identify(id.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && now != id {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(killWait.Milliseconds()))
	if err == nil && n == 0 {
		return thaw.Errorf("", thaw.Unavailable, "process %d does not die", id.PID)
	}
	return err
}

// LifelineEnv names the variable that holds the number of the descriptor which
// a child watches.
const LifelineEnv = "THAW_LIFELINE"

// Lifeline returns a channel that is closed when the parent is gone, if the
// process was started with a lifeline; one that never closes else. It is to be
// called once.
func Lifeline() <-chan struct{} {
	gone := make(chan struct{})
	fd, err := strconv.Atoi(os.Getenv(LifelineEnv))
	if err != nil || fd < 3 {
		return gone
	}
	pipe := os.NewFile(uintptr(fd), "lifeline")
	go func() { // ends with the parent, or the process
		defer close(gone)
		_, _ = io.Copy(io.Discard, pipe) // nobody writes: it returns at the end
	}()
	return gone
}
