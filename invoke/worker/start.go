// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"strings"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/logs"
	"thaw.dev/thaw/invoke/runtimeapi"
	"thaw.dev/thaw/invoke/sandbox"
)

// errKilled is what an invocation gets that the worker's Close did not wait for.
var errKilled = thaw.Errorf("worker", thaw.Unavailable, "the worker stopped before the function had answered")

// start makes a leased slot's sandbox ready for its first invocation. A failed
// init is tried once more under the function's own timeout, as in Lambda; the
// failure of that is the invocation's. An error is the host's trouble.
func (in *invocation) start(s *slot) (*failure, error) {
	if err := in.furnish(s); err != nil {
		return nil, err
	}
	begin := time.Now()
	fail, err := s.excuse(in.boot(s, in.worker.cfg.InitTimeout))
	if err != nil || fail == nil {
		in.init = time.Since(begin) - in.result.Timings.Sandbox
		in.result.Timings.Init = in.init
		return nil, err
	}
	if err := in.abort(s, begin, "init", fail); err != nil {
		return nil, err
	}
	in.result.Timings.Init = time.Since(begin)
	in.handed = time.Now()
	// The function's timeout may be long: what others wait for is not held for all of it.
	defer time.AfterFunc(in.worker.cfg.InitTimeout, func() { in.worker.pool.begun(s) }).Stop()
	fail, err = s.excuse(in.boot(s, in.f.Timeout))
	if err == nil && fail != nil {
		if s.api != nil && fail.hint == "" {
			fail.hint = silence(fail, s.api.Asked(), in.f.Timeout)
		}
		err = in.abort(s, in.handed, "invoke", fail)
	}
	in.result.Timings.Init = time.Since(begin) - in.result.Timings.Sandbox
	return fail, err
}

// abort stops a sandbox whose init failed, and logs it.
func (in *invocation) abort(s *slot, begin time.Time, phase string, fail *failure) error {
	took := time.Since(begin)
	err := s.halt(in.worker.cfg.StopTimeout)
	s.log.Platform(initReportLine(took, phase, fail))
	return err
}

// furnish gets what every try of a start uses: the root and the log.
func (in *invocation) furnish(s *slot) error {
	w, f := in.worker, in.f
	begin := time.Now()
	s.stream = logs.NewStream(f.Version, begin)
	log, err := w.cfg.Logs.Create(f.Tenant, f.Name, s.stream)
	if err != nil {
		return err
	}
	s.log = log
	log.TailStart()
	if len(f.Extensions) > 0 {
		log.Platform(ownLine("extensions are not supported yet: /opt/extensions/{" + strings.Join(f.Extensions, ",") + "} of the image will not be started"))
	}
	ctx, cancel := w.within(w.cfg.AttachTimeout)
	defer cancel()
	s.root, err = w.cfg.Rootfs.Attach(ctx, Start{Tenant: f.Tenant, Image: f.Image, RecordKey: f.recordKey(), RequestID: in.r.ID})
	in.result.Timings.Attach = time.Since(begin)
	return err
}

// boot starts the sandbox and waits until its runtime asks for an invocation.
func (in *invocation) boot(s *slot, limit time.Duration) (*failure, error) {
	w := in.worker
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	if fail, err := in.launch(s, limit); fail != nil || err != nil {
		return fail, err
	}
	select {
	case <-s.api.Ready():
		return nil, nil
	case <-s.api.InitFailed():
		report := s.api.InitError()
		return &failure{errorType: report.ErrorType, status: "error", reported: &report}, nil
	case <-s.box.Done():
		fail := exitFailure(s.box.Exit(), 0)
		if fail.launch {
			s.log.Platform(launchLine(in.f, fail))
		}
		return fail, nil
	case <-deadline.C:
		return timeoutFailure(limit), nil
	case <-s.root.Lost:
		return nil, errLost
	case <-w.killed:
		return nil, errKilled
	}
}

// launch starts the sandbox and its Runtime API.
func (in *invocation) launch(s *slot, limit time.Duration) (*failure, error) {
	w, f := in.worker, in.f
	env := f.environ(w.cfg.Region, s.stream)
	if fail := impossible(f, env); fail != nil {
		s.log.Platform(launchLine(f, fail))
		return fail, nil
	}
	begin := time.Now()
	ctx, cancel := w.within(limit)
	defer cancel()
	box, err := w.cfg.Launcher.Start(ctx, sandbox.Spec{
		ID:           s.id(),
		Owner:        string(f.Tenant),
		Root:         s.root.Dir,
		Args:         f.args(),
		Env:          env,
		Dir:          f.dir(),
		MemoryBytes:  f.memoryBytes(),
		CPUs:         sandbox.CPUsFor(f.memoryBytes()),
		BoostInit:    true,
		TmpBytes:     int64(f.TmpMB) << 20,
		Stdout:       s.log,
		Stderr:       s.log,
		Network:      w.cfg.Network,
		LookupFailed: func(name string, why error) { s.log.Platform(lookupLine(name, why)) },
	})
	in.result.Timings.Sandbox = time.Since(begin)
	if err != nil {
		return nil, err
	}
	log := s.log // the slot's may be another by then
	s.box, s.boosted = box, true
	s.api = runtimeapi.New(runtimeapi.Options{
		Owner: string(f.Tenant), Answers: w.answers, Slowed: func() { log.Platform(slowedLine) },
	})
	w.watch(s)
	return nil, nil
}

// watch serves the sandbox's Runtime API, and has the slot stopped when the
// sandbox ends while it is idle, or its root is lost.
func (w *Worker) watch(s *slot) {
	box, api, lost := s.box, s.api, s.root.Lost
	w.owned.Go(func() {
		if err := api.Serve(box.Listener()); err != nil {
			w.cfg.Log.Error("the Runtime API of a sandbox failed", "function", s.key.name, "stream", s.stream, "error", err)
		}
	})
	w.owned.Go(func() {
		select {
		case <-box.Done(): // Stop ends it at the latest
			w.pool.died(s, box)
		case <-lost:
			w.pool.lost(s, box)
		}
	})
}
