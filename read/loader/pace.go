// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"runtime"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

// What functions read of their images costs this process processor time that no
// control group of theirs counts, and of four kilobytes a whole chunk's. So all
// reads but those of starts have turns by tenant. The first opening of each chunk
// is free; who has chunks opened again, since the kernel was made to forget them,
// has little time for that while another tenant reads or starts: a budget, and
// then a part of the processors that all tenants share.
const (
	// againPart is that part of every other processor: the time of one in so many.
	againPart = 6

	// A tenant's budget: againMost at once, which is enough for what a start left to
	// be opened again, and againPerSecond of each second.
	againMost      = 2 * time.Second
	againPerSecond = 20 * time.Millisecond

	// againCounts bounds what a chunk or a read counts: what takes longer waits for
	// others and not for a processor.
	againCounts = 5 * time.Millisecond

	// aloneAfter is how long nobody else has read for a tenant to be alone.
	aloneAfter = 10 * time.Second

	// readsPerProcessor bounds the reads under way that are of no start. They are
	// more than a processor can answer at a time, since they may wait for the origin.
	readsPerProcessor = 32
)

// pace has reads wait for their turn. It is safe for concurrent use.
type pace struct {
	reads, again *fair.Pool

	mu      sync.Mutex
	budgets map[thaw.TenantID]*fair.Bucket // in nanoseconds
	last    map[thaw.TenantID]time.Time    // when they read
}

func newPace() *pace {
	return &pace{
		reads:   fair.New(fair.Options{Name: "reads", Size: int64(readsPerProcessor * runtime.GOMAXPROCS(0)), KeepFree: true}),
		again:   fair.New(fair.Options{Name: "reads-again", Size: int64(max(1, runtime.GOMAXPROCS(0)/2))}),
		budgets: map[thaw.TenantID]*fair.Bucket{},
		last:    map[thaw.TenantID]time.Time{},
	}
}

// pools returns what tenants share here.
func (p *pace) pools() []fair.Usage { return []fair.Usage{p.reads.Usage(), p.again.Usage()} }

// opened counts a chunk that was opened again, unless the tenant has spent its
// budget: then reads wait for turns of their own.
func (p *pace) opened(tenant thaw.TenantID, took time.Duration) {
	if budget := p.budget(tenant); budget.Spend(0) == 0 {
		budget.Spend(int64(min(took, againCounts)))
	}
}

// read waits for the turn of a tenant's read. again says that what it reads may
// have to be opened again. The caller calls done once it is answered.
func (p *pace) read(ctx context.Context, tenant thaw.TenantID, again bool) (done func(), err error) {
	if alone := p.alone(tenant); !again || alone || p.budget(tenant).Spend(0) == 0 {
		return p.reads.Acquire(ctx, string(tenant), 1)
	}
	lent, err := p.again.Acquire(ctx, string(tenant), 1)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	return func() {
		time.AfterFunc(min(time.Since(begin), againCounts)*(againPart-1), lent)
	}, nil
}

// alone notes that a tenant reads, and reports whether no other has lately.
func (p *pace) alone(tenant thaw.TenantID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.last[tenant] = now
	for other, at := range p.last {
		if now.Sub(at) > aloneAfter {
			delete(p.last, other)
		}
	}
	return len(p.last) == 1
}

func (p *pace) budget(tenant thaw.TenantID) *fair.Bucket {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.budgets[tenant]
	if b == nil {
		b = fair.NewBucket(int64(againPerSecond), int64(againMost))
		p.budgets[tenant] = b
	}
	return b
}

// seen notes which parts of an image were read, in steps of the largest chunk.
// The zero value is ready.
type seen struct {
	mu    sync.Mutex
	parts []uint64
}

// mark notes a read of n bytes, and reports whether all parts that it is of were
// read before.
func (s *seen) mark(off int64, n int, imageBytes int64) (again bool) {
	const partBytes = thaw.MaxChunkBytes
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts == nil {
		s.parts = make([]uint64, imageBytes/(64*partBytes)+1)
	}
	again = true
	end := min(off+int64(n), imageBytes)
	for part := off / partBytes; part*partBytes < end; part++ {
		word, bit := &s.parts[part/64], uint64(1)<<(part%64)
		again = again && *word&bit != 0
		*word |= bit
	}
	return again
}

// Pace implements [mount.Paced]. What a start reads waits for nobody.
func (f *imageFile) Pace(ctx context.Context, off int64, n int) (done func(), err error) {
	f.mu.Lock()
	view := f.view
	if f.seen == nil {
		f.seen = &seen{}
	}
	seen := f.seen
	f.mu.Unlock()
	again := view != nil && seen.mark(off, n, view.Size())
	if f.start.Load() != nil {
		f.pace.alone(f.tenant) // the others see that it is there
		return func() {}, nil
	}
	return f.pace.read(ctx, f.tenant, again)
}
