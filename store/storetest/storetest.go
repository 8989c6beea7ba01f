// SPDX-License-Identifier: Apache-2.0

// Package storetest is the suite that every origin must pass, one function for
// each contract of the root package and [Run] for all of them. A store that
// passes may take the place of any other.
//
// The suite tests what is promised while the process lives. That a crash loses
// nothing is for each store's own tests, since only they can crash it.
package storetest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"thaw.dev/thaw"
)

// Store is a store under test, empty when it is opened.
type Store interface {
	thaw.ChunkSource
	thaw.ChunkSink
	thaw.ChunkLister
	thaw.Objects

	// Damage replaces what is stored of a published chunk, behind the store's
	// back, as a failing disk would.
	Damage(name thaw.ChunkName, sealed thaw.SealedChunk)
}

// Durable is a store whose Put is durable, and may therefore be visible, when
// it returns. Others show nothing before Sync.
type Durable interface {
	PutIsDurable()
}

// Open makes a new, empty store for one test and has it closed by t.Cleanup.
type Open func(t *testing.T) Store

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	t.Run("ChunkSource", func(t *testing.T) { ChunkSource(t, open) })
	t.Run("ChunkSink", func(t *testing.T) { ChunkSink(t, open) })
	t.Run("ChunkLister", func(t *testing.T) { ChunkLister(t, open) })
	t.Run("Concurrency", func(t *testing.T) { Concurrency(t, open) })
	t.Run("Objects", func(t *testing.T) { Objects(t, open) })
}

// Sealed returns bytes as a sealed chunk looks, different for each seed, and
// their name.
func Sealed(seed uint64, n int) (thaw.ChunkName, thaw.SealedChunk) {
	b := make([]byte, n)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(b)
	return thaw.NameOf(b), b
}

func mustPut(t *testing.T, s Store, sealed thaw.SealedChunk) {
	t.Helper()
	if err := s.Put(t.Context(), sealed.Named()); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func mustSync(t *testing.T, s Store) {
	t.Helper()
	if err := s.Sync(t.Context()); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

// wantKind fails the test unless err is of that kind.
func wantKind(t *testing.T, what string, err error, want thaw.Kind) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded, want an error of kind %q", what, want)
	} else if got := thaw.KindOf(err); got != want {
		t.Errorf("%s: error of kind %q, want %q: %v", what, got, want, err)
	}
}

func wantStored(t *testing.T, s Store, name thaw.ChunkName, sealed thaw.SealedChunk) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if err != nil {
		t.Errorf("Get: %v", err)
	} else if !bytes.Equal(got, sealed) {
		t.Errorf("Get returned other bytes than were put")
	}
	if has, err := s.Has(t.Context(), name); err != nil || !has {
		t.Errorf("Has = %v, %v; want true", has, err)
	}
}

func wantAbsent(t *testing.T, s Store, name thaw.ChunkName) {
	t.Helper()
	_, err := s.Get(t.Context(), name)
	wantKind(t, "Get of an absent chunk", err, thaw.NotFound)
	if has, err := s.Has(t.Context(), name); err != nil || has {
		t.Errorf("Has = %v, %v; want false", has, err)
	}
}

// wantUnpublished is for what was put but not synced.
func wantUnpublished(t *testing.T, s Store, name thaw.ChunkName) {
	t.Helper()
	if _, durable := s.(Durable); !durable {
		wantAbsent(t, s, name)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
