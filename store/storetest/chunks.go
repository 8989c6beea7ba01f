// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"slices"
	"testing"

	"thaw.dev/thaw"
)

// ChunkSource tests [thaw.ChunkSource].
func ChunkSource(t *testing.T, open Open) {
	t.Run("absent", func(t *testing.T) {
		s := open(t)
		name, _ := Sealed(1, 100)
		wantAbsent(t, s, name)
		wantAbsent(t, s, thaw.ChunkName{})
	})
	t.Run("canceled", func(t *testing.T) {
		s := open(t)
		name, sealed := Sealed(1, 100)
		mustPut(t, s, sealed)
		mustSync(t, s)
		_, err := s.Get(canceled(t), name)
		wantKind(t, "Get with an ended context", err, thaw.Canceled)
	})
	for what, damage := range map[string]func([]byte) []byte{
		"one bit flipped":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut short":            func(b []byte) []byte { return b[:len(b)-1] },
		"emptied":              func([]byte) []byte { return nil },
		"longer":               func(b []byte) []byte { return append(b, 0) },
		"longer than possible": func(b []byte) []byte { return append(b, make([]byte, 4<<20)...) },
	} {
		t.Run("corrupt/"+what, func(t *testing.T) {
			s := open(t)
			name, sealed := Sealed(2, 5000)
			other, otherSealed := Sealed(3, 5000)
			mustPut(t, s, sealed)
			mustPut(t, s, otherSealed)
			mustSync(t, s)
			s.Damage(name, damage(bytes.Clone(sealed)))
			for range 2 { // it is kept for the operator, not dropped
				_, err := s.Get(t.Context(), name)
				wantKind(t, "Get of a damaged chunk", err, thaw.Corrupt)
			}
			wantStored(t, s, other, otherSealed)
		})
	}
}

// ChunkSink tests [thaw.ChunkSink].
func ChunkSink(t *testing.T, open Open) {
	t.Run("visible only after Sync", func(t *testing.T) {
		s := open(t)
		name, sealed := Sealed(1, 4096)
		mustPut(t, s, sealed)
		wantUnpublished(t, s, name)
		mustSync(t, s)
		wantStored(t, s, name, sealed)
	})
	t.Run("Put may be repeated", func(t *testing.T) {
		s := open(t)
		name, sealed := Sealed(1, 4096)
		mustPut(t, s, sealed)
		mustPut(t, s, sealed)
		mustSync(t, s)
		mustPut(t, s, sealed)
		wantStored(t, s, name, sealed)
		mustSync(t, s)
		mustSync(t, s)
		wantStored(t, s, name, sealed)
	})
	t.Run("the caller may reuse its bytes", func(t *testing.T) {
		s := open(t)
		name, sealed := Sealed(1, 4096)
		mine := slices.Clone(sealed)
		mustPut(t, s, mine)
		clear(mine)
		mustSync(t, s)
		wantStored(t, s, name, sealed)
	})
	t.Run("all sizes", func(t *testing.T) { sizes(t, open(t)) })
	t.Run("refused", func(t *testing.T) { refused(t, open(t)) })
	t.Run("canceled", func(t *testing.T) {
		s := open(t)
		name, sealed := Sealed(1, 100)
		wantKind(t, "Put with an ended context", s.Put(canceled(t), sealed.Named()), thaw.Canceled)
		_, err := s.Has(canceled(t), name)
		wantKind(t, "Has with an ended context", err, thaw.Canceled)
		mustPut(t, s, sealed)
		wantKind(t, "Sync with an ended context", s.Sync(canceled(t)), thaw.Canceled)
		wantUnpublished(t, s, name)
		mustSync(t, s) // what the failed Sync left is covered by the next
		wantStored(t, s, name, sealed)
	})
}

func sizes(t *testing.T, s Store) {
	lengths := []int{0, 1, 4095, 4096, 4097, thaw.MaxChunkBytes, thaw.MaxChunkBytes + 200}
	for _, n := range lengths {
		_, sealed := Sealed(uint64(n), n)
		mustPut(t, s, sealed)
	}
	mustSync(t, s)
	for _, n := range lengths {
		name, sealed := Sealed(uint64(n), n)
		wantStored(t, s, name, sealed)
	}
}

func refused(t *testing.T, s Store) {
	name, sealed := Sealed(1, 100)
	wantKind(t, "Put of no chunk", s.Put(t.Context(), thaw.NamedChunk{}), thaw.Invalid)
	big, bigSealed := Sealed(3, 1<<20)
	wantKind(t, "Put of more than a chunk", s.Put(t.Context(), bigSealed.Named()), thaw.TooLarge)
	mustSync(t, s)
	for _, n := range []thaw.ChunkName{name, big, {}} {
		wantAbsent(t, s, n)
	}
	mustPut(t, s, sealed) // a refusal leaves nothing behind
	mustSync(t, s)
	wantStored(t, s, name, sealed)
}

// ChunkLister tests [thaw.ChunkLister].
func ChunkLister(t *testing.T, open Open) {
	t.Run("empty", func(t *testing.T) {
		for info, err := range open(t).Chunks(t.Context()) {
			t.Errorf("an empty store lists %v, %v", info, err)
		}
	})
	t.Run("lists what is published", func(t *testing.T) {
		s := open(t)
		want := make(map[thaw.ChunkName]int64)
		for i := range 300 {
			name, sealed := Sealed(uint64(i), i)
			mustPut(t, s, sealed)
			want[name] = int64(i)
		}
		mustSync(t, s)
		name, sealed := Sealed(1000, 10)
		mustPut(t, s, sealed)
		if _, durable := s.(Durable); durable {
			want[name] = 10
		} // else it is not published: not listed
		for info, err := range s.Chunks(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if size, ok := want[info.Name]; !ok || size != info.Bytes {
				t.Errorf("lists %v of %d bytes, want %d, %v", info.Name, info.Bytes, size, ok)
			}
			delete(want, info.Name)
		}
		if len(want) > 0 {
			t.Errorf("%d chunks are not listed", len(want))
		}
	})
	t.Run("the caller may stop", func(t *testing.T) {
		s := open(t)
		for i := range 10 {
			_, sealed := Sealed(uint64(i), 10)
			mustPut(t, s, sealed)
		}
		mustSync(t, s)
		n := 0
		for _, err := range s.Chunks(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 3 {
				break
			}
		}
		if n != 3 {
			t.Errorf("it listed %d of 10 chunks before 3 were asked for", n)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		s := open(t)
		_, sealed := Sealed(1, 10)
		mustPut(t, s, sealed)
		mustSync(t, s)
		var last error
		for _, err := range s.Chunks(canceled(t)) {
			last = err
		}
		wantKind(t, "listing with an ended context", last, thaw.Canceled)
	})
}
