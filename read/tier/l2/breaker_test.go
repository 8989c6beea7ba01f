// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"testing"
	"time"
)

// at is a moment of a test; breakers are told the time.
func at(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }

func newBreaker(median time.Duration) *breaker {
	return &breaker{state: Closed, slowAfter: 20 * time.Millisecond, others: func() time.Duration { return median }}
}

const quick = time.Millisecond

func wantState(t *testing.T, b *breaker, want string) {
	t.Helper()
	if got, _ := b.current(); got != want {
		t.Fatalf("the breaker is %s, not %s", got, want)
	}
}

func TestBreakerTripsOnFailuresInARow(t *testing.T) {
	b := newBreaker(quick)
	for range 10 { // not in a row
		b.report(at(0), false, 0)
		b.report(at(0), false, 0)
		b.report(at(0), true, quick)
	}
	wantState(t, b, Closed)
	for range tripAfter {
		b.report(at(0), false, 0)
	}
	wantState(t, b, Open)
	if b.allow(at(minPause / 2)) {
		t.Error("asked within half the pause")
	}
}

func TestBreakerHealsByTrials(t *testing.T) {
	b := newBreaker(quick)
	for range tripAfter {
		b.report(at(0), false, 0)
	}
	now := at(2 * minPause)
	for range healAfter {
		if !b.allow(now) {
			t.Fatal("no trial")
		}
		wantState(t, b, HalfOpen)
		if b.allow(now) {
			t.Fatal("two trials at a time")
		}
		b.report(now, true, quick)
	}
	wantState(t, b, Closed)
	for range 2 {
		if !b.allow(now) {
			t.Error("a closed breaker refuses")
		}
	}
}

func TestBreakerPausesLongerAfterEachFailedTrial(t *testing.T) {
	b := newBreaker(quick)
	for range tripAfter {
		b.report(at(0), false, 0)
	}
	now := at(0)
	var last time.Duration
	for range 12 {
		pause := b.until.Sub(now)
		if b.pause < last || b.pause > maxPause || pause < b.pause/2 || pause > b.pause*5/4 {
			t.Errorf("a pause of %v after one of %v, nominally %v", pause, last, b.pause)
		}
		last = b.pause
		now = b.until
		if !b.allow(now) {
			t.Fatal("no trial after the pause")
		}
		b.report(now, false, 0)
		wantState(t, b, Open)
	}
	if last != maxPause {
		t.Errorf("the pause ends at %v", last)
	}
}

func TestBreakerTripsOnASlowServer(t *testing.T) {
	for name, test := range map[string]struct {
		took, others time.Duration
		want         string
	}{
		"slow":                      {30 * time.Millisecond, quick, Open},
		"slow as all are":           {30 * time.Millisecond, 25 * time.Millisecond, Closed},
		"slower, but quick":         {15 * time.Millisecond, quick, Closed},
		"nobody to compare it with": {30 * time.Millisecond, time.Duration(1<<63-1) / slowFactor, Closed},
	} {
		b := newBreaker(test.others)
		for range 50 {
			if b.allow(at(0)) {
				b.report(at(0), true, test.took)
			}
		}
		if got, _ := b.current(); got != test.want {
			t.Errorf("%s: %s, not %s", name, got, test.want)
		}
	}
	b := newBreaker(quick)
	for range 50 {
		b.report(at(0), true, quick)
	}
	b.report(at(0), true, 100*time.Millisecond) // one answer is not the mean
	wantState(t, b, Closed)
}

func TestBreakerForgetsATrialThatWasNotMade(t *testing.T) {
	b := newBreaker(quick)
	for range tripAfter {
		b.report(at(0), false, 0)
	}
	now := at(2 * minPause)
	if !b.allow(now) {
		t.Fatal("no trial")
	}
	b.cancel()
	if !b.allow(now) {
		t.Error("no further trial")
	}
}

// However slow servers look, four of five stay.
func TestSlowServersAreGivenUpOneInFive(t *testing.T) {
	for n, want := range map[int]int{2: 0, 4: 0, 5: 1, 9: 1, 10: 2, 20: 4} {
		l := open(t, Options{}, nil)
		l.opts.SlowAfter = 20 * time.Millisecond
		var addresses []string
		for i := range n {
			addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", i+1))
		}
		if err := l.SetServers(addresses); err != nil {
			t.Fatal(err)
		}
		servers := l.fleet.Load().servers
		for _, s := range servers {
			s.breaker.report(at(0), true, quick)
		}
		open := 0
		for i, s := range servers {
			if i%2 == 0 || n < 5 { // half of them become slow, one after the other
				for range 50 {
					s.breaker.report(at(0), true, time.Second)
				}
			}
			if state, _ := s.breaker.current(); state == Open {
				open++
			}
		}
		if open != want {
			t.Errorf("%d of %d servers are given up, not %d", open, n, want)
		}
	}
}
