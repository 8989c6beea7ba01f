// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// abuse is what a hostile function does with what the server does for it, until
// its time is over. It answers how often it got what it asked for.
type abuse struct {
	Kind    string  `json:"kind"`
	Workers int     `json:"workers"` // at a time
	Seconds float64 `json:"seconds"`
	File    string  `json:"file"` // that "reread" reads
}

// abuses are the kinds.
var abuses = map[string]func(a abuse, until time.Time) (done int64, err error){
	"pipeline":    pipeline,
	"churn":       churn,
	"half-header": halfHeader,
	"half-body":   halfBody,
	"print":       printOn,
	"print-bytes": printBytes,
	"reread":      reread,
	"lookup":      askNames,
}

// abused is what came of it.
type abused struct {
	Done  int64  `json:"done"`
	Error string `json:"error"` // the last
}

func (a abuse) run() (abused, error) {
	do, ok := abuses[a.Kind]
	if !ok {
		return abused{}, fmt.Errorf("no abuse is called %q", a.Kind)
	}
	until := time.Now().Add(time.Duration(a.Seconds * float64(time.Second)))
	var group sync.WaitGroup
	var mu sync.Mutex
	var all abused
	for range max(1, a.Workers) {
		group.Go(func() {
			done, err := do(a, until)
			mu.Lock()
			defer mu.Unlock()
			all.Done += done
			if err != nil {
				all.Error = err.Error()
			}
		})
	}
	group.Wait()
	return all, nil
}

// runtimeAPI connects to where the runtime's requests go.
func runtimeAPI(until time.Time) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"), time.Until(until))
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(until)
}

// pipeline sends requests without waiting for their answers, which it reads all
// the same.
func pipeline(_ abuse, until time.Time) (done int64, err error) {
	conn, err := runtimeAPI(until)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	requests := []byte(strings.Repeat("GET /2018-06-01/ping HTTP/1.1\r\nHost: a\r\n\r\n", 100))
	go func() {
		for {
			if _, err := conn.Write(requests); err != nil {
				return
			}
		}
	}()
	answers := bufio.NewScanner(conn)
	for answers.Scan() {
		if bytes.HasPrefix(answers.Bytes(), []byte("HTTP/1.1 200")) || bytes.HasSuffix(answers.Bytes(), []byte("HTTP/1.1 200 OK")) {
			done++
		}
	}
	return done, unlessOver(answers.Err())
}

// churn makes a connection for each request.
func churn(_ abuse, until time.Time) (done int64, err error) {
	for time.Now().Before(until) {
		err = func() error {
			conn, err := runtimeAPI(until)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /2018-06-01/ping HTTP/1.0\r\n\r\n"); err != nil {
				return err
			}
			_, err = io.ReadAll(conn)
			return err
		}()
		if err == nil {
			done++
		}
	}
	return done, unlessOver(err)
}

// halfHeader sends most of a large header, and no more.
func halfHeader(_ abuse, until time.Time) (int64, error) {
	return half(until, "GET /2018-06-01/ping HTTP/1.1\r\nHost: a\r\nX: ", 1<<20)
}

// halfBody sends most of a large body that nobody waits for, and no more.
func halfBody(_ abuse, until time.Time) (int64, error) {
	return half(until, "POST /2018-06-01/runtime/invocation/none/response HTTP/1.1\r\nHost: a\r\nContent-Length: 6000000\r\n\r\n", 5<<20)
}

func half(until time.Time, begin string, n int) (sent int64, err error) {
	conn, err := runtimeAPI(until)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, begin); err != nil {
		return 0, unlessOver(err)
	}
	block := bytes.Repeat([]byte("x"), 32<<10)
	for sent < int64(n) {
		m, err := conn.Write(block)
		sent += int64(m)
		if err != nil {
			return sent, unlessOver(err)
		}
	}
	_, err = io.Copy(io.Discard, conn) // until the time is over, or it is hung up
	return sent, unlessOver(err)
}

// printOn prints long lines as fast as they are taken.
func printOn(_ abuse, until time.Time) (int64, error) {
	return write(until, []byte(strings.Repeat("x", 8191)+"\n"))
}

// printBytes prints lines of one character, each by itself.
func printBytes(_ abuse, until time.Time) (int64, error) { return write(until, []byte("\n")) }

// write does not go by the os package, which would wait for its own turn.
func write(until time.Time, line []byte) (done int64, err error) {
	for time.Now().Before(until) {
		n, err := unix.Write(int(os.Stdout.Fd()), line)
		if err != nil {
			return done, err
		}
		done += int64(n)
	}
	return done, nil
}

// reread reads blocks of a file of the image in no order, and has the kernel
// forget them.
func reread(a abuse, until time.Time) (done int64, err error) {
	file, err := os.Open(a.File)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	block := make([]byte, 4096)
	for time.Now().Before(until) {
		off := rand.Int64N(max(1, info.Size()/4096)) * 4096
		if _, err := file.ReadAt(block, off); err != nil && !errors.Is(err, io.EOF) {
			return done, err
		}
		if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// askNames asks the sandbox's name server without waiting for the answers.
func askNames(_ abuse, until time.Time) (done int64, err error) {
	conn, err := net.Dial("udp", "127.0.0.1:53")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	question := []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x07invalid\x00\x00\x01\x00\x01")
	for time.Now().Before(until) {
		if _, err = conn.Write(question); err == nil {
			done++
		}
	}
	return done, nil
}

// unlessOver is no error where only the time was over.
func unlessOver(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
