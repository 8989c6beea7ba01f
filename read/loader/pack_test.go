// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPackingWaitsForAQuietMoment(t *testing.T) {
	for name, c := range map[string]struct {
		left, busy, from, to time.Duration // images are read for busy; the wait ends between from and to
	}{
		"idle":                   {quietBound, 0, quietFor, quietFor},
		"a burst":                {quietBound, 5 * time.Second, 5*time.Second + quietFor, 5*time.Second + 2*quietFor},
		"always reads":           {quietBound, time.Hour, quietBound, quietBound},
		"waited for its turn":    {2 * time.Second, time.Hour, 2 * time.Second, 2 * time.Second},
		"its turn came too late": {0, time.Hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				reads := func() int64 { return int64(min(time.Since(began), c.busy) / (100 * time.Millisecond)) }
				if err := awaitQuiet(t.Context(), quietFor, began.Add(c.left), reads); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < c.from || took > c.to {
					t.Errorf("waited for %v, want %v to %v", took, c.from, c.to)
				}
			})
		})
	}
}

func TestPackingEndsWithTheLoader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitQuiet(ctx, quietFor, time.Now().Add(quietBound), func() int64 { return 0 }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
}
