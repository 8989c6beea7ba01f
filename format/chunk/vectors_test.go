// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"thaw.dev/thaw"
)

// packVector is one file of testdata/vectors/pack.
type packVector struct {
	name, why     string
	plain, packed []byte
	plainBytes    int
}

// packVectors reads the good or bad vectors. Bytes are written in hexadecimal,
// words separated by spaces; "00*4095" repeats a word.
func packVectors(t testing.TB, kind string) []packVector {
	t.Helper()
	var vectors []packVector
	for name, lines := range vectorFiles(t, "pack/"+kind) {
		v := packVector{name: name, plainBytes: -1}
		for _, line := range lines {
			key, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			var err error
			switch key {
			case "why":
				v.why = value
			case "plain":
				v.plain, err = parseBytes(value)
				v.plainBytes = len(v.plain)
			case "plain-bytes":
				v.plainBytes, err = strconv.Atoi(value)
			case "packed":
				v.packed, err = parseBytes(value)
			default:
				err = fmt.Errorf("unknown key %q", key)
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if v.why == "" || v.plainBytes < 0 {
			t.Fatalf("%s: why or the plain bytes are missing", name)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// vectorFiles returns the lines of the files of one folder of vectors.
func vectorFiles(t testing.TB, folder string) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata/vectors", folder, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors in %s: %v", folder, err)
	}
	files := map[string][]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	return files
}

func parseBytes(s string) ([]byte, error) {
	var b []byte
	for word := range strings.FieldsSeq(s) {
		digits, times, repeated := strings.Cut(word, "*")
		part, err := hex.DecodeString(digits)
		n := 1
		if err == nil && repeated {
			n, err = strconv.Atoi(times)
		}
		if err != nil {
			return nil, err
		}
		b = append(b, bytes.Repeat(part, n)...)
	}
	return b, nil
}

func TestPackVectors(t *testing.T) {
	for _, v := range packVectors(t, "good") {
		if got := Pack(nil, v.plain); !bytes.Equal(got, v.packed) {
			t.Errorf("%s (%s): packed to %.60x", v.name, v.why, got)
		}
		if got, err := Unpack(nil, v.packed, v.plainBytes); err != nil || !bytes.Equal(got, v.plain) {
			t.Errorf("%s (%s): unpacked with %v", v.name, v.why, err)
		}
	}
	for _, v := range packVectors(t, "bad") {
		if got, err := Unpack(nil, v.packed, v.plainBytes); thaw.KindOf(err) != thaw.Corrupt || len(got) != 0 {
			t.Errorf("%s (%s): %d bytes, %v", v.name, v.why, len(got), err)
		}
	}
}

// layVector is one file of testdata/vectors/lay; its lines are "file: SIZE
// DOMAIN START PATH" and "extent: BLOCK BLOCKS DOMAIN".
type layVector struct {
	name, why string
	first     uint32
	files     []File
	want      Layout
}

func layVectors(t testing.TB) []layVector {
	t.Helper()
	var vectors []layVector
	for name, lines := range vectorFiles(t, "lay") {
		v := layVector{name: name}
		for _, line := range lines {
			key, value, _ := strings.Cut(line, ": ")
			var err error
			switch key {
			case "why":
				v.why = value
			case "first":
				_, err = fmt.Sscan(value, &v.first)
			case "file":
				var f File
				var start uint32
				_, err = fmt.Sscan(value, &f.Size, &f.Domain, &start, &f.Path)
				v.files, v.want.Start = append(v.files, f), append(v.want.Start, start)
			case "extent":
				var e Extent
				_, err = fmt.Sscan(value, &e.Block, &e.Blocks, &e.Domain)
				v.want.Extents = append(v.want.Extents, e)
			case "end":
				_, err = fmt.Sscan(value, &v.want.End)
			default:
				err = fmt.Errorf("unknown key %q", key)
			}
			if err != nil {
				t.Fatalf("%s: %q: %v", name, line, err)
			}
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// TestLayVectors: a change of where files are cut makes every new image share
// nothing with the stored ones, so it must be seen.
func TestLayVectors(t *testing.T) {
	for _, v := range layVectors(t) {
		got := Lay(v.files, v.first)
		if !slices.Equal(got.Start, v.want.Start) || !slices.Equal(got.Extents, v.want.Extents) || got.End != v.want.End {
			t.Errorf("%s (%s): %+v", v.name, v.why, got)
		}
	}
}
