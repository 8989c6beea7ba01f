// SPDX-License-Identifier: Apache-2.0

// Package tmpdisk makes the /tmp of sandboxes: each a small ext4 file system of
// its own, in a sparse file of the host without a name, behind a loop device.
// It counts as disk, not as the function's memory, and a function that fills it
// gets ENOSPC. Whatever ends, by itself or with this process, the kernel takes
// back: nothing is ever left on the host's disk.
//
// Files: store.go keeps disks ahead and all of them within bounds; disk.go is
// one disk; format.go its bytes; loop.go its device and mount.
package tmpdisk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/ahead"
	"thaw.dev/thaw/invoke/sandbox"
)

const (
	// look is how often the use of all disks is compared with their bound, and
	// lookClose where less than closeBytes are left.
	look       = 250 * time.Millisecond
	lookClose  = 50 * time.Millisecond
	closeBytes = 2 << 30

	// refillPause lets the start that took a disk go first.
	refillPause = 50 * time.Millisecond
	retryPause  = 5 * time.Second

	// keptPart of the host's file system is left free, and at least keptLeast
	// but at most keptMost: others write to it too, and between two looks a
	// function writes some hundred megabytes.
	keptPart  = 50
	keptLeast = 64 << 20
	keptMost  = 2 << 30
)

// Config configures a [Store].
type Config struct {
	// Dir is a folder on the file system that holds the disks. It stays empty.
	Dir string

	// Bytes bounds what all disks together hold of it; 0 is no bound but the
	// file system's own.
	Bytes int64

	// Ahead is how many disks of Lambda's default size wait made.
	Ahead int

	// Log takes what goes wrong behind the scenes; nil discards.
	Log *slog.Logger
}

// Stats is what a store holds.
type Stats struct {
	Disks int   // of sandboxes, and waiting
	Bytes int64 // of the host's disk that they hold, or have promised to files
	Bound int64 // of Bytes; 0 is none
	Full  bool  // functions get ENOSPC until there is room
	Short int   // owners whose functions get ENOSPC until they hold less
}

// Store makes disks, and holds them within bounds. It is safe for concurrent
// use.
type Store struct {
	config  Config
	log     *slog.Logger
	ahead   *ahead.Pool[*Disk]
	stop    context.CancelFunc
	working sync.WaitGroup // watch
	closing sync.WaitGroup // disks that end

	mu     sync.Mutex // guards what follows, and Disk.owner, closed and failing of those in all
	all    map[*Disk]struct{}
	full   bool
	short  map[string]bool // owners that hold as much as they may
	closed bool
}

// Open opens a store and begins to make disks ahead. The error is
// [thaw.Unavailable] where the host can't have any.
func Open(config Config) (*Store, error) {
	s := &Store{config: config, log: config.Log, all: map[*Disk]struct{}{}, short: map[string]bool{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil && !isFull(err) {
		return nil, thaw.Wrap("tmpdisk: open", err)
	}
	probe, err := s.make(1 << 20)
	switch {
	case err == nil:
		probe.close()
	case isFull(err):
		s.log.Warn("the disk for /tmp is full: functions start with a /tmp of 1 MB", "folder", config.Dir)
	default:
		return nil, thaw.Errorf("tmpdisk: open", thaw.Unavailable,
			"functions' /tmp needs ext4 and loop devices (/dev/loop-control) on this host: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.ahead = ahead.New(ahead.Options[*Disk]{
		Size: config.Ahead, Make: s.makeAhead, Failed: s.tellFailed, Pause: refillPause, Retry: retryPause,
	})
	s.working.Go(func() { s.watch(ctx) })
	return s, nil
}

// Take returns a disk of that size. Where the host has no room for it, it is
// one of the default size in name only (see [Disk.Short]); of more than that
// the error is a [sandbox.TmpShortError]. All disks of an owner together hold at most as much
// as is left free then, so that there is some for the next owner; those of "" are bounded
// only with all others.
func (s *Store) Take(owner string, bytes int64) (*Disk, error) {
	if bytes == sandbox.DefaultTmpBytes {
		if d, ok := s.ahead.Take(); ok {
			s.give(d, owner)
			return d, nil
		}
	}
	if free, _ := s.room(s.use()); bytes > sandbox.DefaultTmpBytes && free < bytes {
		return nil, thaw.Errorf("tmpdisk: take", thaw.Unavailable, "%d MB are free: %w", max(0, free)>>20, &sandbox.TmpShortError{Wanted: bytes})
	}
	d, err := s.make(bytes)
	if isFull(err) {
		d, err = s.fallback()
	}
	if err != nil {
		return nil, thaw.Wrap("tmpdisk: take", err)
	}
	d.owner = owner
	return d, s.admit(d)
}

// give makes a disk that has waited an owner's.
func (s *Store) give(d *Disk, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.owner = owner
	s.turn(d)
}

// admit counts a new disk. On error it is gone.
func (s *Store) admit(d *Disk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := d.turn(s.dry(d))
	if s.closed {
		err = thaw.Errorf("tmpdisk: take", thaw.Unavailable, "the store is closed")
	}
	if err != nil {
		s.closing.Go(d.close)
		return err
	}
	s.all[d] = struct{}{}
	return nil
}

// forget reports whether the disk was one of the store's.
func (s *Store) forget(d *Disk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.all[d]
	delete(s.all, d)
	return was
}

// Ready returns once all disks that are to wait are made, or when ctx ends.
func (s *Store) Ready(ctx context.Context) error {
	return thaw.Wrap("tmpdisk: ready", s.ahead.Ready(ctx))
}

func (s *Store) makeAhead(context.Context) (*Disk, error) {
	d, err := s.make(sandbox.DefaultTmpBytes)
	if err != nil {
		return nil, err
	}
	return d, s.admit(d)
}

// tellFailed logs what keeps disks from being made ahead; watch tells of a full disk.
func (s *Store) tellFailed(err error) bool {
	if isFull(err) {
		return false
	}
	s.log.Error("no disk for /tmp can be made ahead; it is tried again", "error", err)
	return true
}

// watch holds the disks within their bounds until ctx ends.
func (s *Store) watch(ctx context.Context) {
	for {
		pause := look
		if s.check() < closeBytes {
			pause = lookClose
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// check closes the taps of all disks where no room is left, and those of an
// owner who holds more than that, and opens them once there is some again. It
// returns the room.
func (s *Store) check() int64 {
	u := s.use()
	room, scarce := s.room(u)
	s.mu.Lock()
	defer s.mu.Unlock()
	full := room <= 0
	if s.full && room < keptLeast/2 {
		full = true
	}
	if full != s.full {
		if full {
			s.log.Warn("the disk for /tmp is full: functions get ENOSPC until there is room", "folder", s.config.Dir, "because", scarce)
		} else {
			s.log.Info("the disk for /tmp has room again", "folder", s.config.Dir)
		}
		s.full = full
	}
	if !full {
		s.judge(u, room)
	}
	for d := range s.all {
		s.turn(d)
		if d.closed && d.file != nil {
			if held, _ := d.use(); held-d.files() > dirtyBytes {
				d.trim()
			}
		}
	}
	return room
}

// judge finds the owners that hold more than is left.
func (s *Store) judge(u usage, room int64) {
	for owner := range s.short {
		if _, ok := u.owners[owner]; !ok {
			delete(s.short, owner)
		}
	}
	for owner, bytes := range u.owners {
		was := s.short[owner]
		switch short := bytes > room || was && bytes > room-keptLeast/2; {
		case owner == "":
		case short && !was:
			s.short[owner] = true
			s.log.Warn("a tenant's /tmp hold as much as is left for all others: its functions get ENOSPC until they hold less",
				"tenant", owner, "mb", bytes>>20, "left_mb", room>>20)
		case was && !short:
			delete(s.short, owner)
			s.log.Info("a tenant's /tmp have room again", "tenant", owner)
		}
	}
}

// dry reports whether a disk takes no more now; s.mu is held.
func (s *Store) dry(d *Disk) bool { return s.full || s.short[d.owner] }

// turn opens or closes a disk's tap; s.mu is held.
func (s *Store) turn(d *Disk) {
	err := d.turn(s.dry(d))
	if err != nil && !d.failing {
		s.log.Error("the room of a disk for /tmp can't be changed", "error", err)
	}
	d.failing = err != nil
}

// room returns how many bytes more the disks may hold, which may be negative, and
// in words what allows no more.
func (s *Store) room(u usage) (room int64, scarce string) {
	room = int64(1) << 62
	var fs unix.Statfs_t
	err := unix.Statfs(s.config.Dir, &fs)
	if errors.Is(err, unix.ENOENT) && os.MkdirAll(s.config.Dir, 0o700) == nil { // removed by hand
		err = unix.Statfs(s.config.Dir, &fs)
	}
	if err == nil {
		all := int64(fs.Blocks) * fs.Bsize
		kept := min(keptMost, max(keptLeast, all/keptPart))
		room = int64(fs.Bavail)*fs.Bsize - u.promised - kept
		scarce = fmt.Sprintf("the file system is nearly full: %d MB are free, of which %d MB are kept free", int64(fs.Bavail)*fs.Bsize>>20, kept>>20)
	}
	if left := s.config.Bytes - u.held - u.promised; s.config.Bytes > 0 && left < room {
		room, scarce = left, fmt.Sprintf("all /tmp together hold %d MB, as many as they may", (u.held+u.promised)>>20)
	}
	return room, scarce
}

// usage is what the disks have of the host's.
type usage struct {
	held, promised int64
	owners         map[string]int64 // both, by owner
}

func (s *Store) use() usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := usage{owners: map[string]int64{}}
	for d := range s.all {
		h, p := d.use()
		u.held, u.promised = u.held+h, u.promised+p
		u.owners[d.owner] += h + p
	}
	return u
}

// Stats returns what the store holds now.
func (s *Store) Stats() Stats {
	u := s.use()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Disks: len(s.all), Bytes: u.held + u.promised, Bound: s.config.Bytes, Full: s.full, Short: len(s.short)}
}

// Close ends the disks that wait, and returns once those are gone that were
// released. Sandboxes must have released theirs.
func (s *Store) Close(ctx context.Context) error {
	s.stop()
	s.working.Wait()
	idle := s.ahead.Close()
	s.mu.Lock()
	s.closed = true
	left := len(s.all) - len(idle)
	s.mu.Unlock()
	for _, d := range idle {
		d.Release()
	}
	done := make(chan struct{})
	go func() { s.closing.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return thaw.Wrap("tmpdisk: close", ctx.Err())
	}
	if left > 0 {
		return errors.New(fmt.Sprint("tmpdisk: close: ", left, " disks are still used"))
	}
	return nil
}

// isFull reports whether err says that the host's disk has no room.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
