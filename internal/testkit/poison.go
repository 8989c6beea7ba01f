// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// Poison is a kind of layer that is small as it is stored, and takes much of
// whoever makes an image of it.
type Poison struct {
	Name string
	From int // entries with which it takes less than 128 MiB, and not much less

	entry func(w *tar.Writer, i int) error // writes entry i
}

// Poisons are all kinds.
func Poisons() []Poison {
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 19)
	head := func(w *tar.Writer, kind byte, name string) error {
		return w.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Mode: 0o755})
	}
	file := func(w *tar.Writer, name, content string) error {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
		if err == nil {
			_, err = io.WriteString(w, content)
		}
		return err
	}
	link := func(w *tar.Writer, name, target string) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target})
	}
	records := func(w *tar.Writer, name, key, value string) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{key: value}})
	}
	return []Poison{
		{"attributes", 1000, func(w *tar.Writer, i int) error {
			return records(w, fmt.Sprintf("f%d", i), "SCHILY.xattr.user.x", fmt.Sprintf("%060000d", i))
		}},
		{"records that are not kept", 500, func(w *tar.Writer, i int) error {
			return records(w, fmt.Sprintf("ä%d", i), "THAW.test", strings.Repeat("x", 500_000))
		}},
		{"links", 9000, func(w *tar.Writer, i int) error { return link(w, fmt.Sprintf("l%d", i), fmt.Sprintf("%04000d", i)) }},
		{"names", 9000, func(w *tar.Writer, i int) error { return file(w, fmt.Sprintf("%s%0200d", deep, i), "") }},
		{"paths through a link", 9000, func(w *tar.Writer, i int) error {
			if i > 0 {
				return head(w, tar.TypeDir, fmt.Sprintf("l/%d/", i))
			}
			return errors.Join(head(w, tar.TypeDir, deep), link(w, "l", deep))
		}},
		{"empty files", 120_000, func(w *tar.Writer, i int) error { return file(w, fmt.Sprintf("%x", i), "") }},
		{"folders", 120_000, func(w *tar.Writer, i int) error { return head(w, tar.TypeDir, fmt.Sprintf("%x/", i)) }},
		{"files in folders", 60_000, func(w *tar.Writer, i int) error {
			dir := fmt.Sprintf("%x/", i)
			return errors.Join(head(w, tar.TypeDir, dir), file(w, dir+"f", dir))
		}},
		{"files in folders without an entry", 60_000, func(w *tar.Writer, i int) error {
			return file(w, fmt.Sprintf("%x/f", i), fmt.Sprint(i))
		}},
		{"zeros", 1, func(w *tar.Writer, i int) error {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Mode: 0o644, Size: 350 << 20}); err != nil {
				return err
			}
			_, err := io.CopyN(w, zeros{}, 350<<20)
			return err
		}},
	}
}

// PoisonNamed returns one of the kinds.
func PoisonNamed(t testing.TB, name string) Poison {
	t.Helper()
	for _, p := range Poisons() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no poison is called %s", name)
	return Poison{}
}

// Layer is a layer of n entries.
func (p Poison) Layer(t testing.TB, n int) Blob {
	t.Helper()
	var stored bytes.Buffer
	packed, err := gzip.NewWriterLevel(&stored, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	plain := sha256.New()
	w := tar.NewWriter(io.MultiWriter(packed, plain))
	for i := range n {
		if err := p.entry(w, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return Blob{MediaType: layerType + "+gzip", Digest: Digest(stored.Bytes()), DiffID: fmt.Sprintf("sha256:%x", plain.Sum(nil)), Data: stored.Bytes()}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
