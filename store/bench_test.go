// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"thaw.dev/thaw/store"
	"thaw.dev/thaw/store/storetest"
)

const benchBytes = 150 << 10 // the mean stored chunk of a real image

// BenchmarkPutSync is what an ingest pays: 500 new chunks and one Sync.
func BenchmarkPutSync(b *testing.B) {
	d, err := store.OpenDir(filepath.Join(b.TempDir(), "origin"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	_, sealed := storetest.Sealed(0, benchBytes)
	const chunks = 500
	b.SetBytes(chunks * benchBytes)
	for n := range uint64(b.N) {
		for i := range uint64(chunks) {
			binary.BigEndian.PutUint64(sealed, n*chunks+i)
			if err := d.Put(b.Context(), sealed.Named()); err != nil {
				b.Fatal(err)
			}
		}
		if err := d.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGet is a read from the page cache, verified.
func BenchmarkGet(b *testing.B) {
	d, err := store.OpenDir(filepath.Join(b.TempDir(), "origin"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	name, sealed := storetest.Sealed(1, benchBytes)
	if err := d.Put(b.Context(), sealed.Named()); err != nil {
		b.Fatal(err)
	}
	if err := d.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchBytes)
	for b.Loop() {
		if _, err := d.Get(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
}
