// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestGarbageIsCollectedBetweenStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		const busy = time.Second // images are read for so long
		reads := func() int64 { return int64(min(time.Since(began), busy) / (10 * time.Millisecond)) }
		ended := make(chan struct{}, 1)
		var collected []time.Duration
		go collect(ctx, ended, reads, func() { collected = append(collected, time.Since(began)) })

		ended <- struct{}{}
		time.Sleep(busy)
		synctest.Wait()
		if len(collected) != 0 {
			t.Errorf("collected after %v, within a start", collected)
		}
		time.Sleep(2 * collectAfter)
		synctest.Wait()
		if len(collected) != 1 {
			t.Errorf("collected after %v, want once after %v", collected, busy)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(collected) != 1 {
			t.Errorf("collected after %v, though no start had ended", collected)
		}
		ended <- struct{}{}
		time.Sleep(2 * collectAfter)
		synctest.Wait()
		if len(collected) != 2 {
			t.Errorf("collected after %v, want once more", collected)
		}
	})
}
