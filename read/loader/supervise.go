package loader

import (
	"context"
	"errors"
	"time"

	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/mount"
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

func (c *Client) startBoth() (processes, error) {
	h, err := proc.Start(c.config.Holder, c.config.Output)
	if err != nil {
		return processes{}, err
	}
	l, err := proc.Start(c.config.Loader, c.config.Output)
	if err != nil {
		h.Stop(stopGrace)
		return processes{}, err
	}
	return processes{holder: h, loader: l}, nil
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
			// The kernel's end of the mounts died with it.
			c.config.Log.Error("the holder died: sandboxes with mounted images fail", "err", p.holder.Err())
			p.loader.Stop(0)
			c.lost()
		}
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		var err error
		if p, err = c.replace(ctx, p, pause); err != nil {
			return // ctx ended
		}
		pause = min(2*pause, largestPause)
	}
}

// replace starts what is dead of p, and tries until it has or ctx ends.
func (c *Client) replace(ctx context.Context, p processes, pause time.Duration) (processes, error) {
	for {
		select {
		case <-ctx.Done():
			p.stop()
			return p, context.Cause(ctx)
		case <-time.After(pause):
		}
		var err error
		if ended(p.holder) {
			if err = errors.Join(mount.Detach(holder.FilesDir(c.config.RunDir))); err == nil {
				p.holder, err = restart(c.config.Holder, p.holder, c)
			}
		}
		if err == nil && ended(p.loader) {
			p.loader, err = restart(c.config.Loader, p.loader, c)
		}
		if err == nil {
			return p, nil
		}
		c.config.Log.Error("a process can't be started", "err", err)
		pause = min(2*pause, largestPause)
	}
}

// restart returns a new child, or the dead one with an error.
func restart(args []string, dead *proc.Child, c *Client) (*proc.Child, error) {
	child, err := proc.Start(args, c.config.Output)
	if err != nil {
		return dead, err
	}
	return child, nil
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

// lost forgets and detaches every mounted image, since none can be read.
func (c *Client) lost() {
	c.mounts.forget()
	if err := CleanStale(c.config.RunDir); err != nil {
		c.config.Log.Error("the mounts of a dead holder", "err", err)
	}
}
