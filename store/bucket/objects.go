// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"iter"
	"math"

	"thaw.dev/thaw"
	"thaw.dev/thaw/store"
)

func (b *Bucket) objectKey(key string) string { return b.prefix + objectPrefix + key }

// PutObject implements [thaw.Objects]. Object stores replace atomically.
func (b *Bucket) PutObject(ctx context.Context, key string, data []byte) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return b.put(ctx, "store: put "+key, b.objectKey(key), data, false)
}

// ReadObject implements [thaw.Objects].
func (b *Bucket) ReadObject(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := store.CheckRange(key, off, n); err != nil {
		return nil, err
	}
	what := "store: read " + key
	if n == 0 { // no service has an empty range
		return nil, b.head(ctx, what, b.objectKey(key))
	}
	var got []byte
	err := b.do(ctx, opGet, what, func(ctx context.Context) (int, error) {
		var err error
		got, err = b.read(ctx, b.objectKey(key), off, min(int64(n), math.MaxInt64-off))
		return len(got), err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// DeleteObject implements [thaw.Objects].
func (b *Bucket) DeleteObject(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := b.do(ctx, opDelete, "store: delete "+key, func(ctx context.Context) (int, error) {
		return 0, b.blobs.Delete(ctx, b.objectKey(key))
	})
	if thaw.KindOf(err) == thaw.NotFound {
		return nil
	}
	return err
}

// ListObjects implements [thaw.Objects]. It ends after an error.
func (b *Bucket) ListObjects(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		top := b.objectKey("")
		for object, err := range b.list(ctx, "store: list objects", top+prefix) {
			if err != nil {
				yield("", err)
				return
			}
			if !yield(object.Key[len(top):], nil) {
				return
			}
		}
	}
}
