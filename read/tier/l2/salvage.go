// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/stripe"
	"thaw.dev/thaw/read/tier/l2/memcached"
)

// answer is a stripe as a server gave it, received to memory of its own. It
// implements memcached.Taker.
type answer struct {
	server  *server
	header  stripe.Header
	payload []byte
	ended   chan<- *answer // has room for every answer
	outcome memcached.Outcome
	bytes   int
}

// Begin makes room for what has a header.
func (a *answer) Begin(head []byte, valueBytes int) []byte {
	a.bytes = valueBytes
	h, err := stripe.ParseHeader(head, valueBytes)
	if err != nil {
		return nil
	}
	a.header = h
	a.payload = make([]byte, h.StripeBytes(h.ChunkBytes))
	return a.payload
}

// End hands the answer over.
func (a *answer) End(o memcached.Outcome, took time.Duration) {
	a.server.ended(o, a.bytes, took)
	a.outcome = o
	a.ended <- a
}

// salvage reads a chunk of which stripes were found not to fit each other. It
// waits for all that answer and tries which of them make the chunk: all sets of
// four out of five are five. The stripe that is wrong is counted and replaced.
func (l *L2) salvage(ctx context.Context, f *fleet, name thaw.ChunkName, key string) (thaw.SealedChunk, bool) {
	l.salvages.Add(1)
	answers, without, ok := l.collect(ctx, f, name, key)
	if !ok {
		return nil, false
	}
	layout := f.coder.Layout()
	for out := range len(answers) + 1 { // the last leaves none out
		set := make([]*answer, 0, len(answers))
		for i, a := range answers {
			if i != out {
				set = append(set, a)
			}
		}
		if len(set) != layout.Data {
			continue
		}
		sealed, free, ok := joinSet(f.coder, set)
		if !ok || thaw.NameOf(sealed) != name {
			continue
		}
		switch {
		case out < len(answers):
			l.judge(f.coder, name, sealed, answers[out], free)
		case len(without) == 1 && free < layout.Stripes():
			l.queue.add(fill{name: name, sealed: sealed, coder: f.coder, places: []placed{{without[0], free}}})
		}
		return sealed, true
	}
	// Too many are wrong to tell which. The origin has the chunk, and what is
	// stored after that replaces all of them.
	l.unverified.Add(1)
	if layout.Data == 1 { // then it is certain
		for _, a := range answers {
			a.server.bad.Add(1)
		}
	}
	l.complain("L2: stripes do not make the chunk of that name; it is fetched from the origin", "chunk", name, "stripes", len(answers))
	return nil, false
}

// collect gets all stripes that servers give, and the servers that answer but
// have none.
func (l *L2) collect(ctx context.Context, f *fleet, name thaw.ChunkName, key string) (usable []*answer, without []*server, ok bool) {
	places := f.table.Place(name)
	ended := make(chan *answer, len(places))
	asked := 0
	for _, place := range places {
		if s := f.servers[place]; s.breaker.allow(time.Now()) {
			asked++
			s.get(key, &answer{server: s, ended: ended})
		}
	}
	for range asked {
		select {
		case a := <-ended:
			switch {
			case a.outcome == memcached.Failed:
			case a.outcome == memcached.Hit && a.payload != nil && a.header.Layout == f.coder.Layout():
				usable = append(usable, a)
			default:
				without = append(without, a.server)
			}
		case <-ctx.Done():
			return nil, nil, false
		}
	}
	return usable, without, true
}

// joinSet joins stripes if they are as many as there are data stripes, all
// different, of chunks of one length. free is the index that is not among them;
// with a layout without parity it is none of them.
func joinSet(c *stripe.Coder, set []*answer) (sealed thaw.SealedChunk, free int, ok bool) {
	layout := c.Layout()
	chunkBytes := set[0].header.ChunkBytes
	n := layout.StripeBytes(chunkBytes)
	data := make([]byte, n*layout.Data)
	seen := make([]bool, layout.Stripes()+1)
	var parity []byte
	for _, a := range set {
		if a.header.ChunkBytes != chunkBytes || seen[a.header.Index] {
			return nil, 0, false
		}
		seen[a.header.Index] = true
		if a.header.Index < layout.Data {
			copy(data[a.header.Index*n:], a.payload)
		} else {
			parity = a.payload
		}
	}
	for seen[free] {
		free++
	}
	if parity != nil {
		if err := c.Restore(data, free, parity); err != nil {
			return nil, 0, false
		}
	}
	return data[:chunkBytes:chunkBytes], free, true
}

// judge compares the stripe that was left out with what it should be.
func (l *L2) judge(c *stripe.Coder, name thaw.ChunkName, sealed thaw.SealedChunk, a *answer, index int) {
	stripes, err := c.Split(sealed)
	if err != nil || index >= len(stripes) || sameStripe(*a, index, stripes[index]) {
		return
	}
	a.server.bad.Add(1)
	l.complain("L2: a server gave a stripe that is wrong; it is replaced", "server", a.server.address, "chunk", name)
	l.queue.add(fill{name: name, sealed: sealed, coder: c, places: []placed{{a.server, index}}})
}
