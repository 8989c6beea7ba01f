// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"thaw.dev/thaw"
)

// goodTrees are the trees of testdata/vectors/good.
func goodTrees() []namedTree {
	return []namedTree{{"empty", func() *Inode { return dir() }}, {"small", smallTree}}
}

// smallTree has one of everything. It must stay as it is: its image is a
// vector.
func smallTree() *Inode {
	linked := file(1, 5000)
	large := dir()
	for i := range 150 {
		large.Entries = append(large.Entries, Entry{fmt.Sprintf("entry-%03d-%s", i, strings.Repeat("e", 30)), linked})
	}
	return with(dir(
		Entry{"-dash", file(2, 0)}, Entry{"etc", dir(Entry{"hosts", with(file(3, 20), func(in *Inode) { in.UID, in.GID = 100_000, 1<<31 })}, Entry{"again", linked})},
		Entry{"dev", dir(Entry{"null", device(modeChar, 1, 3)}, Entry{"disk", device(modeBlock, 259, 300)},
			Entry{"fifo", &Inode{Mode: modeFIFO | 0o600}}, Entry{"socket", &Inode{Mode: modeSocket | 0o777}})},
		Entry{"ping", with(file(4, 4096), func(in *Inode) {
			in.Mode = modeRegular | 0o4755
			in.Xattrs = []Xattr{{"security.capability", capability()}, {"user.note", []byte("odd")}, {"system.posix_acl_access", acl(70_000)}, {"trusted.empty", nil}}
		})},
		Entry{"large", large}, Entry{"link", symlink("etc/hosts")}, Entry{"link-4032", symlink(strings.Repeat("l", 4032))},
		Entry{"link-4095", symlink(strings.Repeat("m", 4095))},
		Entry{"old", with(file(5, 1), func(in *Inode) { in.Mtime, in.MtimeNsec = -2, 999_999_999 })},
	), func(in *Inode) { in.Mtime, in.MtimeNsec = 1<<32, 1 })
}

// TestGoodVectors: the writer makes these very bytes of these trees, and the
// reader lists what stands beside them.
func TestGoodVectors(t *testing.T) {
	for _, tree := range goodTrees() {
		want := readVector(t, "good/"+tree.name+".erofs")
		if im := build(t, tree.root()); !bytes.Equal(im.bytes, want) {
			t.Errorf("%s: the image is not that of the vector", tree.name)
		}
		r, err := NewReader(bytes.NewReader(want), int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		text := string(readVector(t, "good/"+tree.name+".txt"))
		sameLines(t, listReader(t, r), strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
	}
}

// badVector is a good image with a few bytes changed.
type badVector struct {
	name, why, finds string
	image            []byte
}

// badVectors reads testdata/vectors/bad. A file says why the image is bad, on
// which good one it is based, what a reader's message must contain, and the
// changes: "at OFFSET: HEX", "truncate: BYTES". The superblock's checksum is
// made right again unless "checksum: kept" is said.
func badVectors(t testing.TB) []badVector {
	t.Helper()
	paths, err := filepath.Glob("testdata/vectors/bad/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bad vectors: %v", err)
	}
	var vectors []badVector
	for _, path := range paths {
		v := badVector{name: filepath.Base(path)}
		seal := true
		text := strings.TrimSpace(string(readVector(t, "bad/"+v.name)))
		for line := range strings.SplitSeq(text, "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "why":
				v.why = value
			case "finds":
				v.finds = value
			case "base":
				v.image = readVector(t, "good/"+value+".erofs")
			case "checksum":
				seal = value != "kept"
			default:
				if v.image, err = change(v.image, key, value); err != nil {
					t.Fatalf("%s: %q: %v", v.name, line, err)
				}
			}
		}
		if v.why == "" || v.finds == "" || v.image == nil {
			t.Fatalf("%s lacks its reason, its message or its base", v.name)
		}
		if seal {
			fixChecksum(v.image)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

func change(image []byte, key, value string) ([]byte, error) {
	if key == "truncate" {
		n, err := strconv.Atoi(value)
		if err != nil || n > len(image) {
			return nil, fmt.Errorf("no length within the image: %w", err)
		}
		return image[:n], nil
	}
	at, err := strconv.Atoi(strings.TrimPrefix(key, "at "))
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(strings.ReplaceAll(value, " ", ""))
	if err != nil || at+len(b) > len(image) {
		return nil, fmt.Errorf("no bytes within the image: %w", err)
	}
	copy(image[at:], b)
	return image, nil
}

func fixChecksum(image []byte) {
	if len(image) >= blockBytes {
		s := image[superOffset:blockBytes]
		clear(s[superChecksumAt:superCompatAt])
		binary.LittleEndian.PutUint32(s[superChecksumAt:], superChecksum(s))
	}
}

func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBadVectors(t *testing.T) {
	for _, v := range badVectors(t) {
		err := readAll(bytes.NewReader(v.image), int64(len(v.image)))
		if thaw.KindOf(err) != thaw.Corrupt || !strings.Contains(fmt.Sprint(err), v.finds) {
			t.Errorf("%s (%s): %v", v.name, v.why, err)
		}
	}
}

// readAll reads all that there is of an image.
func readAll(src *bytes.Reader, size int64) error {
	r, err := NewReader(src, size)
	if err != nil {
		return err
	}
	links := map[uint64]uint32{}
	return r.Walk(func(path string, n *Node) error {
		links[n.NID]++
		if links[n.NID] == 1 && n.IsRegular() {
			f, err := r.Open(n)
			if err != nil {
				return err
			}
			if _, err := f.Seek(n.Size, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestBadVectorsAreDistinct guards against a vector that changes nothing.
func TestBadVectorsAreDistinct(t *testing.T) {
	byImage := map[string]string{}
	for _, v := range badVectors(t) {
		if other, same := byImage[string(v.image)]; same {
			t.Errorf("%s and %s are the same image", v.name, other)
		}
		byImage[string(v.image)] = v.name
	}
	if slices.Contains(slices.Collect(maps.Keys(byImage)), string(readVector(t, "good/small.erofs"))) {
		t.Error("a bad vector is the good image")
	}
}
