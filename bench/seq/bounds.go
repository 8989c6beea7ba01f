// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/seal"
)

// values are what the bounds of a read from the zone's cache are measured on:
// chunks' worth of bytes on the same servers.
type values struct {
	client  *memcache.Client
	chunk   []byte
	chunks  int64 // that the file has
	readers int
}

// valueCount is how many values there are; they are read in turn. They take room
// on full servers, as little as gives each server some.
const valueCount = 64

func newValues(addresses []string, bytes int64) (*values, error) {
	v := &values{client: memcache.New(addresses...), chunk: make([]byte, thaw.MaxChunkBytes), chunks: bytes / thaw.MaxChunkBytes, readers: 4}
	v.client.Timeout = 10 * time.Second
	v.client.MaxIdleConns = v.readers
	_, _ = rand.NewChaCha8([32]byte{}).Read(v.chunk) // never fails
	for i := range valueCount {
		if err := v.client.Set(&memcache.Item{Key: valueKey(int64(i)), Value: v.chunk}); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func valueKey(i int64) string { return fmt.Sprintf("seq-%d", i%valueCount) }

// gets asks for as many bytes as the file has, some chunks at a time.
func (v *values) gets() (time.Duration, error) {
	var group sync.WaitGroup
	failed := make([]error, v.readers)
	begin := time.Now()
	for r := range v.readers {
		group.Go(func() {
			for i := int64(r); i < v.chunks && failed[r] == nil; i += int64(v.readers) {
				_, failed[r] = v.client.Get(valueKey(i))
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

// open does with as many bytes as the file has what no reader of chunks can do
// without, one after the other: it hashes and deciphers them.
func (v *values) open() time.Duration {
	plain := make([]byte, len(v.chunk))
	begin := time.Now()
	for range v.chunks {
		thaw.NameOf(v.chunk)
		seal.Open(seal.Key{}, v.chunk, plain[:0])
	}
	return time.Since(begin)
}
