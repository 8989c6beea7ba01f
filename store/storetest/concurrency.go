// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
)

// Concurrency tests that many ingests may use a store at once.
func Concurrency(t *testing.T, open Open) {
	t.Run("one chunk from many", func(t *testing.T) {
		s := open(t)
		name, sealed := Sealed(1, 100_000)
		var group errgroup.Group
		for range 32 {
			group.Go(func() error { return putSyncGet(t.Context(), s, name, sealed) })
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("ingests that overlap", func(t *testing.T) { overlap(t, open(t)) })
	t.Run("what is visible is whole", func(t *testing.T) { visibleIsWhole(t, open(t)) })
	t.Run("some give up", func(t *testing.T) { someGiveUp(t, open(t)) })
}

// putSyncGet is what an ingest relies on: after its own Sync its chunk is
// there, whoever wrote it.
func putSyncGet(ctx context.Context, s Store, name thaw.ChunkName, sealed thaw.SealedChunk) error {
	if err := s.Put(ctx, sealed.Named()); err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	got, err := s.Get(ctx, name)
	if err == nil && !bytes.Equal(got, sealed) {
		err = fmt.Errorf("chunk %s has other bytes than were put", name)
	}
	return err
}

// overlap has ingests put chunks drawn from one small set, in several batches.
func overlap(t *testing.T, s Store) {
	const ingests, batches, perBatch, distinct = 12, 5, 20, 100
	var group errgroup.Group
	for ingest := range ingests {
		group.Go(func() error {
			r := rand.New(rand.NewPCG(uint64(ingest), 1))
			for range batches {
				seeds := make([]uint64, perBatch)
				for i := range seeds {
					seeds[i] = r.Uint64N(distinct)
					_, sealed := Sealed(seeds[i], 2000)
					if err := s.Put(t.Context(), sealed.Named()); err != nil {
						return err
					}
				}
				if err := s.Sync(t.Context()); err != nil {
					return err
				}
				for _, seed := range seeds {
					name, _ := Sealed(seed, 2000)
					if has, err := s.Has(t.Context(), name); err != nil || !has {
						return fmt.Errorf("after Sync, Has = %v, %w", has, err)
					}
					if _, err := s.Get(t.Context(), name); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// visibleIsWhole reads and lists while chunks are published.
func visibleIsWhole(t *testing.T, s Store) {
	const distinct = 100
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for reader := range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(reader), 2))
			for ctx.Err() == nil {
				name, sealed := Sealed(r.Uint64N(distinct), 3000)
				has, err := s.Has(t.Context(), name)
				if err != nil {
					t.Errorf("Has: %v", err)
				}
				got, err := s.Get(t.Context(), name)
				if has && (err != nil || !bytes.Equal(got, sealed)) {
					t.Errorf("a chunk that Has reports can't be read: %v", err)
				}
				if err != nil && thaw.KindOf(err) != thaw.NotFound {
					t.Errorf("Get: %v", err)
				}
			}
		})
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			for info, err := range s.Chunks(t.Context()) {
				if err != nil || info.Bytes != 3000 {
					t.Errorf("listing yields %d bytes, %v", info.Bytes, err)
				}
			}
		}
	})
	for seed := range uint64(distinct) {
		_, sealed := Sealed(seed, 3000)
		mustPut(t, s, sealed)
		if seed%20 == 19 {
			mustSync(t, s)
		}
	}
	cancel()
	readers.Wait()
}

// someGiveUp cancels half of the ingests on their way; the others must not
// suffer from it.
func someGiveUp(t *testing.T, s Store) {
	var group errgroup.Group
	for ingest := range 16 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		group.Go(func() error {
			for i := range 20 {
				if ingest%2 == 0 && i == 3+ingest/2 {
					cancel()
				}
				name, sealed := Sealed(uint64(i), 2000)
				err := putSyncGet(ctx, s, name, sealed)
				if err != nil && (ingest%2 == 1 || thaw.KindOf(err) != thaw.Canceled) {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
