// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"sync"
)

// cachedPages bounds the pages that a Reader remembers: about 24 KB each, 64
// of them cover 4 GiB of an image whose chunks are near their cap, more than
// any start touches.
const cachedPages = 64

// pageCache remembers pages and lets one caller at a time read a page that
// several want. The zero value is ready.
type pageCache struct {
	mu      sync.Mutex
	pages   map[pageID]*cachedPage
	reading map[pageID]chan struct{} // closed when the read has ended
	clock   uint64                   // ticks at each use
}

type cachedPage struct {
	*page
	used uint64
}

// get returns the page, calling read if it isn't remembered. A caller that
// waits for another's read keeps its own context, and reads for itself if the
// other failed. The page is remembered if keep is set.
func (c *pageCache) get(ctx context.Context, id pageID, keep bool, read func() (*page, error)) (*page, error) {
	for {
		c.mu.Lock()
		if p := c.pages[id]; p != nil {
			c.clock++
			p.used = c.clock
			c.mu.Unlock()
			return p.page, nil
		}
		if !keep {
			c.mu.Unlock()
			return read()
		}
		done, waiting := c.reading[id]
		if !waiting {
			return c.readLocked(id, read)
		}
		c.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// readLocked is called with mu held and gives it up.
func (c *pageCache) readLocked(id pageID, read func() (*page, error)) (*page, error) {
	if c.pages == nil {
		c.pages = make(map[pageID]*cachedPage)
		c.reading = make(map[pageID]chan struct{})
	}
	done := make(chan struct{})
	c.reading[id] = done
	c.mu.Unlock()

	var p *page
	var err error
	defer func() { // also if read panics: nobody may wait for ever
		c.mu.Lock()
		defer c.mu.Unlock()
		if p != nil && err == nil {
			c.insertLocked(id, p)
		}
		delete(c.reading, id)
		close(done)
	}()
	p, err = read()
	return p, err
}

func (c *pageCache) insertLocked(id pageID, p *page) {
	if len(c.pages) >= cachedPages {
		oldest, used := pageID{}, c.clock+1
		for id, p := range c.pages {
			if p.used < used {
				oldest, used = id, p.used
			}
		}
		delete(c.pages, oldest)
	}
	c.clock++
	c.pages[id] = &cachedPage{page: p, used: c.clock}
}
