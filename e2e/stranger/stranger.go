// SPDX-License-Identifier: Apache-2.0

// Package stranger is a crowd that knows no secret and means no good: it keeps
// connections of every annoying kind to a server of a test, for as long as it is
// told.
package stranger

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options say who comes to whom.
type Options struct {
	Server      string   // HOST:PORT
	Connections int      // at once
	From        []string // addresses that they come from, in turn
	AccessKey   string   // the id of a tenant's key, whose secret they do not know
	Region      string
	Seed        uint64
	Kinds       []string // nil means all, see [Kinds]
}

// Report is what became of a crowd.
type Report struct {
	Connected, Refused int64            // connections made, and those that were not
	Answers            map[string]int64 // by the first line, "" where there was none
}

// Run has the crowd at it until ctx ends, and waits until all have gone.
func Run(ctx context.Context, o Options) Report {
	kinds := o.Kinds
	if kinds == nil {
		kinds = Kinds()
	}
	c := &crowd{options: o, answers: map[string]int64{}}
	var group sync.WaitGroup
	for i := range o.Connections {
		group.Go(func() {
			v := &visitor{crowd: c, rand: rand.New(rand.NewPCG(o.Seed, uint64(i))), from: o.From[i%len(o.From)]}
			for ctx.Err() == nil {
				v.visit(ctx, behaviours[kinds[v.rand.IntN(len(kinds))]])
			}
		})
	}
	group.Wait()
	return Report{Connected: c.connected.Load(), Refused: c.refused.Load(), Answers: c.answers}
}

// Kinds names what visitors do.
func Kinds() []string { return slices.Sorted(maps.Keys(behaviours)) }

type crowd struct {
	options            Options
	connected, refused atomic.Int64

	mu      sync.Mutex // guards what follows
	answers map[string]int64
}

// visitor is one that comes again and again.
type visitor struct {
	*crowd
	rand *rand.Rand
	from string
	conn net.Conn
}

// longestStay bounds one visit: who is let stay for ever does something else then.
const longestStay = 40 * time.Second

func (v *visitor) visit(ctx context.Context, behave func(*visitor) error) {
	v.sleep(ctx, time.Second)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(v.from)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", v.options.Server)
	if err != nil {
		v.refused.Add(1)
		return
	}
	defer conn.Close()
	v.connected.Add(1)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(longestStay))
	v.conn = conn
	// An error is the server's way to be rid of us.
	_ = behave(v)
}

// sleep waits for up to most.
func (v *visitor) sleep(ctx context.Context, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(v.rand.Int64N(int64(most)))):
	}
}

func (v *visitor) send(format string, args ...any) error {
	_, err := fmt.Fprintf(v.conn, format, args...)
	return err
}

// stay reads until the server ends the connection.
func (v *visitor) stay() error {
	line := make([]byte, 0, 64)
	buffer := make([]byte, 4<<10)
	for {
		n, err := v.conn.Read(buffer)
		if room := cap(line) - len(line); room > 0 {
			line = append(line, buffer[:min(n, room)]...)
		}
		if err != nil {
			v.note(line)
			return err
		}
	}
}

func (v *visitor) note(line []byte) {
	if i := slices.Index(line, '\r'); i >= 0 {
		line = line[:i]
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answers[string(line)]++
}

// dribble sends pieces with pauses until the server has enough.
func (v *visitor) dribble(piece func() []byte, pause time.Duration) error {
	go func() { _, _ = io.Copy(io.Discard, v.conn) }() // ends with the connection
	for {
		if _, err := v.conn.Write(piece()); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

func (v *visitor) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(v.rand.Uint32())
	}
	return b
}
