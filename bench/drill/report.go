// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"
)

// singleFlight is what the drill made the origin do.
type singleFlight struct {
	fetched int64 // requests for chunks
	chunks  int64 // distinct ones: what L1's disk, empty at the beginning, holds at the end
	made    int64 // of these at most, packs that this worker made meanwhile; 0 makes the ratio exact
	zone    int64 // chunks that L2 gave
}

// report prints what was seen. Its error says what is not as promised.
func report(c config, before, after observation, single singleFlight) error {
	rateBefore := before.whole()
	back, isBack := after.back(rateBefore)
	always := func(time.Duration) bool { return true }
	all := count(after.answers, always)
	beforeAll := count(before.answers, always)
	fmt.Printf("%d functions, %.1f invocations a second, origin: %s\n", c.functions, c.rate, c.origin)
	fmt.Printf("  before the drill       %s; hit rate %.1f %%\n", beforeAll, 100*rateBefore)
	fmt.Printf("  until the rate is back %s\n", count(after.answers, func(due time.Duration) bool { return due < back }))
	fmt.Printf("  from then on           %s\n", count(after.answers, func(due time.Duration) bool { return due >= back }))
	fmt.Printf("  hit rate, each second  %s ...\n", after.perSecond(12))
	fmt.Printf("%-44s %.1f s\n", "hit rate of L1 and L2 is back after", back.Seconds())
	fmt.Printf("%-44s %.2f (promised 1), %d requests for %d chunks, %d made here; L2 gave %d\n", "origin requests per chunk",
		float64(single.fetched)/float64(single.chunks), single.fetched, single.chunks, single.made, single.zone)
	fmt.Printf("%-44s p50 %.2f  p99 %.2f\n", "answers in the drill to those before",
		float64(all.samples.Quantile(0.5))/float64(beforeAll.samples.Quantile(0.5)),
		float64(all.samples.Quantile(0.99))/float64(beforeAll.samples.Quantile(0.99)))
	var wrong []error
	if failed := all.failed + beforeAll.failed; failed > 0 {
		wrong = append(wrong, fmt.Errorf("%d invocations failed, promised none: %w", failed, errors.Join(beforeAll.firstFailure, all.firstFailure)))
	}
	if single.fetched > single.chunks {
		wrong = append(wrong, errors.New("chunks were asked of the origin more than once"))
	}
	if !isBack {
		wrong = append(wrong, errors.New("the hit rate was not back when the load ended"))
	}
	return errors.Join(wrong...)
}
