// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"context"
	"slices"
	"sync"
	"time"
)

// SharedName stands in a [Tally] for chunks that another reader was fetching
// already, whichever tier they came from.
const SharedName = "shared"

// Use is what was got from one tier.
type Use struct {
	Tier   string        `json:"tier"`
	Chunks int64         `json:"chunks"`
	Bytes  int64         `json:"bytes"` // sealed
	Time   time.Duration `json:"time"`  // ns; the sum over all chunks, however many were fetched at a time
}

// Tally counts what the readers whose context carries it have got, by tier. The
// zero value is ready. It is safe for concurrent use.
type Tally struct {
	mu   sync.Mutex
	uses []Use // in the order of their first use
}

type tallyKey struct{}

// In returns a context that carries t.
func (t *Tally) In(ctx context.Context) context.Context {
	return context.WithValue(ctx, tallyKey{}, t)
}

// Uses returns the counts so far.
func (t *Tally) Uses() []Use {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.uses)
}

// note counts a chunk in the tally that ctx carries, if it does.
func note(ctx context.Context, tier string, bytes int, begin time.Time) {
	t, ok := ctx.Value(tallyKey{}).(*Tally)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.uses, func(u Use) bool { return u.Tier == tier })
	if i < 0 {
		i = len(t.uses)
		t.uses = append(t.uses, Use{Tier: tier})
	}
	t.uses[i].Chunks++
	t.uses[i].Bytes += int64(bytes)
	t.uses[i].Time += time.Since(begin)
}
