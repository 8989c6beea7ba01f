// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	thaw "thaw.dev/thaw"
)

const (
	// attempts bounds how often a preparation is tried while something is
	// unavailable. With doubling waits from one second the last try comes
	// after half a minute: long enough for a registry to restart.
	attempts = 6

	// maxDied bounds how often the process may die that prepares an image, or the
	// server while it does: once may be chance, and each start would meet it again.
	maxDied = 3

	// watchEvery is how often it is looked whether a preparation should end.
	watchEvery = time.Second
)

// Why a preparation is ended by us.
var (
	errTurn = errors.New("others wait")
	errLate = errors.New("it took too long")
)

// preparation is the work for one function's next image, in as many tries as it
// takes.
type preparation struct {
	*Control
	key  key
	next Code // Died is how many tries died, without the one under way
	job  *job

	turn  time.Duration // see Options.Turn; doubles
	spent time.Duration // of Options.PrepareTime
}

// run tries until there is an image or a reason why there is none.
func (p *preparation) run(ctx context.Context) (Prepared, error) {
	log := p.options.Log.With("tenant", p.key.tenant, "function", p.key.name, "image", p.next.ImageURI)
	died := error(ErrDied) // before this server was started
	delay := p.options.RetryDelay
	for try := 1; p.next.Died < maxDied; {
		prepared, err := p.attempt(ctx)
		switch kind := thaw.KindOf(err); {
		case err == nil:
			return prepared, checkProgram(prepared)
		case ctx.Err() != nil || errors.Is(err, errAbandoned) || errors.Is(err, errAbsent):
			return Prepared{}, err
		case errors.Is(err, errTurn):
			log.Info("function: preparation waits for another turn", "next", p.turn)
			p.survived(ctx)
			continue
		case errors.Is(err, ErrDied):
			died = err
			p.next.Died++
			log.Error("function: the process that prepared an image died", "times", p.next.Died, "error", err)
			continue
		case errors.Is(err, errLate):
			return Prepared{}, thaw.Errorf("", thaw.Unavailable, "it was not ready after %v of work: is its registry slow?", p.options.PrepareTime)
		case try == attempts || kind != thaw.Unavailable && kind != thaw.Throttled:
			return Prepared{}, err
		default:
			log.Warn("function: preparation will be tried again", "wait", delay, "error", err)
		}
		if err := sleep(ctx, delay); err != nil {
			return Prepared{}, err
		}
		try++
		delay *= 2
	}
	return Prepared{}, died
}

// attempt prepares the image once, when it is the tenant's turn. A panic ends the
// preparation and not the server: the image is a stranger's.
func (p *preparation) attempt(ctx context.Context) (_ Prepared, err error) {
	p.job.report(Progress{Stage: "waiting"})
	release, err := p.slots.Acquire(ctx, string(p.key.tenant), 1)
	if err != nil {
		return Prepared{}, err // closing, or deleted
	}
	defer release()
	// Others of the tenant's may have become ready since it was created.
	if err := p.checkImageBytes("", p.key.tenant); err != nil {
		return Prepared{}, err
	}
	if err := p.begin(ctx); err != nil {
		return Prepared{}, err
	}
	ctx, stop := p.watch(ctx)
	defer func() {
		if cause := recover(); cause != nil {
			p.options.Log.Error("function: a preparation panicked", "tenant", p.key.tenant, "function", p.key.name,
				"image", p.next.ImageURI, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			err = thaw.Errorf("prepare "+p.next.Pinned, thaw.Internal, "panic: %v", cause)
		}
		if ended := stop(); err != nil && ended != nil {
			err = ended
		}
	}()
	prepared, err := p.options.Images.Prepare(ctx, p.key.tenant, p.next.Pinned, p.job.report)
	p.imageBytes.Add(string(p.key.tenant), prepared.Bytes) // until they are counted
	return prepared, err
}

// watch ends the returned context when the preparation has had its time, or its
// turn while others wait. stop returns why, if it did.
func (p *preparation) watch(ctx context.Context) (_ context.Context, stop func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	begun := time.Now()
	go func() { // ends with stop
		defer close(done)
		ticker := time.NewTicker(min(watchEvery, p.options.Turn, p.options.PrepareTime))
		defer ticker.Stop()
		for last := begun; ; {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				if !p.job.waits() {
					p.spent += now.Sub(last)
				}
				last = now
			}
			if p.spent > p.options.PrepareTime {
				cancel(errLate)
			} else if time.Since(begun) > p.turn && p.slots.Wanted(string(p.key.tenant)) {
				cancel(errTurn)
			}
		}
	}()
	return ctx, func() error {
		cancel(nil)
		<-done
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errTurn):
			p.turn *= 2
			return cause
		case errors.Is(cause, errLate):
			return cause
		}
		return nil
	}
}

// begin counts a try in the record before it is made: if it ends with this
// process, the next one knows.
func (p *preparation) begin(ctx context.Context) error { return p.count(ctx, p.next.Died+1) }

// survived takes back what begin counted.
func (p *preparation) survived(ctx context.Context) {
	_ = p.count(context.WithoutCancel(ctx), p.next.Died) // nobody waits for it: it was logged
}

// count writes how many tries died into the record. It fails where nobody wants
// the image any more; a database that takes nothing now, as on a full disk, is no
// reason not to prepare.
func (p *preparation) count(ctx context.Context, died int) error {
	_, err := p.modify(ctx, p.key, func(f *Function) error {
		if f.Next == nil || f.Next.Job != p.next.Job {
			return errAbandoned // deleted, and perhaps made anew
		}
		f.Next.Died = died
		return nil
	})
	if err == nil || errors.Is(err, errAbandoned) || errors.Is(err, errAbsent) || ctx.Err() != nil {
		return err
	}
	p.options.Log.Warn("function: the tries of a preparation could not be counted", "tenant", p.key.tenant, "function", p.key.name, "error", err)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
