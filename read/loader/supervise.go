// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"errors"
	"slices"
	"time"

	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/proc"
)

const (
	// stopGrace is how long a process may take to end before it is killed. The
	// loader waits for nobody, and the holder detaches its mounts.
	stopGrace = 5 * time.Second

	// A loader that dies is replaced at once, since readers wait for it; one
	// that dies again and again with a pause that doubles up to the largest.
	firstPause   = 10 * time.Millisecond
	largestPause = 2 * time.Second

	// steadyAfter is how long a loader must have lived for its death not to
	// count as another in a row.
	steadyAfter = 10 * time.Second
)

// processes are the two children.
type processes struct{ holder, loader *proc.Child }

// startBoth starts both anew, with a mount of their own, where there is none.
func (c *Client) startBoth(ctx context.Context) (processes, error) {
	h, err := c.startHolder(ctx)
	if err != nil {
		return processes{}, err
	}
	l, err := c.startLoader(ctx)
	if err != nil {
		h.Stop(stopGrace)
		return processes{}, err
	}
	return processes{holder: h, loader: l}, nil
}

func (c *Client) startHolder(ctx context.Context, flags ...string) (*proc.Child, error) {
	return c.startChild(ctx, "holder", append(slices.Clone(c.config.Holder), flags...), c.check)
}

func (c *Client) startLoader(ctx context.Context) (*proc.Child, error) {
	return c.startChild(ctx, "loader", c.config.Loader, c.ping)
}

// startChild starts one process and watches over it until ctx ends.
func (c *Client) startChild(ctx context.Context, name string, args []string, ask func(context.Context) error) (*proc.Child, error) {
	child, err := proc.Start(args, c.config.Output)
	if err != nil {
		return nil, err
	}
	c.supervised.Go(func() { c.watch(ctx, name, child, ask) })
	return child, nil
}

// supervise replaces what dies until ctx ends, and then ends both.
func (c *Client) supervise(ctx context.Context, p processes) {
	pause := firstPause
	for {
		began := time.Now()
		select {
		case <-ctx.Done():
			p.stop()
			return
		case <-p.loader.Done():
			c.config.Log.Error("the loader died; a successor takes over", "err", p.loader.Err())
		case <-p.holder.Done():
			c.config.Log.Error("the holder died; a successor takes over", "err", p.holder.Err())
		}
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		for both := false; !both; pause = min(2*pause, largestPause) {
			select {
			case <-ctx.Done():
				p.stop()
				return
			case <-time.After(pause):
			}
			var err error
			if p, err = c.replace(ctx, p); err != nil && ctx.Err() == nil {
				c.config.Log.Error("a process can't be started", "err", err)
			}
			both = err == nil
		}
	}
}

// replace starts what is dead of p. The mount lives on in the process that is
// not. Where both are dead, or the kernel has given the mount up, all that is
// mounted is lost and both begin anew.
func (c *Client) replace(ctx context.Context, p processes) (processes, error) {
	var err error
	switch {
	case ended(p.holder) && !ended(p.loader):
		var successor *proc.Child
		if successor, err = c.startHolder(ctx, "--adopt"); err != nil {
			return p, err
		}
		p.holder = successor
		if c.alive(ctx, successor) {
			return p, nil
		}
	case !ended(p.holder) && c.alive(ctx, p.holder):
		var successor *proc.Child
		if successor, err = c.startLoader(ctx); err == nil {
			p.loader = successor
		}
		return p, err
	}
	if ctx.Err() != nil {
		return p, ctx.Err()
	}
	p.loader.Stop(0)
	p.holder.Stop(0)
	c.config.Log.Error("mounted images are lost: what runs on them is stopped, what starts gets new mounts")
	if err := c.lost(); err != nil {
		return p, err
	}
	anew, err := c.startBoth(ctx)
	if err != nil {
		return p, err
	}
	return anew, nil
}

// alive reports whether a holder has a mount that lives, and waits until it
// says so. One that ends meanwhile has none.
func (c *Client) alive(ctx context.Context, child *proc.Child) bool {
	for begin := time.Now(); !ended(child) && time.Since(begin) < 2*beatTimeout; {
		asking, cancel := context.WithTimeout(ctx, beatTimeout)
		err := c.check(asking)
		cancel()
		if err == nil {
			return true
		}
		if errors.Is(err, holder.ErrGone) || ctx.Err() != nil {
			return false
		}
		time.Sleep(firstPause)
	}
	return false
}

func ended(p *proc.Child) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// stop ends the loader first: the holder takes the mounts down.
func (p processes) stop() {
	p.loader.Stop(stopGrace)
	p.holder.Stop(stopGrace)
}

// lost forgets every mounted image, tells who uses them, and detaches them.
func (c *Client) lost() error {
	c.mounts.forget()
	if err := CleanStale(c.config.RunDir); err != nil {
		return err
	}
	return c.makeFolders()
}
