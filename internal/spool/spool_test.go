// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

// TestTake: a body of any length comes out as it went in, by reads or as a whole,
// and leaves nothing behind, whether or not there was room in memory.
func TestTake(t *testing.T) {
	data := make([]byte, 3<<20+7)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	dir := filepath.Join(t.TempDir(), "made", "on", "demand")
	for _, memory := range []int64{1, 300 << 10, sharedBytes} {
		s := New(dir, 64<<20)
		s.memory = fair.New(fair.Options{Name: "x", Size: memory})
		for _, n := range []int{0, 1, ownBytes - 1, ownBytes, ownBytes + 1, 200 << 10, stepBytes, stepBytes + 1, len(data)} {
			takeAndGive(t, s, data[:n])
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func takeAndGive(t *testing.T, s *Store, want []byte) {
	t.Helper()
	n, sum := len(want), sha256.New()
	take := func() *Body {
		b, err := s.Take("a", iotest.HalfReader(bytes.NewReader(want)), 4<<20, sum)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		return b
	}
	b := take()
	if got, err := b.Bytes(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes as a whole: %d bytes, %v", n, len(got), err)
	}
	if one := sha256.Sum256(want); !bytes.Equal(sum.Sum(nil), one[:]) {
		t.Errorf("%d bytes: another hash", n)
	}
	b = take()
	inFiles := s.files.Usage().Held
	switch size := s.memory.Usage().Size; {
	case n < ownBytes && inFiles+s.memory.Usage().Held > 0, size == sharedBytes && inFiles > 0:
		t.Errorf("%d bytes of %d: %d are held in memory, %d in files", n, size, s.memory.Usage().Held, inFiles)
	case int64(n) > size && n > ownBytes && (inFiles < int64(n) || s.memory.Usage().Held > 0):
		t.Errorf("%d bytes of %d: %d are held in memory, %d in files", n, size, s.memory.Usage().Held, inFiles)
	}
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes by reads: %d bytes, %v", n, len(got), err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Errorf("%d bytes: close: %v", n, err)
	}
	if held := s.memory.Usage().Held + s.files.Usage().Held; held != 0 {
		t.Errorf("%d bytes: %d are held after the end", n, held)
	}
}

// TestTakeFails: what can't be taken in is told by its kind, and takes nothing.
func TestTakeFails(t *testing.T) {
	s := New(t.TempDir(), 8<<20)
	s.memory = fair.New(fair.Options{Name: "x", Size: 1})
	gone := errors.New("gone")
	for _, try := range []struct {
		what  string
		body  io.Reader
		limit int64
		kind  thaw.Kind
	}{
		{"longer than a short limit", bytes.NewReader(make([]byte, 11)), 10, thaw.TooLarge},
		{"longer than a long limit", bytes.NewReader(make([]byte, 1<<20+1)), 1 << 20, thaw.TooLarge},
		{"broken off early", iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(make([]byte, 10)))), 100, thaw.Internal},
		{"broken off late", io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotest.ErrReader(gone)), 4 << 20, thaw.Internal},
	} {
		b, err := s.Take("a", try.body, try.limit, nil)
		if err == nil || thaw.KindOf(err) != try.kind {
			t.Errorf("%s: %v, want %s", try.what, err, try.kind)
		}
		if b != nil || s.files.Usage().Held != 0 {
			t.Errorf("%s: it took something", try.what)
		}
	}
}

// TestTurns: whoever sends much leaves room for others.
func TestTurns(t *testing.T) {
	s := New(t.TempDir(), 8<<20)
	s.memory = fair.New(fair.Options{Name: "x", Size: 1})
	var mine []*Body
	for {
		b, err := s.Take("greedy", bytes.NewReader(make([]byte, stepBytes)), 4<<20, nil)
		if err != nil {
			if thaw.KindOf(err) != thaw.Throttled {
				t.Error(err)
			}
			break
		}
		mine = append(mine, b)
	}
	other, err := s.Take("other", bytes.NewReader(make([]byte, 2*stepBytes)), 4<<20, nil)
	if err != nil {
		t.Fatalf("beside one that has all it may: %v", err)
	}
	for _, b := range append(mine, other) {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(mine) != 4 || s.files.Usage().Held != 0 {
		t.Errorf("one owner had %d of 8, and %d are held after the end", len(mine), s.files.Usage().Held)
	}
}
