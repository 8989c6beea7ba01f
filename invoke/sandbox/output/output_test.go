// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/fair"
)

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Len()
}

func open(t *testing.T, p *Pipes, err error) *Pipes {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBothStreams(t *testing.T) {
	var out, errs buffer
	p, err := Open(&out, &errs, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	if len(p.Writers) != 2 || p.Shared {
		t.Fatalf("%+v", p)
	}
	p.Pump()
	_, _ = p.Writers[0].WriteString("a")
	_, _ = p.Writers[1].WriteString("b")
	p.CloseWriters()
	p.Wait(time.Minute)
	if out.b.String() != "a" || errs.b.String() != "b" {
		t.Errorf("out %q, err %q", out.b.String(), errs.b.String())
	}
}

func TestOneWriterKeepsTheOrder(t *testing.T) {
	var both buffer
	p, err := Open(&both, &both, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	if len(p.Writers) != 1 || !p.Shared || !p.Stderr {
		t.Fatalf("%+v", p)
	}
	p.Abandon()
	if p, err = Open(nil, &both, os.Getuid(), os.Getgid()); err != nil || len(p.Writers) != 1 || p.Stdout || p.Shared {
		t.Fatalf("%+v %v", p, err)
	}
	p.Abandon()
}

// TestPace: a sandbox that prints without end waits in its writes, and loses
// nothing of what it wrote; Drain waits for nothing all the same.
func TestPace(t *testing.T) {
	var out buffer
	p, err := Open(&out, nil, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	const most = 8 * readBytes
	p.pace = fair.NewBucket(1, most)
	p.Pump()
	w := int(p.Writers[0].Fd())
	if err := unix.SetNonblock(w, true); err != nil {
		t.Fatal(err)
	}
	written := 0
	for full := 0; full < 100 && written < 100*most; {
		n, err := unix.Write(w, make([]byte, 4096))
		if errors.Is(err, unix.EAGAIN) {
			full++
			time.Sleep(time.Millisecond) // for a reader that should not be there
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		full, written = 0, written+n
	}
	if got := out.size(); got > most+readBytes || got == written {
		t.Errorf("%d bytes of %d were read", got, written)
	}
	p.Drain()
	if got := out.size(); got != written {
		t.Errorf("%d bytes of %d were there to drain", got, written)
	}
	if _, err := unix.Write(w, []byte("end")); err != nil {
		t.Fatal(err)
	}
	p.CloseWriters()
	p.Wait(10 * time.Second)
	if got := out.size(); got != written+len("end") {
		t.Errorf("%d bytes of %d came in the end", got, written)
	}
}

// TestSmallWritesAreReadTogether: lines that come one by one don't cost a read
// each, without end.
func TestSmallWritesAreReadTogether(t *testing.T) {
	var out buffer
	p, err := Open(&out, nil, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	p.pace = fair.NewBucket(1, 4*leastBytes)
	p.Pump()
	for i := range 10 {
		if _, err := p.Writers[0].Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 100 && out.size() <= i; n++ { // until it is read, if it is
			time.Sleep(time.Millisecond)
		}
	}
	if got := out.size(); got > 5 {
		t.Errorf("%d were read one by one", got)
	}
	p.CloseWriters()
	p.Wait(10 * time.Second)
	if got := out.size(); got != 10 {
		t.Errorf("%d came in the end", got)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestAFailingWriterDoesNotStopTheSandbox(t *testing.T) {
	p, err := Open(failing{}, nil, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	p.Pump()
	for range 10 { // far more than a pipe holds: it would block if nobody read
		if _, err := p.Writers[0].Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	p.CloseWriters()
	p.Wait(time.Minute)
}

type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

func TestAStuckWriterDoesNotHoldUpTheEnd(t *testing.T) {
	s := stuck{make(chan struct{})}
	p, err := Open(s, nil, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	p.Pump()
	_, _ = p.Writers[0].WriteString("x")
	p.CloseWriters()
	p.Wait(10 * time.Millisecond) // returns
	close(s.release)
	p.pumping.Wait()
}

// TestDrain: what was written before is there after, whichever goroutine read
// it, and in its order; a process that prints on holds nobody up.
func TestDrain(t *testing.T) {
	var out buffer
	p, err := Open(&out, nil, os.Getuid(), os.Getgid())
	p = open(t, p, err)
	p.Pump()
	var want bytes.Buffer
	for i := range 2000 {
		line := strings.Repeat("x", i*7%5000) + "\n"
		want.WriteString(line)
		if _, err := p.Writers[0].WriteString(line); err != nil {
			t.Fatal(err)
		}
		p.Drain()
		if got := out.size(); got != want.Len() {
			t.Fatalf("line %d: %d of %d bytes are there", i, got, want.Len())
		}
	}
	if out.b.String() != want.String() {
		t.Fatal("the order is lost")
	}
	printing, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(printing)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = p.Writers[0].Write(make([]byte, 60<<10))
			}
		}
	}()
	for range 100 {
		p.Drain()
	}
	close(stop)
	<-printing
	p.CloseWriters()
	p.Wait(time.Minute)
	p.Drain() // of a pipe that is closed: nothing
}
