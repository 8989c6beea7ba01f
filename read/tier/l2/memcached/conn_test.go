// SPDX-License-Identifier: Apache-2.0

package memcached

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw.dev/thaw"
)

// taken is a Taker that keeps what it is given.
type taken struct {
	refuse bool
	value  []byte
	ended  chan Outcome
}

func newTaken() *taken { return &taken{ended: make(chan Outcome, 1)} }

func (t *taken) Begin(head []byte, valueBytes int) []byte {
	if t.refuse {
		return nil
	}
	t.value = append(make([]byte, 0, valueBytes), head...)
	t.value = t.value[:valueBytes]
	return t.value[len(head):]
}

func (t *taken) End(o Outcome, _ time.Duration) { t.ended <- o }

// scripted is a server that reads lines and answers what answer returns for
// each; an empty answer is none.
func scripted(t *testing.T, answer func(line string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer nc.Close()
				stop := context.AfterFunc(t.Context(), func() { nc.Close() })
				defer stop()
				lines := bufio.NewScanner(nc)
				for lines.Scan() {
					if _, err := io.WriteString(nc, answer(lines.Text())); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return l.Addr().String()
}

func open(t *testing.T, address string, timeout time.Duration) *Conn {
	t.Helper()
	c := Open(Options{Address: address, Timeout: timeout, MaxInFlight: 64, MaxValueBytes: 1 << 20})
	t.Cleanup(c.Close)
	return c
}

const long = 30 * time.Second // never reached where all is well

func TestAnswersComeInOrder(t *testing.T) {
	address := scripted(t, func(line string) string {
		key := strings.Fields(line)[1]
		if strings.HasPrefix(key, "absent") {
			return "EN\r\n"
		}
		value := strings.Repeat(key, 1000)
		return fmt.Sprintf("VA %d\r\n%s\r\n", len(value), value)
	})
	c := open(t, address, long)
	var gets []*taken
	for i := range 60 {
		g := newTaken()
		g.refuse = i%7 == 3
		key := fmt.Sprintf("key%d", i)
		if i%5 == 2 {
			key = fmt.Sprintf("absent%d", i)
		}
		c.Get(key, g)
		gets = append(gets, g)
	}
	for i, g := range gets {
		want := Hit
		if i%5 == 2 {
			want = Miss
		}
		if got := <-g.ended; got != want {
			t.Errorf("get %d ended with %d, not %d", i, got, want)
		}
		if want == Hit && !g.refuse && string(g.value) != strings.Repeat(fmt.Sprintf("key%d", i), 1000) {
			t.Errorf("get %d has another's value, or none", i)
		}
	}
}

// What a server may say instead of an answer. After some of it the connection
// is of no use any more; never is a request left without its end.
func TestStrangeAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   Outcome
		ends   bool // the connection
	}{
		"out of memory":       {"SERVER_ERROR out of memory writing get response\r\n", Failed, false},
		"no such command":     {"ERROR\r\n", Failed, false},
		"bad key":             {"CLIENT_ERROR bad command line format\r\n", Failed, false},
		"short value":         {"VA 3\r\nabc\r\n", Hit, false},
		"empty value":         {"VA 0\r\n\r\n", Hit, false},
		"flags":               {"VA 3 t-1 s3\r\nabc\r\n", Hit, false},
		"garbled":             {"WHAT\r\n", Failed, true},
		"negative":            {"VA -1\r\n", Failed, true},
		"no number":           {"VA x\r\n", Failed, true},
		"longer than any":     {"VA 1048577\r\n", Failed, true},
		"longer than an int":  {"VA 99999999999999999999\r\n", Failed, true},
		"longer than it says": {"VA 3\r\nabcdef\r\n", Failed, true},
		"a line without end":  {strings.Repeat("x", 2*readerBytes), Failed, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, scripted(t, func(string) string { return test.answer }), long)
			g := newTaken()
			c.Get("key", g)
			if got := <-g.ended; got != test.want {
				t.Errorf("ended with %d, not %d", got, test.want)
			}
			if test.ends {
				<-c.done
			}
			if err := c.Err(); (err != nil) != test.ends {
				t.Errorf("the connection's error is %v", err)
			}
		})
	}
}

func TestUnaskedAnswerEndsTheConnection(t *testing.T) {
	c := open(t, scripted(t, func(string) string { return "EN\r\nEN\r\n" }), long)
	g := newTaken()
	c.Get("key", g)
	if got := <-g.ended; got != Miss {
		t.Errorf("ended with %d", got)
	}
	<-c.done
}

// A server that does not answer ends every request, those that came later too,
// and those made afterwards at once.
func TestSilenceEndsAllRequests(t *testing.T) {
	c := open(t, scripted(t, func(string) string { return "" }), 50*time.Millisecond)
	var gets []*taken
	for range 10 {
		g := newTaken()
		c.Get("key", g)
		gets = append(gets, g)
	}
	for _, g := range gets {
		if got := <-g.ended; got != Failed {
			t.Errorf("ended with %d", got)
		}
	}
	if err := c.Set(t.Context(), "key", []byte("a"), []byte("b")); thaw.KindOf(err) != thaw.Unavailable {
		t.Errorf("set: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	g := newTaken()
	open(t, address, long).Get("key", g)
	if got := <-g.ended; got != Failed {
		t.Errorf("ended with %d", got)
	}
}

func TestMoreThanInFlightFailAtOnce(t *testing.T) {
	c := open(t, scripted(t, func(string) string { return "" }), long)
	gets := make([]*taken, 65)
	for i := range gets {
		gets[i] = newTaken()
		c.Get("key", gets[i])
	}
	if got := <-gets[64].ended; got != Failed {
		t.Errorf("the one too many ended with %d", got)
	}
	c.Close()
	for _, g := range gets[:64] {
		if got := <-g.ended; got != Failed {
			t.Errorf("ended with %d by Close", got)
		}
	}
}

func TestCommands(t *testing.T) {
	var mu sync.Mutex
	answers := map[string]string{
		"ms":        "HD\r\n",
		"ab":        "", // the value of the set
		"flush_all": "OK\r\n",
		"stats":     "STAT bytes 17\r\nSTAT version 1.6.18\r\nEND\r\n",
	}
	c := open(t, scripted(t, func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		return answers[strings.Fields(line)[0]]
	}), long)
	if err := c.Set(t.Context(), "key", []byte("a"), []byte("b")); err != nil {
		t.Error(err)
	}
	if err := c.FlushAll(t.Context()); err != nil {
		t.Error(err)
	}
	stats, err := c.Stats(t.Context())
	if err != nil || stats["bytes"] != "17" || stats["version"] != "1.6.18" {
		t.Errorf("%v, %v", stats, err)
	}
	mu.Lock()
	answers["ms"] = "SERVER_ERROR object too large for cache\r\n"
	mu.Unlock()
	if err := c.Set(t.Context(), "key", []byte("a"), []byte("b")); thaw.KindOf(err) != thaw.TooLarge {
		t.Errorf("a set too large: %v", err)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("VA 3\r\nabc\r\nEN\r\n"))
	f.Add([]byte("STAT a b\r\nEND\r\n"))
	f.Add([]byte("VA 1000\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		// Whatever comes, reading it ends, and within the bounds.
		c := &Conn{opts: Options{MaxValueBytes: 4096}}
		r := bufio.NewReaderSize(bytes.NewReader(stream), readerBytes)
		for i := 0; ; i++ {
			line, err := readLine(r)
			if err != nil {
				return
			}
			if i%2 == 0 {
				_, err = c.value(r, line, newTaken())
			} else {
				_, err = readReply(r, line)
			}
			if err != nil {
				return
			}
		}
	})
}
