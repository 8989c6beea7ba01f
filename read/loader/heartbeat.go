// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/proc"
)

const (
	// Each process is asked every beatPause whether it is well. It hangs if it
	// does not answer maxMisses times in a row, which a process that merely has
	// to wait for a processor does within beatTimeout: the answer costs a
	// fraction of a millisecond. More than one, since this process may have been
	// the one that stood still.
	beatPause   = 500 * time.Millisecond
	beatTimeout = 3 * time.Second
	maxMisses   = 2

	// A process that is at its start, and has not answered yet, may take longer:
	// the loader reads the list of its cache, and may have to ask a bucket.
	startTimeout = 30 * time.Second
)

// watch kills a child that hangs, and returns when the child has ended or ctx
// has.
func (c *Client) watch(ctx context.Context, name string, child *proc.Child, ask func(context.Context) error) {
	began, answered, misses := time.Now(), false, 0
	for {
		select {
		case <-child.Done():
			return
		case <-ctx.Done():
			return
		case <-time.After(beatPause):
		}
		asking, cancel := context.WithTimeout(ctx, beatTimeout)
		err := ask(asking)
		cancel()
		if err == nil {
			answered, misses = true, 0
			continue
		}
		if ctx.Err() != nil || ended(child) {
			return
		}
		misses++
		gone := errors.Is(err, holder.ErrGone)
		if gone || misses >= maxMisses && (answered || time.Since(began) > startTimeout) {
			if gone {
				c.mounts.forget() // at once: who runs on them is not to meet it
			}
			c.config.Log.Error("a process hangs or has lost the mount: it is killed", "process", name, "pid", child.PID(), "err", err)
			child.Kill()
			return
		}
	}
}

// ping asks the loader, once.
func (c *Client) ping(ctx context.Context) error {
	var out json.RawMessage
	_, err := c.post(ctx, "ping", []byte("{}"), &out)
	return err
}

// check asks the holder, once.
func (c *Client) check(ctx context.Context) error { return holder.Check(ctx, c.config.RunDir) }
