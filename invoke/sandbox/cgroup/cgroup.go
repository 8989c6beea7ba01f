// SPDX-License-Identifier: Apache-2.0

// Package cgroup makes, limits, freezes and removes control groups, one per
// sandbox, on cgroup v1 (and hybrid) and v2 hosts alike. It knows the cgroup
// file systems and nothing of sandboxes.
//
// The groups of one instance of thaw stand together, in
// <mount>/thaw/<instance>/<id>, so that [Open] can clear what an earlier
// process of that instance left. v1 keeps that path in seven hierarchies,
// v2 in one.
package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"thaw.dev/thaw"
)

// folder is the group that holds all instances.
const folder = "thaw"

// PeriodMicros is the period of the CPU quota. The usual 100 ms would stop a
// function with 0.07 CPUs for 93 ms at a stretch; 20 ms bounds that at 19 ms
// for five times the timer interrupts.
const PeriodMicros = 20_000

// minQuotaMicros is the least quota that the kernel takes.
const minQuotaMicros = 1000

// Limits bounds a group. Zero fields are not limited.
type Limits struct {
	MemoryBytes int64   // swap included
	CPUs        float64 // hard quota, and the share under contention
	Shares      float64 // share under contention only, in CPUs
	Pids        int     // processes plus threads
}

// Memory is what a group uses.
type Memory struct {
	Current  int64 // bytes charged, page cache included
	Cache    int64 // of which page cache of files, and what else the kernel can take back
	Kernel   int64 // of which is the kernel's own, if it does not tell what of that it can take back (v1)
	Peak     int64 // the most that was charged, page cache included
	OOMKills int64 // processes killed for want of memory
}

// openAttempts bounds how often the instance's groups are made anew because
// another instance's end took the common folder away meanwhile.
const openAttempts = 100

// hierarchy is what differs between v1 and v2.
type hierarchy interface {
	// dirs lists the directories of the group at rel, one per hierarchy.
	dirs(rel string) []string
	make(rel string) error
	limit(rel string, l Limits) error
	freeze(rel string, frozen bool) error
	frozen(rel string) (bool, error)
	memory(rel string) (Memory, error)
}

// View is a mount through which a sandbox sees its own limits: runtimes size
// their heaps and thread pools by them.
type View struct {
	Name    string // directory below /sys/fs/cgroup; "" is that directory itself
	Type    string // file system type
	Options string

	// Masks are files of it that are shown with another text: "name=text". They
	// hide the CPU quota and share: runtimes would take them for a number of
	// processors, one for most functions, which is not how many there are.
	Masks []string
}

// Parent holds the groups of one instance. It is safe for concurrent use.
type Parent struct {
	h    hierarchy
	rel  string // thaw/<instance>
	kind string

	others []string // mount points of the hierarchies that are not ours
	out    outside
}

// Open finds the mounted hierarchies, removes the groups and kills the
// processes that an earlier process of the same instance left, and makes the
// instance's parent group. Two live processes must not share an instance.
// The error is [thaw.Unavailable] where the host lacks a controller.
func Open(ctx context.Context, instance string) (*Parent, error) {
	mounts, err := findMounts()
	if err != nil {
		return nil, err
	}
	h, kind, err := detect(mounts)
	if err != nil {
		return nil, err
	}
	p, err := open(ctx, h, kind, instance)
	if err != nil {
		return nil, err
	}
	ours := h.dirs("")
	for _, m := range mounts {
		if !slices.Contains(ours, m.dir) {
			p.others = append(p.others, m.dir)
		}
	}
	if err := p.clearOthers(ctx); err != nil {
		return nil, err
	}
	if err := p.keepPids(); err != nil {
		return nil, thaw.Wrap("cgroup: open "+instance, err)
	}
	return p, p.makeOutside(mounts)
}

func open(ctx context.Context, h hierarchy, kind, instance string) (*Parent, error) {
	p := &Parent{h: h, rel: filepath.Join(folder, instance), kind: kind}
	if instance == "" || instance != filepath.Base(instance) || strings.HasPrefix(instance, ".") {
		return nil, thaw.Errorf("cgroup: open", thaw.Invalid, "instance %q", instance)
	}
	if err := p.clear(ctx); err != nil {
		return nil, err
	}
	keeper := p.keeper()
	err := h.make(keeper)
	for range openAttempts {
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
		err = h.make(keeper)
	}
	if err != nil {
		return nil, thaw.Wrap("cgroup: open "+instance, err)
	}
	if err := h.freeze(keeper, true); err != nil {
		return nil, thaw.Wrap("cgroup: open "+instance, err)
	}
	return p, nil
}

// keeper is a group that is empty and frozen as long as the instance lives.
// With it the kernel's freezer is always on, and thawing another group takes
// 0.04 ms instead of 4 (docs/sandbox.md).
func (p *Parent) keeper() string { return filepath.Join(p.rel, ".frozen") }

// Kind is "v1" or "v2".
func (p *Parent) Kind() string { return p.kind }

// Path is the path of group id below each hierarchy's mount point, as a
// runtime wants it in its cgroupsPath.
func (p *Parent) Path(id string) string { return "/" + filepath.Join(p.rel, id) }

// Views lists what to mount in a cgroup namespace so that a sandbox sees its
// limits on memory, CPU and processes.
func (p *Parent) Views() []View {
	switch h := p.h.(type) {
	case *v1:
		return h.views()
	case *v2:
		return h.views()
	}
	return nil
}

// Make makes the group id in every hierarchy.
func (p *Parent) Make(id string) (*Group, error) {
	g := &Group{h: p.h, rel: filepath.Join(p.rel, id)}
	if err := p.h.make(g.rel); err != nil {
		_ = rmdirs(p.h.dirs(g.rel)) // err says what failed
		return nil, thaw.Wrap("cgroup: make "+id, err)
	}
	if h, ok := p.h.(*v1); ok {
		if err := errors.Join(h.denyDevices(g.rel), h.limitSockets(g.rel, leastSockets)); err != nil {
			_ = rmdirs(p.h.dirs(g.rel))
			return nil, thaw.Wrap("cgroup: make "+id, err)
		}
	}
	return g, nil
}

// Dirs lists the directories of group id by the names of [Parent.Views].
func (p *Parent) Dirs(id string) map[string]string {
	dirs := map[string]string{}
	switch h := p.h.(type) {
	case *v1:
		for _, mount := range []string{h.mem, h.cpu, h.cpuacct, h.cpuset, h.pids} {
			if mount != "" {
				dirs[filepath.Base(mount)] = filepath.Join(mount, p.rel, id)
			}
		}
	case *v2:
		dirs[""] = filepath.Join(h.root, p.rel, id)
	}
	return dirs
}

// Close removes the instance's groups; those of sandboxes must be gone.
func (p *Parent) Close(ctx context.Context) error {
	if p.out.unified != nil {
		_ = p.out.unified.Close()
		p.out.unified = nil
	}
	return p.clear(ctx)
}

// clear removes the parent with all that is below it, and kills what runs there.
func (p *Parent) clear(ctx context.Context) error {
	ids := map[string]bool{}
	for _, dir := range p.h.dirs(p.rel) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return thaw.Wrap("cgroup: clear", err)
		}
		for _, e := range entries {
			if e.IsDir() {
				ids[e.Name()] = true
			}
		}
	}
	var errs []error
	for id := range ids {
		g := &Group{h: p.h, rel: filepath.Join(p.rel, id)}
		errs = append(errs, g.Kill(ctx), g.Remove(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return thaw.Wrap("cgroup: clear "+p.rel, err)
	}
	parent := &Group{h: p.h, rel: p.rel}
	if err := parent.Remove(ctx); err != nil {
		return err
	}
	for _, dir := range p.h.dirs(folder) {
		_ = syscall.Rmdir(dir) // stays where another instance is below it, with all that it has
	}
	return p.clearOthers(ctx)
}

// clearOthers removes the instance's groups from the hierarchies that are not
// ours: an OCI runtime makes them in every one, and what is outside is there. No
// sandbox runs any more.
func (p *Parent) clearOthers(ctx context.Context) error {
	var dirs []string
	for _, mount := range p.others {
		dirs = append(dirs, filepath.Join(mount, p.rel))
	}
	g := &Group{h: p.h, rel: p.rel}
	err := g.await(ctx, "cgroup: clear", func() (bool, error) {
		for _, dir := range dirs {
			killOutside(filepath.Join(dir, outsideName))
		}
		err := rmdirs(dirs)
		if errors.Is(err, syscall.EBUSY) {
			return false, nil
		}
		return err == nil, err
	})
	for _, dir := range dirs {
		_ = syscall.Rmdir(filepath.Dir(dir))
	}
	return err
}

// Group is the control group of one sandbox, in every hierarchy. It is safe
// for concurrent use.
type Group struct {
	h   hierarchy
	rel string
}

// Add moves a process with all its threads into the group.
func (g *Group) Add(pid int) error {
	for _, dir := range g.h.dirs(g.rel) {
		if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return thaw.Wrap("cgroup: add", err)
		}
	}
	return nil
}

// Limit puts limits in force; fields that are zero stay as they were.
func (g *Group) Limit(l Limits) error {
	return thaw.Wrap("cgroup: limit", g.h.limit(g.rel, l))
}

// Memory returns what the group uses now and used at most.
func (g *Group) Memory() (Memory, error) {
	m, err := g.h.memory(g.rel)
	return m, thaw.Wrap("cgroup: memory", err)
}

// Freeze returns once every process of the group is stopped.
func (g *Group) Freeze(ctx context.Context) error {
	if err := g.h.freeze(g.rel, true); err != nil {
		return thaw.Wrap("cgroup: freeze", err)
	}
	return g.await(ctx, "cgroup: freeze", func() (bool, error) { return g.h.frozen(g.rel) })
}

// Thaw lets the processes of the group run again.
func (g *Group) Thaw() error {
	return thaw.Wrap("cgroup: thaw", g.h.freeze(g.rel, false))
}

// Procs lists the processes of the group.
func (g *Group) Procs() ([]int, error) {
	seen := map[int]bool{}
	var pids []int
	for _, dir := range g.h.dirs(g.rel) {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return nil, thaw.Wrap("cgroup: processes", err)
		}
		for line := range strings.Lines(string(text)) {
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err == nil && pid > 0 && !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Kill kills every process of the group and returns once none is left. A
// group that is gone has none. Against a process that forks all the time it
// freezes the group first, so that no child escapes between list and kill.
func (g *Group) Kill(ctx context.Context) error {
	return g.await(ctx, "cgroup: kill", func() (bool, error) {
		pids, err := g.Procs()
		if err != nil || len(pids) == 0 {
			return err == nil, err
		}
		// A freeze that is not complete yet already stops most of them; the
		// rest is met in the next round.
		_ = g.h.freeze(g.rel, true)
		if pids, err = g.Procs(); err != nil {
			return false, err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := g.h.freeze(g.rel, false); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		return false, nil
	})
}

// Remove removes the group. A group that is gone is no error. The kernel
// refuses for a moment after the last process ended, so it is tried again
// until ctx ends.
func (g *Group) Remove(ctx context.Context) error {
	return g.await(ctx, "cgroup: remove", func() (bool, error) {
		err := rmdirs(g.h.dirs(g.rel))
		if errors.Is(err, syscall.EBUSY) {
			return false, nil
		}
		return err == nil, err
	})
}

// await calls done until it reports true, first at once, then at intervals
// that grow from 20 us to 2 ms.
func (g *Group) await(ctx context.Context, op string, done func() (bool, error)) error {
	pause := 20 * time.Microsecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		ok, err := done()
		if err != nil {
			return thaw.Wrap(op, err)
		}
		if ok {
			return nil
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return thaw.Errorf(op, thaw.Unavailable, "%s: %w", g.rel, ctx.Err())
		case <-timer.C:
		}
		pause = min(2*pause, 2*time.Millisecond)
	}
}

// rmdirs removes directories, those below them first; what is missing is no
// error.
func rmdirs(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				errs = append(errs, rmdirs([]string{filepath.Join(dir, e.Name())}))
			}
		}
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, &os.PathError{Op: "rmdir", Path: dir, Err: err})
		}
	}
	return errors.Join(errs...)
}

// write writes a value to a file that must exist: a cgroup's files are made by
// the kernel, so creating one would hide a mistake. It spares itself package
// os, which gives the files of a cgroup to the poller: six more system calls,
// and another thread awake.
func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	fd, err := retry(func() (int, error) { return syscall.Open(path, syscall.O_WRONLY|syscall.O_TRUNC|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	if _, err := retry(func() (int, error) { return syscall.Write(fd, []byte(value)) }); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// retry calls do again while a signal interrupts it, as one of Go's scheduler
// may.
func retry(do func() (int, error)) (int, error) {
	for {
		if n, err := do(); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
