// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"thaw.dev/thaw"
)

// maxBackoff bounds the mean wait between two tries.
const maxBackoff = 2 * time.Second

// conflictTries bounds how often an object is put whose key can't be, beside others:
// a gateway over a file system says so, too, of a folder that another request has
// just removed with the last object in it.
const conflictTries = 4

// requester makes requests within the bounds of [Options], and counts them. It
// is safe for concurrent use.
type requester struct {
	opts    Options
	where   string
	status  func(error) (status int, code string)
	slots   chan struct{} // one a request under way
	budget  *budget
	counts  counters
	retries atomic.Int64
}

func newRequester(o Options, s service) requester {
	return requester{
		opts: o, where: s.where, status: s.status,
		slots: make(chan struct{}, o.Concurrency), budget: newBudget(o.RetryBudget),
	}
}

// request is one try of an operation. It returns the bytes of its body, sent or
// received, also when it fails.
type request func(ctx context.Context) (bytes int, err error)

// do makes a request, again where that may help, and gives its error a kind.
// what is the operation and the object, for people.
func (r *requester) do(ctx context.Context, op operation, what string, try request) error {
	begin, wait := time.Now(), r.opts.Backoff
	for tries := 1; ; tries++ {
		f := r.once(ctx, op, try)
		if f == nil {
			return nil
		}
		passes := f.result.passes() || f.result == conflict && tries < conflictTries
		if !passes || time.Since(begin)+wait > r.opts.RetryFor || !r.budget.take() {
			return f.as(what, r.where)
		}
		// Anything between none and twice the mean, so that those who failed
		// together do not come back together.
		if sleep(ctx, rand.N(2*wait)) != nil {
			return failure{result: canceled, err: context.Cause(ctx)}.as(what, r.where)
		}
		r.retries.Add(1)
		wait = min(2*wait, maxBackoff)
	}
}

// once makes one request: within its deadline, when there is room, and counted.
// It returns nil where the object store has answered what was asked.
func (r *requester) once(ctx context.Context, op operation, try request) *failure {
	if ctx.Err() != nil {
		return &failure{result: canceled, err: context.Cause(ctx)}
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return &failure{result: canceled, err: context.Cause(ctx)}
	}
	defer func() { <-r.slots }()
	bounded, cancel := context.WithTimeout(ctx, r.opts.RequestTimeout)
	defer cancel()
	bytes, err := try(bounded)
	f := r.classify(ctx, bounded, err)
	r.counts.add(op, f, bytes)
	if f == nil || f.result == absent || f.result == present {
		r.budget.succeeded()
	}
	return f
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

// outage marks errors that say nothing about an object, only that the object
// store did not serve.
type outage struct {
	result result
	err    error
}

func (o *outage) Error() string { return o.err.Error() }
func (o *outage) Unwrap() error { return o.err }

// IsOutage reports whether err comes from an object store that can't be
// reached or does not serve us: waiting for [Bucket.Check] to succeed and trying
// again may help, whatever was asked.
func IsOutage(err error) bool {
	_, is := errors.AsType[*outage](err)
	return is
}

// errUnsupported is in the chain where the server does not know what was asked.
var errUnsupported = errors.New("the server does not know this request")

// as is the error that a caller gets: with a kind, and one line for people.
func (f failure) as(what, where string) error {
	switch f.result {
	case absent:
		return thaw.Errorf(what, thaw.NotFound, "it is not in the store")
	case present:
		return thaw.Errorf(what, thaw.Conflict, "it exists")
	case corrupt:
		return thaw.Errorf(what, thaw.Corrupt, "%w", f.err)
	case unsupported:
		return thaw.Errorf(what, thaw.Unavailable, "%s: %w: %w", where, errUnsupported, &outage{f.result, f.err})
	case conflict:
		return thaw.Errorf(what, thaw.Conflict, "one key can't be a folder of another")
	case canceled:
		return thaw.Wrap(what, f.err)
	case denied:
		return thaw.Errorf(what, thaw.Unavailable, "%s denies it to these credentials: %w", where, &outage{f.result, f.err})
	case noBucket:
		return thaw.Errorf(what, thaw.Unavailable, "%s does not exist: %w", where, &outage{f.result, f.err})
	}
	return thaw.Errorf(what, thaw.Unavailable, "%s: %w", where, &outage{f.result, f.err})
}
