// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"

	"gocloud.dev/blob"

	"thaw.dev/thaw"
	"thaw.dev/thaw/store"
)

// contentType is that of everything here: nothing is for a browser.
const contentType = "application/octet-stream"

func (b *Bucket) chunkKey(name thaw.ChunkName) string {
	hex := name.String()
	return b.prefix + chunkPrefix + hex[:2] + "/" + hex
}

// Get implements [thaw.ChunkSource].
func (b *Bucket) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	var sealed thaw.SealedChunk
	err := b.do(ctx, opGet, "store: get "+name.String(), func(ctx context.Context) (int, error) {
		got, err := b.read(ctx, b.chunkKey(name), 0, store.MaxChunkBytes+1)
		switch {
		case err != nil:
		case len(got) > store.MaxChunkBytes:
			err = errCorrupt{errors.New("the stored object is longer than a chunk can be")}
		case thaw.NameOf(got) != name:
			err = errCorrupt{errors.New("the stored bytes have another name")}
		}
		sealed = got
		return len(got), err
	})
	if err != nil {
		return nil, err
	}
	return sealed, nil
}

// read returns up to n bytes of an object from offset off, fewer only at its
// end. A body that ends before its announced length is
// [errShort]. What arrived is returned with an error as well.
func (b *Bucket) read(ctx context.Context, key string, off, n int64) ([]byte, error) {
	r, err := b.blobs.NewRangeReader(ctx, key, off, n, nil)
	if status, _ := b.status(err); status == http.StatusRequestedRangeNotSatisfiable {
		return nil, nil // off is at the end or beyond, as it always is of what is empty
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // the bytes are counted below
	want := max(0, min(n, r.Size()-off))
	var body bytes.Buffer
	body.Grow(int(want) + bytes.MinRead)
	_, err = body.ReadFrom(io.LimitReader(r, n))
	if err == nil && int64(body.Len()) < want {
		err = errShort
	}
	return body.Bytes(), err
}

// Has implements [thaw.ChunkSink].
func (b *Bucket) Has(ctx context.Context, name thaw.ChunkName) (bool, error) {
	err := b.head(ctx, "store: has "+name.String(), b.chunkKey(name))
	if thaw.KindOf(err) == thaw.NotFound {
		return false, nil
	}
	return err == nil, err
}

func (b *Bucket) head(ctx context.Context, what, key string) error {
	return b.do(ctx, opHead, what, func(ctx context.Context) (int, error) {
		_, err := b.blobs.Attributes(ctx, key)
		return 0, err
	})
}

// Put implements [thaw.ChunkSink]: the chunk is durable and visible when Put
// returns. Where the server knows conditional requests, one that exists is left
// as it is; else it is looked for and then put. What may come in between is
// harmless: under one name there are never two contents, so whoever overwrites
// a chunk overwrites it with the same bytes.
func (b *Bucket) Put(ctx context.Context, chunk thaw.NamedChunk) error {
	name, sealed := chunk.Name(), chunk.Sealed()
	if err := ctx.Err(); err != nil {
		return thaw.Wrap("store: put "+name.String(), err)
	}
	if err := store.CheckChunk(chunk); err != nil {
		return err
	}
	what, key := "store: put "+name.String(), b.chunkKey(name)
	if b.conditional.Load() {
		err := b.put(ctx, what, key, sealed, true)
		if err == nil || thaw.KindOf(err) == thaw.Conflict {
			return nil
		}
		if !errors.Is(err, errUnsupported) {
			return err
		}
		b.conditional.Store(false)
	}
	if has, err := b.Has(ctx, name); has || err != nil {
		return err
	}
	return b.put(ctx, what, key, sealed, false)
}

// put stores an object; absent makes it fail with [thaw.Conflict] where there
// is one.
func (b *Bucket) put(ctx context.Context, what, key string, data []byte, absent bool) error {
	options := &blob.WriterOptions{ContentType: contentType, IfNotExist: absent, DisableContentTypeDetection: true}
	return b.do(ctx, opPut, what, func(ctx context.Context) (int, error) {
		return len(data), b.blobs.Upload(ctx, key, bytes.NewReader(data), options)
	})
}

// Sync implements [thaw.ChunkSink]: every Put that has returned was durable
// then.
func (b *Bucket) Sync(ctx context.Context) error { return thaw.Wrap("store: sync", ctx.Err()) }

// Chunks implements [thaw.ChunkLister]. An object that is not named as a chunk
// is yielded as a [thaw.Corrupt] error, and the listing goes on if the caller
// does; after any other error it ends.
func (b *Bucket) Chunks(ctx context.Context) iter.Seq2[thaw.ChunkInfo, error] {
	return func(yield func(thaw.ChunkInfo, error) bool) {
		const what = "store: list chunks"
		for object, err := range b.list(ctx, what, b.prefix+chunkPrefix) {
			if err != nil {
				yield(thaw.ChunkInfo{}, err)
				return
			}
			name, err := thaw.ParseChunkName(object.Key[strings.LastIndexByte(object.Key, '/')+1:])
			if err != nil || b.chunkKey(name) != object.Key {
				err = thaw.Errorf(what, thaw.Corrupt, "%s is not a chunk in its place", object.Key)
			}
			if !yield(thaw.ChunkInfo{Name: name, Bytes: object.Size}, err) {
				return
			}
		}
	}
}

// pageObjects is how many objects one request lists: the most that S3 gives.
const pageObjects = 1000

// list yields the objects whose key begins with prefix. It ends after an error.
func (b *Bucket) list(ctx context.Context, what, prefix string) iter.Seq2[*blob.ListObject, error] {
	return func(yield func(*blob.ListObject, error) bool) {
		for token := blob.FirstPageToken; len(token) > 0; {
			var page []*blob.ListObject
			var next []byte
			err := b.do(ctx, opList, what, func(ctx context.Context) (int, error) {
				var err error
				page, next, err = b.blobs.ListPage(ctx, token, pageObjects, &blob.ListOptions{Prefix: prefix})
				return 0, err
			})
			if err != nil {
				yield(nil, err)
				return
			}
			for _, object := range page {
				if !yield(object, nil) {
					return
				}
			}
			token = next
		}
	}
}
