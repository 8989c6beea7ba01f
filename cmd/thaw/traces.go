// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/otlp"
	"thaw.dev/thaw/internal/trace"
	"thaw.dev/thaw/invoke/worker"
	"thaw.dev/thaw/read/loader"
	"thaw.dev/thaw/read/tier"
)

// keptTraces is how many cold starts, and how many other invocations, are
// remembered: about a megabyte in all.
const keptTraces = 1000

// traces remembers the last invocations, and sends cold starts to a collector
// where there is one. Of a warm invocation it keeps no more than was measured
// anyway. It is safe for concurrent use.
type traces struct {
	export *otlp.Exporter // nil without a collector

	mu   sync.Mutex // guards what follows
	cold ring       // those of which a cold start is known, by either side
	warm ring
}

// invoked is an invocation as the worker and the read path tell of it. Of a cold
// start either may come first.
type invoked struct {
	id       string
	worker   *worker.Observation
	read     *loader.Report
	exported bool
}

// ring holds the last entries, the next to be replaced first once it is full.
type ring struct {
	entries []*invoked
	next    int
}

func (r *ring) add(e *invoked) {
	if len(r.entries) < keptTraces {
		r.entries = append(r.entries, e)
		return
	}
	r.entries[r.next] = e
	r.next = (r.next + 1) % keptTraces
}

func (r *ring) find(id string) *invoked {
	for _, e := range r.entries {
		if e.id == id {
			return e
		}
	}
	return nil
}

// openTraces comes before what is traced, so as to be closed after it.
func (n *node) openTraces(context.Context) error {
	export, err := otlp.FromEnv(n.log)
	if err != nil {
		return err
	}
	n.traces = &traces{export: export}
	n.onClose(export.Close)
	return nil
}

// observe takes what the worker tells of an invocation.
func (t *traces) observe(o worker.Observation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !o.ColdStart {
		t.warm.add(&invoked{id: o.RequestID, worker: &o})
		return
	}
	e := t.startLocked(o.RequestID)
	e.worker = &o
	t.exportLocked(e)
}

// read takes what the read path tells of the cold start of an invocation.
func (t *traces) read(id string, r loader.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.startLocked(id)
	e.read = &r
	t.exportLocked(e)
}

func (t *traces) startLocked(id string) *invoked {
	e := t.cold.find(id)
	if e == nil {
		e = &invoked{id: id}
		t.cold.add(e)
	}
	return e
}

// exportLocked sends a cold start once all is known of it. Of one that failed
// on the host's side the read path may never tell.
func (t *traces) exportLocked(e *invoked) {
	if e.exported || e.worker == nil || e.read == nil && e.worker.Err == nil {
		return
	}
	e.exported = true
	t.export.Export(e.trace(), e.worker.TraceID)
}

// get returns the trace of an invocation, by its request id or by the beginning
// of it, if only one begins so.
func (t *traces) get(id string) (trace.Trace, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []*invoked
	for _, r := range []*ring{&t.cold, &t.warm} {
		for _, e := range r.entries {
			if e.worker != nil && e.id == id {
				return e.trace(), nil
			}
			if e.worker != nil && id != "" && strings.HasPrefix(e.id, id) {
				found = append(found, e)
			}
		}
	}
	switch len(found) {
	case 0:
		return trace.Trace{}, thaw.Errorf("", thaw.NotFound,
			"no trace of request %s: the last %d cold starts and as many other invocations are kept, in memory", id, keptTraces)
	case 1:
		return found[0].trace(), nil
	}
	const named = 5
	var names []string
	for _, e := range found[:min(named, len(found))] {
		names = append(names, e.id)
	}
	return trace.Trace{}, thaw.Errorf("", thaw.Invalid, "%d requests begin with %s, among them %s: give more of one", len(found), id, strings.Join(names, ", "))
}

// starts returns the cold starts that are remembered, the latest last.
func (t *traces) starts() []trace.Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []trace.Trace{}
	for i := range t.cold.entries {
		if e := t.cold.entries[(t.cold.next+i)%len(t.cold.entries)]; e.worker != nil {
			all = append(all, e.trace())
		}
	}
	return all
}

func (n *node) getTrace(r *http.Request) (any, error) { return n.traces.get(r.PathValue("request")) }
func (n *node) listTraces(*http.Request) (any, error) { return n.traces.starts(), nil }

// trace puts together what was told.
func (e *invoked) trace() trace.Trace {
	o, t := e.worker, e.worker.Timings
	tr := trace.Trace{
		RequestID: o.RequestID, Tenant: string(o.Tenant), Function: o.Function, Version: o.Version,
		Begin: o.Begin, Cold: o.ColdStart, Error: o.ErrorType,
	}
	if o.Err != nil {
		tr.Error = o.Err.Error()
	}
	var at time.Duration
	span := func(name string, took time.Duration, inner ...trace.Span) {
		tr.Spans = append(tr.Spans, trace.Span{Name: name, Start: at, Took: took, Spans: inner})
		at += took
	}
	span("placement", t.Queue)
	if o.ColdStart {
		var attach, beside []trace.Span
		if e.read != nil {
			attach, beside = attachSpans(*e.read, o.Begin), readSpans(*e.read, o.Begin)
		}
		span("attach", t.Attach, attach...)
		span("init", t.Sandbox+t.Init,
			trace.Span{Name: "sandbox", Start: at, Took: t.Sandbox},
			trace.Span{Name: "runtime boot", Start: at + t.Sandbox, Took: t.Init})
		tr.Spans = append(tr.Spans, beside...)
	}
	span("handler", t.Handler)
	return tr
}

// attachSpans are the steps of an attach: none where the image was mounted.
func attachSpans(r loader.Report, begin time.Time) []trace.Span {
	if r.Mounted.IsZero() {
		return nil
	}
	return []trace.Span{
		between("manifest", begin, r.Opening, r.Opened),
		between("mount", begin, r.Opened, r.Mounted),
	}
}

// readSpans are what went on beside the start: reads of the image, and what was
// fetched ahead of them.
func readSpans(r loader.Report, begin time.Time) []trace.Span {
	var spans []trace.Span
	if r.Reads.Count > 0 {
		reads := between("reads", begin, r.Reads.First, r.Reads.Last)
		reads.Numbers = map[string]int64{"requests": r.Reads.Count, "bytes": r.Reads.Bytes, "summed_ns": int64(r.Reads.Time), "slowest_ns": int64(r.Reads.Slowest)}
		reads.Tiers = tierUses(r.Reads.Tiers)
		if !r.Reads.Data.IsZero() {
			reads.Spans = []trace.Span{between("first fault", begin, r.Reads.Data, r.Reads.DataEnd)}
		}
		spans = append(spans, reads)
	}
	if !r.Ahead.Begun.IsZero() {
		ended := r.Ahead.Ended
		if ended.IsZero() {
			ended = r.Reads.Last
		}
		ahead := between("prefetch", begin, r.Ahead.Begun, ended)
		ahead.Open = r.Ahead.Ended.IsZero()
		ahead.Numbers = map[string]int64{"runs": int64(r.Ahead.Runs), "bytes": r.Ahead.Bytes}
		ahead.Tiers = tierUses(r.Ahead.Tiers)
		spans = append(spans, ahead)
	}
	return spans
}

func between(name string, begin, from, to time.Time) trace.Span {
	return trace.Span{Name: name, Start: from.Sub(begin), Took: max(0, to.Sub(from))}
}

func tierUses(uses []tier.Use) []trace.Tier {
	tiers := make([]trace.Tier, len(uses))
	for i, u := range uses {
		tiers[i] = trace.Tier{Name: u.Tier, Chunks: u.Chunks, Bytes: u.Bytes, Time: u.Time}
	}
	return tiers
}
