// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l1"
)

const (
	sampleEvery = 500 * time.Millisecond
	window      = time.Second
	tolerance   = 0.01 // of the hit rate, for it to be back
)

// sample is what the tiers have counted so far.
type sample struct {
	at            time.Duration // since the load began
	asked, missed int64         // chunks asked of L1; of the origin
}

// observation is a time of load: its answers and what the tiers did.
type observation struct {
	answers []answer
	samples []sample // at least the first moment and the last
}

// observe puts the load on for a while, and watches.
func observe(ctx context.Context, b *measure.Bench, c config, names []string, length time.Duration) (observation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	first, err := look(ctx, b, begin)
	if err != nil {
		return observation{}, err
	}
	loaded := make(chan struct{})
	o := observation{samples: []sample{first}}
	go func() {
		defer close(loaded)
		o.answers = invoke(ctx, b, c, names, length)
	}()
	err = o.watch(ctx, b, c, begin, loaded)
	cancel() // without effect where the load is over
	<-loaded
	return o, err
}

// watch samples until the load is over, and drops the kernel's caches of idle
// images.
func (o *observation) watch(ctx context.Context, b *measure.Bench, c config, begin time.Time, loaded <-chan struct{}) error {
	samples, drops := time.NewTicker(sampleEvery), time.NewTicker(c.kernel)
	defer samples.Stop()
	defer drops.Stop()
	for over := false; !over; {
		select {
		case <-drops.C:
			if _, err := b.Thaw(ctx, "cache", "drop", "kernel"); err != nil {
				return err
			}
			continue
		case <-samples.C:
		case <-loaded:
			over = true
		}
		s, err := look(ctx, b, begin)
		if err != nil {
			return err
		}
		o.samples = append(o.samples, s)
	}
	return nil
}

func look(ctx context.Context, b *measure.Bench, begin time.Time) (sample, error) {
	tiers, err := b.Tiers(ctx)
	return sample{
		at: time.Since(begin), asked: tiers[l1.MemoryName].Requests, missed: tiers[tier.OriginName].Requests,
	}, err
}

// rate is the hit rate between two moments. A chunk that is fetched ahead is
// asked for later, if at all; so the origin may have had more than L1.
func rate(from, to sample) float64 {
	asked, missed := to.asked-from.asked, to.missed-from.missed
	if missed == 0 {
		return 1
	}
	return max(0, 1-float64(missed)/float64(max(asked, missed)))
}

// whole is the hit rate of all of it.
func (o observation) whole() float64 { return rate(o.samples[0], o.samples[len(o.samples)-1]) }

// back is when the hit rate is what it was: the end of the last window in which
// it was not; and whether that was before the end of the load.
func (o observation) back(before float64) (time.Duration, bool) {
	var at time.Duration
	from := 0
	for to, s := range o.samples {
		for o.samples[from].at < s.at-window {
			from++
		}
		if to > 0 && rate(o.samples[min(from, to-1)], s) < before-tolerance {
			at = s.at
		}
	}
	return at, at < o.samples[len(o.samples)-1].at
}

// perSecond is the hit rate of each of the first seconds.
func (o observation) perSecond(seconds int) string {
	text, from := "", 0
	for second := 1; second <= seconds; second++ {
		to := from
		for to < len(o.samples)-1 && o.samples[to].at < time.Duration(second)*time.Second {
			to++
		}
		if to == from { // the machine was too busy to look
			text += "   -"
			continue
		}
		text += fmt.Sprintf(" %3.0f", 100*rate(o.samples[from], o.samples[to]))
		from = to
	}
	return text
}
