// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/bench/measure"
)

// answer is how one invocation ended.
type answer struct {
	due  time.Duration // since the load began
	took time.Duration // from then on
	err  error
}

func (a answer) refused() bool {
	_, is := errors.AsType[*types.TooManyRequestsException](a.err)
	return is
}

// invoke keeps the load up for a while and returns when the last invocation was
// answered. Each function has its turn once in as many invocations as there are
// functions, in a random order that is the same in every run.
func invoke(ctx context.Context, b *measure.Bench, c config, names []string, length time.Duration) []answer {
	var group sync.WaitGroup
	answers := make([]answer, int(c.rate*length.Seconds()))
	random := rand.New(rand.NewPCG(1, 2))
	var order []int
	begin := time.Now()
	for i := range answers {
		if len(order) == 0 {
			order = random.Perm(len(names))
		}
		name := names[order[0]]
		order = order[1:]
		due := time.Duration(float64(i) / c.rate * float64(time.Second))
		time.Sleep(due - time.Since(begin))
		group.Go(func() {
			_, err := b.Invoke(ctx, name)
			answers[i] = answer{due: due, took: time.Since(begin) - due, err: err}
		})
	}
	group.Wait()
	return answers
}

// counts are the answers of a time by how they ended.
type counts struct {
	samples         measure.Samples // of those that were well
	refused, failed int
	firstFailure    error
}

func count(answers []answer, when func(due time.Duration) bool) counts {
	var c counts
	for _, a := range answers {
		switch {
		case !when(a.due):
		case a.err == nil:
			c.samples = append(c.samples, a.took)
		case a.refused():
			c.refused++
		default:
			c.failed++
			if c.firstFailure == nil {
				c.firstFailure = a.err
			}
		}
	}
	return c
}

func (c counts) String() string {
	return fmt.Sprintf("%d answers, p50 %.0f p99 %.0f ms, %d refused, %d failed", len(c.samples),
		float64(c.samples.Quantile(0.5))/1e6, float64(c.samples.Quantile(0.99))/1e6, c.refused, c.failed)
}
