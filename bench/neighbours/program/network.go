// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// api connects to the Runtime API; the connection ends with ctx.
func api(ctx context.Context) (net.Conn, error) {
	c, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c, nil
}

// pipeline sends requests on 20 connections without waiting for answers.
func pipeline(ctx context.Context) string {
	requests := bytes.Repeat([]byte("GET /2018-06-01/none HTTP/1.1\r\nHost: x\r\n\r\n"), 100)
	var mu sync.Mutex
	answers := map[string]int{}
	var conns sync.WaitGroup
	for range 20 {
		conns.Go(func() {
			for ctx.Err() == nil {
				c, err := api(ctx)
				if err != nil {
					mu.Lock()
					answers[err.Error()]++
					mu.Unlock()
					time.Sleep(time.Millisecond)
					continue
				}
				go func() {
					for ctx.Err() == nil {
						if _, err := c.Write(requests); err != nil {
							return
						}
					}
				}()
				count(c, &mu, answers)
				_ = c.Close()
			}
		})
	}
	conns.Wait()
	return most(answers)
}

// count counts the statuses of answers, until the connection ends.
func count(c net.Conn, mu *sync.Mutex, answers map[string]int) {
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			return
		}
		mu.Lock()
		answers[response.Status]++
		mu.Unlock()
		if _, err := in.Discard(int(max(0, response.ContentLength))); err != nil {
			return
		}
	}
}

// half begins 63 requests and does not end their headers.
func half(ctx context.Context) string {
	line := []byte("X-Fill: " + strings.Repeat("x", 8000) + "\r\n")
	var mu sync.Mutex
	answers := map[string]int{}
	var conns sync.WaitGroup
	for range 63 {
		conns.Go(func() {
			c, err := api(ctx)
			if err != nil {
				mu.Lock()
				answers[err.Error()]++
				mu.Unlock()
				return
			}
			_, _ = c.Write([]byte("POST /2018-06-01/runtime/invocation/none/response HTTP/1.1\r\nHost: x\r\n"))
			for range 132 { // 1 MiB and a little
				if _, err := c.Write(line); err != nil {
					break
				}
			}
			count(c, &mu, answers)
			<-ctx.Done()
		})
	}
	conns.Wait()
	return most(answers)
}

// names asks for names as fast as it can.
func names(ctx context.Context) string {
	var mu sync.Mutex
	answers := map[string]int{}
	var askers sync.WaitGroup
	for i := range 4 {
		askers.Go(func() {
			c, err := net.Dial("udp", "127.0.0.1:53")
			if err != nil {
				return
			}
			defer c.Close()
			go func() {
				reply := make([]byte, 4096)
				for {
					n, err := c.Read(reply)
					if ctx.Err() != nil {
						return
					}
					text := fmt.Sprint(err)
					var p dnsmessage.Parser
					if h, err := p.Start(reply[:n]); err == nil {
						text = h.RCode.String()
					}
					mu.Lock()
					answers[text]++
					mu.Unlock()
				}
			}()
			for n := 0; ctx.Err() == nil; n++ {
				name := dnsmessage.MustNewName(fmt.Sprintf("n%d-%d.example.com.", i, n))
				m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(n), RecursionDesired: true},
					Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
				question, err := m.Pack()
				if err != nil {
					return
				}
				_, _ = c.Write(question)
			}
		})
	}
	askers.Wait()
	return most(answers)
}

// most is the commonest answer, and how often it came.
func most(answers map[string]int) string {
	best := ""
	for text, n := range answers {
		if best == "" || n > answers[best] {
			best = text
		}
	}
	if best == "" {
		return "nothing"
	}
	return fmt.Sprintf("%s, %d times", best, answers[best])
}
