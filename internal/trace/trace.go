// SPDX-License-Identifier: Apache-2.0

// Package trace holds the account of one invocation, span by span, and draws it
// as a waterfall. It knows no clock and no other part of thaw.
package trace

import "time"

// Trace is an invocation's account. Its name is the request's id.
type Trace struct {
	RequestID string    `json:"requestId"`
	Tenant    string    `json:"tenant"`
	Function  string    `json:"function"`
	Version   string    `json:"version"`
	Begin     time.Time `json:"begin"`
	Cold      bool      `json:"cold"`
	Error     string    `json:"error,omitempty"` // why there was no answer, or the function's error type
	Spans     []Span    `json:"spans"`
}

// Span is a part of the time. Its own spans lie within it.
type Span struct {
	Name    string           `json:"name"`
	Start   time.Duration    `json:"start"` // since the trace's begin, nanoseconds
	Took    time.Duration    `json:"took"`
	Open    bool             `json:"open,omitempty"`    // it went on: Took is how long it was seen
	Numbers map[string]int64 `json:"numbers,omitempty"` // counts, bytes (..._bytes) and nanoseconds (..._ns)
	Tiers   []Tier           `json:"tiers,omitempty"`
	Spans   []Span           `json:"spans,omitempty"`
}

// Tier is what came from a tier within a span.
type Tier struct {
	Name   string        `json:"tier"`
	Chunks int64         `json:"chunks"`
	Bytes  int64         `json:"bytes"`
	Time   time.Duration `json:"time"` // nanoseconds, the sum over chunks that came side by side too
}

// Took returns the time from the begin to the end of the last span.
func (t Trace) Took() time.Duration { return end(t.Spans) }

func end(spans []Span) time.Duration {
	var last time.Duration
	for _, s := range spans {
		last = max(last, s.Start+s.Took, end(s.Spans))
	}
	return last
}

// Each calls do for every span, with how deep it lies, in the order of the
// waterfall.
func (t Trace) Each(do func(depth int, s Span)) { each(t.Spans, 0, do) }

func each(spans []Span, depth int, do func(int, Span)) {
	for _, s := range spans {
		do(depth, s)
		each(s.Spans, depth+1, do)
	}
}
