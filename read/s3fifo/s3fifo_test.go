// SPDX-License-Identifier: Apache-2.0

package s3fifo_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"thaw.dev/thaw/read/s3fifo"
)

func TestScanLeavesTheMainQueueAlone(t *testing.T) {
	c := s3fifo.New[int, int](100, nil)
	for i := range 50 { // a working set used again and again
		c.Add(i, i, 1)
	}
	for range 3 {
		for i := range 50 {
			c.Get(i)
		}
	}
	for i := 1000; i < 11000; i++ { // a scan a hundred times the capacity
		c.Add(i, i, 1)
	}
	kept := 0
	for i := range 50 {
		if c.Has(i) {
			kept++
		}
	}
	if kept != 50 {
		t.Errorf("%d of 50 survived the scan", kept)
	}
}

func TestGhostGoesToMain(t *testing.T) {
	c := s3fifo.New[int, int](10, nil)
	for i := range 11 {
		c.Add(i, i, 1)
	}
	if c.Has(0) {
		t.Fatal("the oldest was not evicted")
	}
	c.Add(0, 0, 1)
	for it := range c.Items() {
		if it.Key == 0 && !it.Main {
			t.Error("a key seen again shortly after its eviction is not in the main queue")
		}
	}
}

func TestAddRefuses(t *testing.T) {
	c := s3fifo.New[string, int](10, nil)
	if c.Add("big", 1, 11) {
		t.Error("took more than its capacity")
	}
	if !c.Add("a", 1, 10) || c.Add("a", 2, 1) {
		t.Error("a second Add of a key must change nothing")
	}
	if v, _ := c.Get("a"); v != 1 {
		t.Errorf("value %d", v)
	}
	if !c.Remove("a") || c.Remove("a") || c.Cost() != 0 {
		t.Error("Remove")
	}
}

// Whatever is done, the cost is the sum of what is held, within the capacity,
// and everything added is either held, was evicted once, or was removed.
func TestAccounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := map[int]int64{}
		c := s3fifo.New(100, func(k int, cost int64) {
			if held[k] != cost {
				t.Fatalf("%d was evicted and not held", k)
			}
			delete(held, k)
		})
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			k := rapid.IntRange(0, 60).Draw(t, "key")
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0:
				c.Remove(k)
				delete(held, k)
			case 1:
				c.SetCapacity(rapid.Int64Range(20, 200).Draw(t, "capacity"))
			case 2, 3, 4:
				c.Get(k)
			default:
				cost := rapid.Int64Range(1, 30).Draw(t, "cost")
				if c.Add(k, cost, cost) {
					held[k] = cost
				}
			}
			var sum int64
			for key, cost := range held {
				if !c.Has(key) {
					t.Fatalf("%d is lost", key)
				}
				sum += cost
			}
			if c.Cost() != sum || c.Len() != len(held) || sum > c.Capacity() {
				t.Fatalf("cost %d, len %d of %d held with cost %d, capacity %d", c.Cost(), c.Len(), len(held), sum, c.Capacity())
			}
		}
	})
}

func TestRestoreKeepsTheOrder(t *testing.T) {
	c := s3fifo.New[int, int](50, nil)
	for i := range 80 {
		c.Add(i, i, 1)
		c.Get(i % 13)
	}
	items := slices.Collect(c.Items())
	again := s3fifo.New[int, int](50, nil)
	for _, it := range items {
		if !again.Restore(it) {
			t.Fatalf("%v was refused", it)
		}
	}
	if got := slices.Collect(again.Items()); !slices.Equal(got, items) {
		t.Errorf("restored %v, were %v", got, items)
	}
}
