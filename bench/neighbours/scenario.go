// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"time"
)

// scenario is one way to take what others need.
type scenario struct {
	name, what string
	flags      []string // of thaw serve

	// prepare makes what an abuser needs, before anything is measured; it may be
	// nil. abuse goes on until ctx ends. Both run in the abusers' process.
	prepare func(context.Context, *abuser) error
	abuse   func(context.Context, *abuser)

	// deploy is what a victim does beside its invocations; it may be nil.
	deploy func(context.Context, *world) (time.Duration, error)
}

// scenarios are all, in the order in which they are measured.
var scenarios = slices.Concat(
	[]*scenario{{name: "nobody", what: "nothing: how much the figures differ by themselves", abuse: func(ctx context.Context, _ *abuser) { <-ctx.Done() }}},
	functionScenarios,
	tenantScenarios,
	strangerScenarios,
)

// find returns a scenario by its name, or nil.
func find(name string) *scenario {
	for _, s := range scenarios {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (s *scenario) chosen(only []string) bool {
	return len(only) == 0 || slices.Contains(only, s.name)
}
