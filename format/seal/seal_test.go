// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

// vector is a line of testdata/vectors/seal.json: what any implementation of
// docs/format/seal.md must come to.
type vector struct {
	Why    string
	Master string // hexadecimal, as are all byte strings
	Domain thaw.Domain
	Root   thaw.RootID
	Packed string
	Salt   string
	Key    string
	Name   string
	Sealed string // SHA-256 of the sealed bytes is the name; here the first 64 bytes
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors/seal.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, v := range vectors {
		got := v
		salt := DeriveSalt(unhex(t, v.Master), v.Domain, v.Root)
		chunk, key := Seal(nil, salt, unhex(t, v.Packed))
		sealed, name := chunk.Sealed(), chunk.Name()
		got.Salt, got.Key, got.Name = hex.EncodeToString(salt[:]), hex.EncodeToString(key[:]), name.String()
		got.Sealed = hex.EncodeToString(sealed[:min(64, len(sealed))])
		if got != v {
			t.Errorf("%s: got\n%+v, want\n%+v", v.Why, got, v)
		}
		if plain := Open(key, sealed, nil); !bytes.Equal(plain, unhex(t, v.Packed)) {
			t.Errorf("%s: opened to other bytes", v.Why)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzSealOpen(f *testing.F) {
	f.Add([]byte("some packed bytes"), "public", "r1")
	f.Add([]byte{}, "tenant:123456789012", "")
	f.Fuzz(func(t *testing.T, packed []byte, domain, root string) {
		before := bytes.Clone(packed)
		master := bytes.Repeat([]byte{7}, MinMasterBytes)
		salt := DeriveSalt(master, thaw.Domain(domain), thaw.RootID(root))
		chunk, key := Seal(nil, salt, packed)
		sealed, name := chunk.Sealed(), chunk.Name()
		if !bytes.Equal(packed, before) {
			t.Fatal("Seal changed its input")
		}
		if thaw.NameOf(sealed) != name || sha256.Sum256(sealed) != name {
			t.Fatal("the name is not the hash of the sealed bytes")
		}
		used := bytes.Repeat([]byte{1}, len(packed)+1)
		if again, _ := Seal(used, salt, packed); !bytes.Equal(again.Sealed(), sealed) || again.Name() != name || !bytes.HasPrefix(used, sealed) {
			t.Fatal("sealing into used memory made something else, or took other memory")
		}
		if got := Open(key, sealed, []byte("before")); string(got) != "before"+string(packed) {
			t.Fatal("opened to other bytes")
		}
	})
}

// TestDomainsAndRootsNeverMeet: the same bytes have another name in another
// domain, another root, or under another master secret.
func TestDomainsAndRootsNeverMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packed := rapid.SliceOfN(rapid.Byte(), 16, 300).Draw(t, "packed")
		part := rapid.StringMatching(`[a-z0-9:]{0,6}`)
		d1, r1 := part.Draw(t, "d1"), part.Draw(t, "r1")
		d2, r2 := part.Draw(t, "d2"), part.Draw(t, "r2")
		master := bytes.Repeat([]byte{1}, MinMasterBytes)
		c1, k1 := Seal(nil, DeriveSalt(master, thaw.Domain(d1), thaw.RootID(r1)), packed)
		c2, k2 := Seal(nil, DeriveSalt(master, thaw.Domain(d2), thaw.RootID(r2)), packed)
		n1, n2 := c1.Name(), c2.Name()
		same := d1 == d2 && r1 == r2
		if (n1 == n2) != same || (k1 == k2) != same {
			t.Fatalf("(%q,%q) and (%q,%q): names equal %v", d1, r1, d2, r2, n1 == n2)
		}
		c3, _ := Seal(nil, DeriveSalt(bytes.Repeat([]byte{2}, MinMasterBytes), thaw.Domain(d1), thaw.RootID(r1)), packed)
		if c3.Name() == n1 {
			t.Fatal("two master secrets make one name")
		}
	})
}

// TestSealedBytesShowNothing: a marker, however it lies in the chunk, is not in
// the sealed bytes.
func TestSealedBytesShowNothing(t *testing.T) {
	marker := []byte("this-is-a-marker-that-nobody-may-see")
	salt := DeriveSalt(bytes.Repeat([]byte{3}, MinMasterBytes), "tenant:123456789012", "r1")
	for at := range 64 {
		packed := bytes.Repeat([]byte{0}, 4096)
		copy(packed[at:], marker)
		chunk, _ := Seal(nil, salt, packed)
		sealed := chunk.Sealed()
		for n := 8; n <= len(marker); n++ {
			if bytes.Contains(sealed, marker[:n]) {
				t.Fatalf("%d bytes of the marker at %d are in the sealed bytes", n, at)
			}
		}
	}
}

func TestShortMasterPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a master secret of 31 bytes was taken")
		}
	}()
	DeriveSalt(make([]byte, MinMasterBytes-1), "public", "r1")
}

func TestTableCipherRefusesWhatItDidNotMake(t *testing.T) {
	c := NewTableCipher(NewDEK())
	sealed := c.Seal(5, []byte("keys"), []byte("names"))
	if plain, err := c.Open(5, sealed, []byte("names")); err != nil || string(plain) != "keys" {
		t.Fatalf("opened %q, %v", plain, err)
	}
	flipped := bytes.Clone(sealed)
	flipped[0] ^= 1
	for what, open := range map[string]func() ([]byte, error){
		"another number": func() ([]byte, error) { return c.Open(6, sealed, []byte("names")) },
		"other names":    func() ([]byte, error) { return c.Open(5, sealed, []byte("name")) },
		"a flipped bit":  func() ([]byte, error) { return c.Open(5, flipped, []byte("names")) },
		"cut short":      func() ([]byte, error) { return c.Open(5, sealed[:3], []byte("names")) },
		"another key":    func() ([]byte, error) { return NewTableCipher(NewDEK()).Open(5, sealed, []byte("names")) },
	} {
		if _, err := open(); thaw.KindOf(err) != thaw.Corrupt {
			t.Errorf("%s: %v, want corrupt", what, err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	salt := DeriveSalt(make([]byte, MinMasterBytes), "public", "r1")
	packed := make([]byte, thaw.MaxChunkBytes)
	sealed := make([]byte, len(packed))
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		Seal(sealed, salt, packed)
	}
}
