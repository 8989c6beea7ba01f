// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/invoke/runtimeapi"
)

// Worker is a host of sandboxes. It is safe for concurrent use. Make one with
// [Open] and end it with [Worker.Close].
type Worker struct {
	cfg     Config
	pool    *pool
	answers *fair.Pool // of the Runtime APIs

	stop   chan struct{}      // closed by Close: no new work
	kill   context.CancelFunc // called when Close has waited long enough
	killed <-chan struct{}    // closed by kill
	// within returns a context that ends with kill or after so long.
	within func(time.Duration) (context.Context, context.CancelFunc)

	// owned counts the goroutines that the doc comment names but Invoke's;
	// invoking counts those.
	owned    sync.WaitGroup
	invoking sync.WaitGroup

	mu      sync.Mutex // guards closing, and invoking.Add against Wait
	closing bool
}

// Open starts a worker without a sandbox.
func Open(cfg Config) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	life, kill := context.WithCancel(context.Background())
	w := &Worker{
		cfg:     cfg,
		answers: runtimeapi.NewAnswers(),
		stop:    make(chan struct{}),
		kill:    kill,
		killed:  life.Done(),
		within:  func(d time.Duration) (context.Context, context.CancelFunc) { return context.WithTimeout(life, d) },
	}
	w.pool = newPool(cfg, w.discard)
	w.owned.Go(w.reap)
	return w, nil
}

// enter counts an invocation in, unless the worker is closing.
func (w *Worker) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return false
	}
	w.invoking.Add(1)
	return true
}

// Invoke runs one invocation of f and returns its outcome; a function that
// fails is an outcome too. ctx bounds the wait for a sandbox only: a function
// that was handed its invocation runs to its end, as in Lambda, whoever is gone
// by then. Errors: [thaw.Throttled] where no sandbox may be had,
// [thaw.Unavailable] while the worker stops, [thaw.Invalid] for a function that
// makes no sense, and what the host's trouble is when a start fails.
func (w *Worker) Invoke(ctx context.Context, f Function, r Request) (*Result, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	if !w.enter() {
		return nil, thaw.Errorf("worker: invoke", thaw.Unavailable, "the worker is stopping")
	}
	defer w.invoking.Done()
	r.complete(&f)
	in := &invocation{
		worker:  w,
		f:       &f,
		r:       &r,
		begin:   time.Now(),
		result:  Result{RequestID: r.ID, Version: f.Version},
		timeout: f.Timeout,
	}
	err := in.run(ctx)
	if w.cfg.Observe != nil {
		w.cfg.Observe(Observation{
			Tenant: f.Tenant, Function: f.Name, Version: f.Version, RequestID: r.ID,
			TraceID: r.TraceID, Sandbox: in.sandbox, Begin: in.begin, ColdStart: in.result.ColdStart, ErrorType: in.result.ErrorType,
			Err: err, Timings: in.result.Timings,
		})
	}
	if err != nil {
		return nil, thaw.Wrap("worker: invoke "+f.Name, err)
	}
	return &in.result, nil
}

// Retire stops the sandboxes of a function that was changed or deleted: idle
// ones at once, the others once they have served. It does not wait for either.
func (w *Worker) Retire(tenant thaw.TenantID, function string) { w.pool.retire(tenant, function) }

// Stats counts the sandboxes there are now.
func (w *Worker) Stats() Stats { return w.pool.stats() }

// Pools returns what the functions of tenants share here beside sandboxes.
func (w *Worker) Pools() []*fair.Pool { return []*fair.Pool{w.answers} }

// Usages tells what tenants share here: starts, sandboxes, memory and the queue.
func (w *Worker) Usages() []fair.Usage { return w.pool.usages() }

// Close refuses new invocations and waits for the running ones until ctx ends;
// what then still runs is stopped, and its caller told [thaw.Unavailable]. It
// returns once every sandbox is stopped. A second call does the same.
func (w *Worker) Close(ctx context.Context) error {
	w.mu.Lock()
	first := !w.closing
	w.closing = true
	w.mu.Unlock()
	if first {
		close(w.stop)
		w.pool.close()
	}
	ended := make(chan struct{})
	go func() { // ends with the last invocation, which kill bounds
		w.invoking.Wait()
		w.owned.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		w.kill() // frees its context
		return nil
	case <-ctx.Done():
	}
	w.kill()
	<-ended
	return nil
}

// reap stops what has been idle for too long.
func (w *Worker) reap() {
	ticker := time.NewTicker(max(time.Millisecond, w.cfg.IdleTimeout/8))
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			w.pool.reap(now)
		case <-w.stop:
			return
		}
	}
}

// discard stops a slot that the pool has forgotten, in the background.
func (w *Worker) discard(s *slot) {
	w.owned.Go(func() {
		if err := s.close(w.cfg.StopTimeout); err != nil {
			w.cfg.Log.Error("a sandbox did not stop cleanly", "function", s.key.name, "stream", s.stream, "error", err)
		}
	})
}
