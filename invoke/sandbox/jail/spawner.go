// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/pid1"
)

// spawnRequest asks the spawner to clone an init.
type spawnRequest struct {
	slot   int
	remote *os.File
	reply  chan<- spawnReply // of capacity 1
}

type spawnReply struct {
	process *os.Process
	err     error
}

// spawn clones an init through the spawner.
func (l *Launcher) spawn(ctx context.Context, slot int, remote *os.File) (*os.Process, error) {
	reply := make(chan spawnReply, 1)
	select {
	case l.spawns <- spawnRequest{slot: slot, remote: remote, reply: reply}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closing:
		return nil, thaw.Errorf("jail: spawn", thaw.Unavailable, "the launcher is closed")
	}
	// Once accepted a request is answered: to leave would lose the process.
	r := <-reply
	return r.process, r.err
}

// spawner clones every init from one thread that lives as long as the
// launcher. The kernel sends the parent-death signal when the thread that
// cloned ends, not the process.
func (l *Launcher) spawner() {
	for {
		select {
		case r := <-l.spawns:
			process, err := pid1.OwnedBy(r.slot, func() (*os.Process, error) { return l.clone(r.slot, r.remote) })
			r.reply <- spawnReply{process, err}
		case <-l.gone:
			return
		}
	}
}

func (l *Launcher) clone(slot int, remote *os.File) (*os.Process, error) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: pid1.HostID(slot), Size: pid1.IDsPerSlot}}
	return os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", l.program.Fd()), []string{"thaw-init"}, &os.ProcAttr{
		Dir: "/",
		// One running thread is enough for init, and nothing it does makes
		// garbage worth collecting.
		Env:   []string{"GOMAXPROCS=1", "GOGC=off"},
		Files: []*os.File{l.null, l.null, l.null, remote},
		Sys: l.groups.Born(&syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC |
				syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			// Without an id in the new namespace, capabilities vanish at exec.
			Credential: &syscall.Credential{Uid: 0, Gid: 0},
			Pdeathsig:  syscall.SIGKILL,
			Setsid:     true,
		}),
	})
}
