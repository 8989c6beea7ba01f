// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

// at makes samples half a second apart: the chunks asked for and missed in each.
func at(steps ...[2]int64) observation {
	o := observation{samples: []sample{{}}}
	for _, s := range steps {
		last := o.samples[len(o.samples)-1]
		o.samples = append(o.samples, sample{at: last.at + sampleEvery, asked: last.asked + s[0], missed: last.missed + s[1]})
	}
	return o
}

// TestBack: the hit rate is back at the end of the last window in which it was
// not, however good it was in between.
func TestBack(t *testing.T) {
	miss, hit, rest := [2]int64{100, 100}, [2]int64{100, 0}, [2]int64{}
	for name, c := range map[string]struct {
		seen observation
		back time.Duration
		is   bool
	}{
		"never away":                 {at(hit, hit, rest, hit), 0, true},
		"nothing asked":              {at(rest, rest, rest), 0, true},
		"until the window":           {at(miss, hit, hit, hit, hit), time.Second, true},
		"away once more":             {at(miss, hit, hit, hit, hit, hit, miss, hit, hit, hit, hit, hit), 4 * time.Second, true},
		"fetched, not yet asked for": {at([2]int64{0, 50}, hit, hit, hit, hit, hit), time.Second, true},
		"still away":                 {at(hit, hit, miss), 1500 * time.Millisecond, false},
		"a little worse":             {at([2]int64{1000, 1}, hit, hit), 0, true},
	} {
		if back, is := c.seen.back(1); back != c.back || is != c.is {
			t.Errorf("%s: back after %v, %v; want %v, %v", name, back, is, c.back, c.is)
		}
	}
	if got := at(miss, hit, hit, hit).whole(); got != 0.75 {
		t.Errorf("one miss in four is a hit rate of %v", got)
	}
}

// TestPerSecond: a second without a sample is shown as such.
func TestPerSecond(t *testing.T) {
	o := at([2]int64{10, 10}, [2]int64{10, 0}, [2]int64{10, 0}, [2]int64{10, 0})
	if got, want := o.perSecond(2), "  50 100"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	o.samples = append(o.samples[:1], o.samples[4])
	if got, want := o.perSecond(3), "  75   -   -"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
