// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw.dev/thaw/bench/measure"
)

// The victim's functions, and their images.
const (
	warmName, warmTag = "warm", "go-hello:1"
	coldName, coldTag = "cold", "py-hello:1"

	victimMB = 128 // so that its sandboxes are within what is kept free for each tenant

	warmEvery   = 20 * time.Millisecond
	deployEvery = 500 * time.Millisecond
	patience    = 10 * time.Second // a victim's call that takes longer is an error
)

// result is what the victim saw in one phase.
type result struct {
	warm, cold, deploy measure.Samples
	errors             map[string]int // by their text
	peakMB             int64          // of server, loader and holder together
	others             map[string]int64
	dead               string // what the server said last, if it ended
	told               string // to the abuser
}

// createVictims makes the victim's functions.
func (w *world) createVictims(ctx context.Context) error {
	layout, err := w.images(ctx)
	if err != nil {
		return err
	}
	for name, tag := range map[string]string{warmName: warmTag, coldName: coldTag} {
		if err := w.victim.Create(ctx, layout, tag, name); err != nil {
			return err
		}
		if _, err := w.victim.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, MemorySize: aws.Int32(victimMB)}); err != nil {
			return err
		}
	}
	return nil
}

// measure has the victim do what it does for some seconds.
func (w *world) measure(ctx context.Context, s *scenario, seconds float64) (result, error) {
	r := result{errors: map[string]int{}}
	peaks := w.watch()
	measuring, cancel := context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second)))
	defer cancel()
	var mu sync.Mutex // guards r
	every := func(pause time.Duration, samples *measure.Samples, do func(context.Context) (time.Duration, error)) func() {
		return func() {
			for next := time.Now(); measuring.Err() == nil; next = next.Add(pause) {
				sleep(measuring, time.Until(next))
				calling, stop := context.WithTimeout(ctx, patience)
				took, err := do(calling)
				stop()
				mu.Lock()
				if err == nil {
					*samples = append(*samples, took)
				} else if ctx.Err() == nil {
					r.errors[plain(err)]++
				}
				mu.Unlock()
				if time.Since(next) > pause {
					next = time.Now() // what it is late is not caught up with
				}
			}
		}
	}
	var victims sync.WaitGroup
	victims.Go(every(warmEvery, &r.warm, w.warm))
	victims.Go(every(0, &r.cold, w.cold))
	if s.deploy != nil {
		victims.Go(every(deployEvery, &r.deploy, func(ctx context.Context) (time.Duration, error) { return s.deploy(ctx, w) }))
	}
	victims.Wait()
	r.peakMB, r.others = peaks.end()
	if !w.alive() {
		r.dead, w.broken = w.lastWords(), true
	}
	return r, ctx.Err()
}

// warm calls the function that has a sandbox.
func (w *world) warm(ctx context.Context) (time.Duration, error) {
	name, start := warmName, time.Now()
	out, err := w.victim.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"name":"victim"}`)})
	took := time.Since(start)
	if err == nil && out.FunctionError != nil {
		err = errors.New(string(out.Payload))
	}
	return took, err
}

// cold gives up the sandboxes of the other function, has the kernel forget its
// image, and calls it.
func (w *world) cold(ctx context.Context) (time.Duration, error) {
	if err := w.victim.Fresh(ctx, coldName); err != nil {
		return 0, err
	}
	if _, err := w.server.Thaw(ctx, "cache", "drop", "kernel"); err != nil {
		return 0, err
	}
	took, err := w.victim.ColdInvoke(ctx, coldName)
	if errors.Is(err, measure.ErrWarm) {
		return 0, errors.New("a sandbox was not given up")
	}
	return took, err
}
