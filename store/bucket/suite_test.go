// SPDX-License-Identifier: Apache-2.0

package bucket_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/s3test"
	"thaw.dev/thaw/store/bucket"
	"thaw.dev/thaw/store/storetest"
)

// underTest adds to a Bucket what the suite needs.
type underTest struct {
	*bucket.Bucket
	folder string // of the origin's objects on the server's disk
}

// PutIsDurable tells the suite what to expect before Sync.
func (underTest) PutIsDurable() {}

// Damage changes a chunk on the server's disk.
func (u underTest) Damage(name thaw.ChunkName, sealed thaw.SealedChunk) {
	path := filepath.Join(u.folder, "chunks", name.String()[:2], name.String())
	if err := os.WriteFile(path, sealed, 0o644); err != nil {
		panic(err)
	}
}

func mustOpen(t *testing.T, location string, o bucket.Options) *bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), location, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

// TestS3 runs the suite against a real S3 server.
func TestS3(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket("origin")
	var stores atomic.Int32
	storetest.Run(t, func(t *testing.T) storetest.Store {
		prefix := fmt.Sprintf("tests/store-%d", stores.Add(1))
		b := mustOpen(t, s3test.URL(server.Endpoint, "origin", prefix), bucket.Options{RequestTimeout: time.Minute})
		return underTest{b, filepath.Join(server.Dir, "origin", prefix)}
	})
}

func (u underTest) overwrite(t *testing.T, key, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(u.folder, key), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
