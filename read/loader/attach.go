// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/mount"
)

// Root is an attached image.
type Root struct {
	Dir     string // the image, mounted read-only
	Started func() // the start is over: what it read is recorded. Does not wait
	Release func() // nobody uses Dir any more. Exactly once

	// Lost is closed once the image can't be read any more, since the kernel has
	// given up what it is mounted from: by an abort of the connection, or by the
	// death of both processes at once. Whoever uses Dir is to stop.
	Lost <-chan struct{}
	// Sound asks whether the image can still be read. False is certain, and may
	// come before Lost is closed; it is for who has met an error.
	Sound func(context.Context) bool
}

// mounts are the mounted images.
type mounts struct {
	idleMax int

	mu   sync.Mutex // guards what is below; not held across I/O
	made int        // mounts made so far; each has a folder of its own
	byID map[thaw.ImageID]*mounted
	idle []*mounted    // those without users, the longest idle first
	lost chan struct{} // closed when the mounts there are now are lost
}

// mounted is one image's mount. There is one however many sandboxes use it, so
// that they share the kernel's caches.
type mounted struct {
	tenant thaw.TenantID
	id     thaw.ImageID
	dir    string
	lost   <-chan struct{} // closed when the mount, done or not, is lost

	users int // guarded by mounts.mu; whoever waits for the lock below counts

	mu   sync.Mutex // held while it is mounted or unmounted
	done bool       // it is mounted
	gone bool       // it was unmounted, or lost: look again

	metaBytes int64 // of the image; set once it is done
}

// Attach mounts the image, unless it is, and returns it. Where this makes the
// mount, and recordKey is not empty, what is read of the image until
// Root.Started is recorded under it, and what was recorded is fetched ahead:
// in a mount that was there before, the kernel has much of it already, and a
// record would say little. report, if it is not nil, is told once, after
// Root.Started or Root.Release, what was seen of the start; it must not block.
// Errors: those of [view.Open], and [thaw.Unavailable].
func (c *Client) Attach(ctx context.Context, tenant thaw.TenantID, image thaw.ImageID, recordKey string, report func(Report)) (Root, error) {
	op := "attach image " + image.String()
	for {
		m, err := c.mounts.use(tenant, image, c.config.RunDir)
		if err != nil {
			return Root{}, thaw.Wrap(op, err)
		}
		token, seen, again, err := c.ensure(ctx, m, recordKey)
		if err != nil {
			c.release(m)
			return Root{}, thaw.Wrap(op, err)
		}
		if again {
			c.release(m)
			time.Sleep(callRetry) // what was lost is being replaced
			continue
		}
		if report == nil {
			report = func(Report) {}
		}
		var over sync.Once
		return c.root(m, func(abandon bool) {
			over.Do(func() {
				if token == 0 {
					report(seen)
					return
				}
				c.endStart(m, endRequest{Token: token, Abandon: abandon}, seen, report)
			})
		}), nil
	}
}

// root is what a caller gets of a mount, with what ends the start.
func (c *Client) root(m *mounted, end func(abandon bool)) Root {
	return Root{
		Dir:     m.dir,
		Lost:    m.lost,
		Sound:   func(ctx context.Context) bool { return c.sound(ctx, m) },
		Started: func() { end(false) },
		Release: sync.OnceFunc(func() {
			end(true) // a start that never was
			c.release(m)
		}),
	}
}

// use counts a user of the image's mount, which may be yet to be made.
func (s *mounts) use(tenant thaw.TenantID, image thaw.ImageID, runDir string) (*mounted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[image]
	if m == nil {
		if s.byID == nil {
			s.byID = map[thaw.ImageID]*mounted{}
		}
		s.made++
		dir := filepath.Join(holder.MountsDir(runDir), image.String()+"-"+strconv.Itoa(s.made))
		m = &mounted{tenant: tenant, id: image, dir: dir, lost: s.lost}
		s.byID[image] = m
	}
	if m.tenant != tenant {
		return nil, thaw.Errorf("", thaw.Denied, "it is not tenant %s's", tenant)
	}
	if m.users == 0 {
		s.idle = without(s.idle, m)
	}
	m.users++
	return m, nil
}

func without(list []*mounted, m *mounted) []*mounted {
	kept := list[:0:0]
	for _, other := range list {
		if other != m {
			kept = append(kept, other)
		}
	}
	return kept
}

// ensure makes the mount if it is not there, and says when. again means that it
// was taken away since it was found.
func (c *Client) ensure(ctx context.Context, m *mounted, recordKey string) (token int, seen Report, again bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done && !mount.IsMounted(m.dir) { // somebody has unmounted it
		c.mounts.drop(m)
		m.gone = true
	}
	if m.gone || m.done {
		return 0, seen, m.gone, nil
	}
	c.opening.RLock()
	defer c.opening.RUnlock()
	seen.Opening = time.Now()
	opened, err := call[openAnswer](ctx, c, "open", imageRequest{Tenant: m.tenant, Image: m.id, Record: recordKey})
	if err != nil {
		return 0, seen, false, err
	}
	seen.Opened = time.Now()
	c.readAhead(m.id, opened)
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return 0, seen, false, err
	}
	err = c.images.Mount(c.file(m.id), m.dir)
	seen.Mounted = time.Now()
	if closed(m.lost) || err != nil && !c.sound(ctx, m) { // the files were lost meanwhile
		c.mounts.drop(m)
		m.gone = true
		return 0, seen, true, errors.Join(mount.Detach(m.dir), ignoreMissing(os.Remove(m.dir)))
	}
	if err != nil {
		return 0, seen, false, err
	}
	m.done, m.metaBytes = true, opened.MetaBytes
	return opened.Token, seen, false, nil
}

// soundTimeout bounds how long it may take to know whether a mount is lost:
// until dead processes have successors.
const soundTimeout = 5 * time.Second

// sound reports whether an image can still be read. While a process is being
// replaced nobody knows, so that is waited for.
func (c *Client) sound(ctx context.Context, m *mounted) bool {
	ctx, cancel := context.WithTimeout(ctx, soundTimeout)
	defer cancel()
	for {
		err := c.check(ctx)
		if closed(m.lost) || errors.Is(err, holder.ErrGone) {
			return false
		}
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(callRetry):
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// endStart tells the loader of the end of a start, apart from who answers the
// invocation, and report what both have seen.
func (c *Client) endStart(m *mounted, e endRequest, seen Report, report func(Report)) {
	c.supervised.Go(func() {
		c.dropFile(m.id, m.metaBytes)
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		r, err := call[Report](ctx, c, "started", e)
		if err != nil {
			c.config.Log.Warn("a start was not recorded", "err", err)
		}
		r.Opening, r.Opened, r.Mounted = seen.Opening, seen.Opened, seen.Mounted
		report(r)
	})
}

// release counts a user out. The mount stays for the next start, within the
// bound on idle ones.
func (c *Client) release(m *mounted) {
	for _, old := range c.mounts.unuse(m) {
		if err := c.unmount(old); err != nil {
			c.config.Log.Warn("an idle image can't be unmounted", "image", old.id, "err", err)
		}
	}
}

// unuse returns the mounts that are now too many, which nobody can find any
// more.
func (s *mounts) unuse(m *mounted) []*mounted {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.users--
	if m.users > 0 {
		return nil
	}
	if s.byID[m.id] != m { // it is lost, or was unmounted by somebody
		return []*mounted{m}
	}
	s.idle = append(s.idle, m)
	return s.takeIdleLocked(len(s.idle) - s.idleMax)
}

// takeIdleLocked takes the n longest idle mounts out.
func (s *mounts) takeIdleLocked(n int) []*mounted {
	if n <= 0 {
		return nil
	}
	taken := s.idle[:n:n]
	s.idle = append([]*mounted(nil), s.idle[n:]...)
	for _, m := range taken {
		delete(s.byID, m.id)
	}
	return taken
}

// drop takes a mount out that is of no more use. Its last user takes down what
// is left of it.
func (s *mounts) drop(m *mounted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[m.id] == m {
		delete(s.byID, m.id)
	}
}

// forget takes every mount out: their images are lost.
func (s *mounts) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byID)
	s.idle = nil
	close(s.lost)
	s.lost = make(chan struct{})
}

// unmount takes a mount away that nobody can find any more. A start of the
// same image that began meanwhile has its own.
func (c *Client) unmount(m *mounted) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	if !m.done {
		return nil
	}
	m.done = false
	if err := mount.Detach(m.dir); err != nil || closed(m.lost) {
		return errors.Join(err, ignoreMissing(os.Remove(m.dir)))
	}
	c.dropFile(m.id, 0)
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	drop := c.noOpening()
	if drop {
		defer c.opening.Unlock()
		drop = !c.mounts.has(m.id)
	}
	_, err := call[struct{}](ctx, c, "close", imageRequest{Tenant: m.tenant, Image: m.id, Drop: drop})
	return errors.Join(err, ignoreMissing(os.Remove(m.dir)))
}

// noOpening takes the lock that no image is being opened under, unless that takes
// too long: the file of an image that stays is next to nothing.
func (c *Client) noOpening() bool {
	for range 100 {
		if c.opening.TryLock() {
			return true
		}
		time.Sleep(callRetry)
	}
	return false
}

// has reports whether there is a mount of the image that can be found.
func (s *mounts) has(image thaw.ImageID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[image] != nil
}

// DropKernel unmounts the images that no sandbox uses, and with them what the
// kernel has cached of them. It returns how many these were.
func (c *Client) DropKernel(context.Context) (images int, err error) {
	c.mounts.mu.Lock()
	taken := c.mounts.takeIdleLocked(len(c.mounts.idle))
	c.mounts.mu.Unlock()
	var failed []error
	for _, m := range taken {
		failed = append(failed, c.unmount(m))
	}
	return len(taken), errors.Join(failed...)
}
