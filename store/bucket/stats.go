// SPDX-License-Identifier: Apache-2.0

package bucket

import "sync/atomic"

// operation is what is asked of the object store, as it is counted.
type operation uint8

const (
	opGet operation = iota // the bytes of an object or of a range of it
	opHead
	opPut
	opDelete
	opList
	operations // how many there are
)

var operationNames = [operations]string{"get", "head", "put", "delete", "list"}

// Stats is what a [Bucket] has done since it was opened.
type Stats struct {
	Requests []Count `json:"requests"` // those that were made at all
	Retries  int64   `json:"retries"`
	// RetriesRefused counts retries that were not made because the budget was
	// spent: an outage, or a budget that is too small.
	RetriesRefused int64   `json:"retries_refused"`
	RetryBudget    float64 `json:"retry_budget"` // what is left of it
	UnderWay       int     `json:"under_way"`    // requests at this moment
}

// Count counts the requests of one operation that ended alike.
type Count struct {
	Operation string `json:"operation"` // get, head, put, delete, list
	Result    string `json:"result"`    // ok, absent, throttled, ...: see docs/origin.md
	Requests  int64  `json:"requests"`
	Bytes     int64  `json:"bytes"` // of bodies, sent by put, received by get
}

// counters are the live form of Stats.Requests.
type counters [operations][results]struct{ requests, bytes atomic.Int64 }

func (c *counters) add(op operation, f *failure, bytes int) {
	result := ok
	if f != nil {
		result = f.result
	}
	c[op][result].requests.Add(1)
	c[op][result].bytes.Add(int64(bytes))
}

// Stats returns the counters so far.
func (b *Bucket) Stats() Stats {
	s := Stats{Retries: b.retries.Load(), UnderWay: len(b.slots)}
	s.RetryBudget, s.RetriesRefused = b.budget.state()
	for op := range operations {
		for result := range results {
			c := &b.counts[op][result]
			if n := c.requests.Load(); n > 0 {
				s.Requests = append(s.Requests, Count{operationNames[op], resultNames[result], n, c.bytes.Load()})
			}
		}
	}
	return s
}
