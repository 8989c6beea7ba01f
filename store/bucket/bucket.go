// SPDX-License-Identifier: Apache-2.0

// Package bucket keeps an origin in a bucket of an object store: S3 and what
// speaks its protocol, Google Cloud Storage, and Azure's blob storage. It has
// the contracts of store.Dir, with differences that follow from where it is:
//
//   - Put is durable and visible when it returns, since an object store
//     acknowledges nothing before. Sync has nothing left to do.
//   - Any number of processes of any number of machines may put chunks. Two that
//     put one chunk at the same moment put the same bytes, so it does not
//     matter who is last; see [Bucket.Put].
//   - A key may be a folder of another where the object store has no folders.
//
// The layout is that of a directory (docs/format/store.md), so that an origin
// can be moved by copying: PREFIX/FORMAT, PREFIX/chunks/XX/NAME,
// PREFIX/objects/KEY.
//
// # Failures
//
// Every request is bounded in time, and the requests under way are bounded in
// number. What may pass by itself (5xx, 429, a broken connection, a body that
// ends early, a deadline) is tried again after a random wait that doubles, as
// long as the store's retry budget lasts: a bucket of tokens that all requests
// share, of which each retry takes one and each success puts back a tenth. So
// a rare failure is not seen by anyone, and an outage is not answered with a
// multiple of the load: once the budget is spent, requests fail at once. The
// retries of the libraries below are turned off, but for the one that net/http
// makes where a kept connection turns out to be dead.
//
// Whatever the object store answers, a caller sees NotFound only for an object
// that an HTTP response said is not there, Corrupt only for bytes that arrived
// whole and have another name, and Unavailable for the rest: also for denied
// and for a bucket that does not exist, which are the operator's to repair and
// no property of the chunk. [IsOutage] tells these from other errors.
package bucket

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"gocloud.dev/blob"

	"thaw.dev/thaw"
)

const (
	formatKey    = "FORMAT"
	formatText   = "thaw store 1\n" // as of store.Dir: the layout is one
	chunkPrefix  = "chunks/"
	objectPrefix = "objects/"
)

// DefaultConcurrency is the number of requests under way that fills 10 Gbit/s
// with chunks of 150 KiB (the mean) at the 10 to 15 ms that S3 takes for one.
const DefaultConcurrency = 80

// Options bound what a [Bucket] does. The zero value of each means its default.
type Options struct {
	// Concurrency bounds the requests under way; the default is
	// [DefaultConcurrency].
	Concurrency int
	// RequestTimeout bounds one request with its body; the default is 10 s,
	// below the bound of a fetch (tier.Options.FetchTimeout).
	RequestTimeout time.Duration
	// RetryFor bounds how long after an operation began a retry may begin;
	// the default is 8 s.
	RetryFor time.Duration
	// RetryBudget is the number of retries that the store may make before
	// successes pay for more; the default is 100.
	RetryBudget int
	// Backoff is the mean wait before the first retry; it doubles from one to
	// the next up to 2 s; the default is 50 ms.
	Backoff time.Duration
}

func (o Options) withDefaults() Options {
	o.Concurrency = orDefault(o.Concurrency, DefaultConcurrency)
	o.RequestTimeout = orDefault(o.RequestTimeout, 10*time.Second)
	o.RetryFor = orDefault(o.RetryFor, 8*time.Second)
	o.RetryBudget = orDefault(o.RetryBudget, 100)
	o.Backoff = orDefault(o.Backoff, 50*time.Millisecond)
	return o
}

func orDefault[T int | time.Duration](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}

var (
	_ thaw.ChunkSource = (*Bucket)(nil)
	_ thaw.ChunkSink   = (*Bucket)(nil)
	_ thaw.ChunkLister = (*Bucket)(nil)
	_ thaw.Objects     = (*Bucket)(nil)
)

// Bucket is an origin in a bucket. It is safe for concurrent use.
type Bucket struct {
	requester
	blobs  *blob.Bucket
	prefix string // "" or ends with a slash

	// conditional is whether the server takes a put that is to fail where the
	// object exists. It is true until a server says that it does not.
	conditional atomic.Bool
}

// service is a bucket of one of the services, as its file opens it.
type service struct {
	blobs  *blob.Bucket
	where  string // the bucket and its endpoint, for people
	status func(error) (status int, code string)
}

// Open returns the origin at a URL such as
//
//	s3://BUCKET/PREFIX?endpoint=http://127.0.0.1:9000&region=us-east-1
//	gs://BUCKET/PREFIX
//	azblob://CONTAINER/PREFIX?account=NAME
//
// with credentials from where the service's own tools look for them. It asks
// nothing of the object store; [Bucket.Check] does. A URL that can't be is
// [thaw.Invalid]. Close it when done.
func Open(ctx context.Context, location string, o Options) (*Bucket, error) {
	op := "--origin " + location
	at, err := parse(location)
	if err != nil {
		return nil, thaw.Errorf("--origin", thaw.Invalid, "%w", err)
	}
	o = o.withDefaults()
	s, err := at.open(ctx, o)
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Invalid, "%w", err)
	}
	b := &Bucket{requester: newRequester(o, s), blobs: s.blobs, prefix: at.prefix}
	b.conditional.Store(true)
	return b, nil
}

// Close gives up the connections. No other method may be running or follow.
func (b *Bucket) Close() error { return thaw.Wrap("store: close", b.blobs.Close()) }

// Where names the bucket and its endpoint, for people.
func (b *Bucket) Where() string { return b.where }

// IsURL reports whether an origin's location is a URL, and not a directory.
func IsURL(location string) bool {
	u, err := url.Parse(location)
	return err == nil && u.Scheme != "" && strings.Contains(location, "://")
}
