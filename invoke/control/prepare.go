// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/google/uuid"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/program"
)

const (
	// storeAttempts bounds how often the outcome of a preparation is written.
	// If the database takes it not even then, the next start prepares again,
	// which costs little: the chunks are there.
	storeAttempts = 6
)

// job is a preparation under way.
type job struct {
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	progress Progress
}

// errAbandoned is the cause that ends a preparation nobody waits for any more.
var errAbandoned = errors.New("the function was deleted")

// prepare begins the preparation of f.Next, which f's record names already.
func (c *Control) prepare(f *Function) {
	ctx, cancel := context.WithCancelCause(c.work)
	j := &job{cancel: cancel, progress: Progress{Stage: "waiting"}}
	c.mu.Lock()
	c.jobs[f.Next.Job] = j
	c.mu.Unlock()
	k, next := key{f.Tenant, f.Name}, *f.Next
	c.group.Go(func() {
		defer cancel(nil)
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.jobs, next.Job)
		}()
		p := &preparation{Control: c, key: k, next: next, job: j, turn: c.options.Turn}
		prepared, err := p.run(ctx)
		if err != nil && ctx.Err() != nil {
			p.survived(ctx)
			return // closing: the next start begins again; or deleted
		}
		c.store(ctx, k, next, prepared, err)
	})
}

// abandon ends a preparation whose function is gone.
func (c *Control) abandon(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.jobs[id]; j != nil {
		j.cancel(errAbandoned)
	}
}

// Progress returns how far the preparation for f is, and whether there is one.
func (c *Control) Progress(f *Function) (Progress, bool) {
	if f.Next == nil {
		return Progress{}, false
	}
	c.mu.Lock()
	j := c.jobs[f.Next.Job]
	c.mu.Unlock()
	if j == nil {
		return Progress{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.progress, true
}

// checkProgram refuses an image whose configuration no kernel could start a
// program with, whatever the function's settings say.
func checkProgram(p Prepared) error {
	if err := program.CheckImage(p.Entrypoint, p.Command, p.Env, p.WorkingDir); err != nil {
		return thaw.Errorf("its configuration", thaw.Invalid, "%w", err)
	}
	return nil
}

// checkCommand refuses an image that a function could not start anything of. What
// the function names instead counts, as it does at a start.
func checkCommand(own ImageConfig, p Prepared) error {
	words := slices.Concat(orElse(own.EntryPoint, p.Entrypoint), orElse(own.Command, p.Command))
	switch {
	case len(words) == 0:
		return thaw.Errorf("its configuration", thaw.Invalid, "neither the image nor the function names a command: give the image an ENTRYPOINT or CMD")
	case words[0] == "":
		return thaw.Errorf("its configuration", thaw.Invalid, "the first word of the command is empty")
	}
	return nil
}

// orElse returns a list, or another one where it is empty.
func orElse(own, other []string) []string {
	if len(own) > 0 {
		return own
	}
	return other
}

// store writes the outcome of a preparation into the function's record.
func (c *Control) store(ctx context.Context, k key, next Code, prepared Prepared, failure error) {
	log := c.options.Log.With("tenant", k.tenant, "function", k.name, "image", next.ImageURI, "digest", next.Digest)
	next.Prepared = prepared
	delay := c.options.RetryDelay
	for try := 1; ; try++ {
		replaced := false
		// Closing should not undo minutes of work for a write of milliseconds.
		_, err := c.modify(context.WithoutCancel(ctx), k, func(f *Function) error {
			if f.Next == nil || f.Next.Job != next.Job {
				return errAbandoned // deleted, and perhaps made anew
			}
			replaced = f.Code != nil
			if failure == nil {
				failure = checkCommand(f.Settings.ImageConfig, prepared)
			}
			f.settle(next, failure)
			return nil
		})
		switch {
		case err == nil && failure != nil:
			level := slog.LevelWarn
			if code, _ := reasonFor(failure); code == ReasonInternalError {
				level = slog.LevelError // the operator's to repair, not the function's owner's
			}
			log.Log(ctx, level, "function: image could not be prepared", "error", failure)
			return
		case err == nil:
			c.countImages(context.WithoutCancel(ctx), k.tenant)
			log.Info("function: image is ready", "bytes", prepared.Bytes, "image_id", prepared.Image)
			if replaced {
				c.retire(k.tenant, k.name)
			}
			return
		case errors.Is(err, errAbandoned) || errors.Is(err, errAbsent):
			return
		case try == storeAttempts || sleep(ctx, delay) != nil:
			log.Error("function: the outcome of a preparation could not be stored; the next start prepares again", "error", err)
			return
		}
		delay *= 2
	}
}

// settle applies the outcome of the preparation of next.
func (f *Function) settle(next Code, failure error) {
	f.Next = nil
	if failure == nil {
		f.Code = &next
		f.State, f.Reason, f.ReasonCode = Active, "", ""
		f.Update, f.UpdateReason, f.UpdateCode = Successful, "", ""
		f.Serving = uuid.NewString()
		return
	}
	code, reason := reasonFor(failure)
	f.Update, f.UpdateReason, f.UpdateCode = UpdateFailed, reason, code
	if f.Code == nil {
		f.State, f.Reason, f.ReasonCode = Failed, reason, code
	}
}

// report notes how far the preparation is.
func (j *job) report(p Progress) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress = p
}

// waits reports whether nothing is done for the host's sake.
func (j *job) waits() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.progress.Waits
}

// reasonFor words a failed preparation for the function's owner. What went
// wrong within the host is for the log only.
func reasonFor(err error) (ReasonCode, string) {
	if errors.Is(err, ErrDied) {
		return ReasonInternalError, fmt.Sprintf("The preparation of the image ended %d times with its process, and is not tried again: %s", maxDied, thaw.Tell(err))
	}
	switch thaw.KindOf(err) {
	case thaw.TooLarge:
		return ReasonInvalidImage, "SizeLimitExceeded: " + thaw.Tell(err)
	case thaw.Invalid, thaw.Corrupt:
		return ReasonInvalidImage, "The image can't be used: " + thaw.Tell(err)
	case thaw.NotFound:
		return ReasonImageDeleted, "The image, or a part of it, does not exist any more: " + thaw.Tell(err)
	case thaw.Denied:
		return ReasonImageAccessDenied, "The registry denies access to the image: " + thaw.Tell(err)
	case thaw.Unavailable, thaw.Throttled:
		return ReasonInternalError, "The image could not be read: " + thaw.Tell(err)
	case thaw.Internal, thaw.Conflict, thaw.Canceled, thaw.Lost:
	}
	return ReasonInternalError, "An internal error occurred while the image was prepared."
}
