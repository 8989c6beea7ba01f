// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
)

// errLost is what an invocation gets that ran when its sandbox's root was lost.
// What the function did from then on, errors of its own included, says nothing
// of the function.
var errLost = thaw.Errorf("worker", thaw.Unavailable, "the mount that the function ran from was lost; the next invocation gets a new one")

// maxLost bounds how often a start begins anew because the root was lost before
// the function had seen of the invocation.
const maxLost = 3

// lost reports whether the root is known to be lost.
func (s *slot) lost() bool {
	select {
	case <-s.root.Lost:
		return true
	default:
		return false
	}
}

// sound reports whether the root can be read. It asks, so it is for failures:
// the function may have met the loss before anybody was told.
func (s *slot) sound() bool {
	return !s.lost() && (s.root.Sound == nil || s.root.Sound(context.Background()))
}

// excuse is the outcome of a try to start: where the root was lost, a failure
// or the launcher's trouble is of that.
func (s *slot) excuse(fail *failure, err error) (*failure, error) {
	if (fail != nil || err != nil) && !errors.Is(err, errKilled) && !s.sound() {
		return nil, errLost
	}
	return fail, err
}

// lose ends an invocation whose root was lost, and its slot.
func (in *invocation) lose(s *slot) error {
	s.log.Platform(ownLine("the invocation was ended: " + errLost.Error()))
	in.worker.pool.drop(s)
	return errLost
}

// lost has a slot stopped whose root was lost: now if it is idle, else at the
// end of its lease.
func (p *pool) lost(s *slot, box sandbox.Sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.box != box: // the first try's
	case s.idle:
		p.dropIdleLocked(s)
		p.dispatchLocked()
	default:
		s.retired = true
	}
}
