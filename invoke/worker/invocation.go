// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"thaw.dev/thaw/invoke/runtimeapi"
)

// exitWait is how long a runtime whose answer was cut off is given to exit,
// which says more of the cause, or to show by its next request that it lives.
const exitWait = 2 * time.Second

// maxWakes bounds how many idle sandboxes are found dead in a row before the
// host is to blame.
const maxWakes = 8

// invocation is one call of Invoke, and what finishes after it.
type invocation struct {
	worker  *Worker
	f       *Function
	r       *Request
	begin   time.Time
	result  Result
	timeout time.Duration
	sandbox string // its id; "" before there is one

	init   time.Duration // of a start whose first try succeeded
	handed time.Time     // from when the function's timeout counts
	timer  *time.Timer   // fires when it is over
	logged bool          // START is
}

// run takes the invocation through its phases. A phase that ends the slot's
// lease says so.
func (in *invocation) run(ctx context.Context) error {
	for try := 1; ; try++ {
		s, err := in.lease(ctx)
		if err != nil {
			return err
		}
		if s.box != nil {
			in.sandbox = s.id()
			return in.invoke(s)
		}
		in.result.ColdStart = true
		fail, err := in.start(s)
		in.sandbox = s.id()
		in.worker.pool.begun(s)
		switch {
		case errors.Is(err, errLost) && try < maxLost:
			in.handed = time.Time{} // nothing was
			in.worker.pool.drop(s)
		case err != nil:
			in.worker.pool.drop(s)
			return err
		case fail != nil:
			in.fail(s, fail)
			return nil
		default:
			return in.invoke(s)
		}
	}
}

// lease gets a slot: one that is awake and alive, or one to be started.
func (in *invocation) lease(ctx context.Context) (*slot, error) {
	w := in.worker
	defer func() { in.result.Timings.Queue = time.Since(in.begin) }()
	for try := 1; ; try++ {
		s, err := w.pool.acquire(ctx, in.f.key(), in.f.memoryBytes())
		if err != nil {
			return nil, err
		}
		if s.box == nil {
			return s, nil
		}
		if s.lost() {
			w.pool.drop(s)
			continue
		}
		err = s.wake(w.cfg.StopTimeout)
		if err == nil && !s.exited() {
			s.log.TailStart()
			return s, nil
		}
		w.pool.drop(s)
		if err != nil && try == maxWakes {
			return nil, err
		}
	}
}

// invoke hands the invocation to the runtime and waits for the answer.
func (in *invocation) invoke(s *slot) error {
	w := in.worker
	if in.handed.IsZero() {
		in.handed = time.Now()
	}
	if in.result.ColdStart {
		s.drain()
		s.log.Platform(in.survived(s)...) // those of init are no event of the invocation
	}
	in.logStart(s)
	begin := time.Now()
	turn, err := s.api.Begin(in.event())
	if err != nil {
		// The runtime ended between the check and now; this is an exit in flight.
		fail := in.exit(s)
		if !s.sound() {
			return in.lose(s)
		}
		in.fail(s, fail)
		return nil
	}
	if err := s.endBoost(w.cfg.StopTimeout); err != nil {
		w.cfg.Log.Warn("a sandbox keeps the CPU of its init", "function", in.f.Name, "error", err)
	}
	in.timer = time.NewTimer(time.Until(in.handed.Add(in.timeout)))
	var fail *failure
	select {
	case <-turn.Answered():
		fail = in.cutOff(s, turn)
	case <-s.box.Done():
		fail = in.exitAfter(s, turn)
	case <-in.timer.C:
		fail = timeoutFailure(in.timeout)
	case <-s.root.Lost:
		return in.lose(s)
	case <-w.killed:
		w.pool.drop(s)
		return errKilled
	}
	in.result.Timings.Handler = time.Since(begin)
	if (fail != nil || turn.Response().Failed) && !s.sound() {
		return in.lose(s)
	}
	if fail != nil {
		in.fail(s, fail)
		return nil
	}
	in.answer(turn.Response())
	w.pool.answered(s)
	if in.r.LogTail {
		in.finish(s, turn)
		return nil
	}
	// What is left needs nothing of the result, which is the caller's now.
	rest := *in
	w.owned.Go(func() { rest.finish(s, turn) })
	return nil
}

func (in *invocation) logStart(s *slot) {
	if !in.logged {
		s.log.Platform(startLine(in.r.ID, in.f.Version))
	}
	in.logged = true
}

// event is the invocation as the runtime sees it: an empty payload is an empty
// object there, for clients parse whatever they get.
func (in *invocation) event() runtimeapi.Invocation {
	payload := in.r.Payload
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	return runtimeapi.Invocation{
		ID:            in.r.ID,
		Deadline:      in.handed.Add(in.timeout),
		FunctionARN:   in.r.FunctionARN,
		TraceID:       in.r.TraceID,
		ClientContext: in.r.ClientContext,
		Payload:       payload,
	}
}

// answer puts the runtime's answer into the result.
func (in *invocation) answer(r runtimeapi.Response) {
	in.result.Payload, in.result.ContentType = r.Payload, r.ContentType
	if r.Failed {
		in.result.FunctionError, in.result.ErrorType = "Unhandled", r.ErrorType
	}
}

// cutOff is the exit of a runtime that died while it answered, or nil.
func (in *invocation) cutOff(s *slot, turn *runtimeapi.Turn) *failure {
	if turn.Response().ErrorType != runtimeapi.ErrorTruncated {
		return nil
	}
	wait := time.NewTimer(exitWait)
	defer wait.Stop()
	select {
	case <-s.box.Done():
		return exitFailure(s.box.Exit(), s.oom)
	case <-turn.Done():
	case <-wait.C:
	}
	return nil
}

// exitAfter is the exit of a runtime in flight, or nil if it had answered just
// before.
func (in *invocation) exitAfter(s *slot, turn *runtimeapi.Turn) *failure {
	select {
	case <-turn.Answered():
		return in.cutOff(s, turn)
	default:
		return exitFailure(s.box.Exit(), s.oom)
	}
}

// exit waits for the exit of a runtime whose API is closed already.
func (in *invocation) exit(s *slot) *failure {
	select {
	case <-s.box.Done():
		return exitFailure(s.box.Exit(), s.oom)
	case <-time.After(time.Until(in.handed.Add(in.timeout))):
		return timeoutFailure(in.timeout)
	}
}

// finish takes an answered invocation to the runtime's next request, and the
// slot to whoever is next.
func (in *invocation) finish(s *slot, turn *runtimeapi.Turn) {
	w := in.worker
	defer in.timer.Stop()
	s.markStarted()
	var fail *failure
	select {
	case <-turn.Done():
	case <-s.box.Done():
		fail = exitFailure(s.box.Exit(), s.oom)
	case <-in.timer.C:
		fail = timeoutFailure(in.timeout)
	case <-w.killed:
		w.pool.drop(s)
		return
	}
	in.conclude(s, fail)
	if fail != nil || s.exited() {
		w.pool.drop(s)
		return
	}
	w.pool.release(s)
}

// fail ends an invocation that the runtime did not answer, and its slot.
func (in *invocation) fail(s *slot, fail *failure) {
	fail.result(&in.result)
	if in.handed.IsZero() {
		in.handed = time.Now()
	}
	in.logStart(s)
	in.conclude(s, fail)
	in.worker.pool.drop(s)
}

// conclude logs what there is to say at an invocation's end. A sandbox that
// failed is stopped first, so that what it printed stands before that.
func (in *invocation) conclude(s *slot, fail *failure) {
	u := usage{duration: time.Since(in.handed), init: in.init, memoryMB: in.f.MemoryMB}
	var lines []string
	if s.box != nil {
		u.peakBytes = s.memoryPeak(time.Now(), fail != nil)
	}
	if fail != nil {
		if fail.errorType == errorTimeout {
			u.duration = in.timeout
		}
		if fail.errorType == errorOOM {
			u.peakBytes = in.f.memoryBytes()
		}
		if err := s.halt(in.worker.cfg.StopTimeout); err != nil {
			in.worker.cfg.Log.Error("a failed sandbox did not stop", "function", in.f.Name, "error", err)
		}
		lines = fail.lines(in.r.ID, time.Now())
	} else {
		s.drain()
	}
	if fail == nil || fail.errorType == errorTimeout { // a runtime may wait for ever for the child that was killed
		lines = append(lines, in.survived(s)...)
	}
	s.log.Platform(append(lines, reportLines(in.r.ID, u, fail)...)...)
	if in.r.LogTail {
		in.result.LogTail = s.log.Tail()
	}
}

// survived tells of processes that were killed for want of memory while the
// runtime lives on: no failure, but worth a line.
func (in *invocation) survived(s *slot) []string {
	kills := s.oomKills()
	if kills <= s.oom {
		return nil
	}
	line := fmt.Sprintf("the kernel killed %d of the function's processes for want of memory (%d MB)", kills-s.oom, in.f.MemoryMB)
	s.oom = kills
	return []string{ownLine(line)}
}
