// SPDX-License-Identifier: Apache-2.0

// Command warm measures what thaw adds to a warm invocation, over a bare HTTP
// echo: the same payload to a process that only answers, and through the whole
// of the API to a function, back to back and with the sandbox frozen between.
// It gives the server's processor time and the rate at several connections too.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"thaw.dev/thaw/bench/measure"
)

const payload = `{"name":"bench"}`

func main() {
	log.SetFlags(0)
	requests := flag.Int("n", 2000, "invocations, one after another")
	pauses := flag.Int("frozen", 200, "invocations that each meet a frozen sandbox")
	serve := flag.Bool("echo", false, "be the bare HTTP echo")
	seconds := flag.Duration("t", 5*time.Second, "length of a run with several connections")
	flag.Parse()
	if *serve {
		log.Fatal(echo())
	}
	if err := run(context.Background(), *requests, *pauses, *seconds); err != nil {
		log.Fatal("bench/warm: ", err)
	}
}

// target sends one request and reads the whole answer.
type target func() error

func run(ctx context.Context, requests, pauses int, length time.Duration) error {
	b, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	layout, err := b.Images(ctx, "gzip", "go-hello:1")
	if err != nil {
		return err
	}
	if err := b.Create(ctx, layout, "go-hello:1", "warm"); err != nil {
		return err
	}
	function, err := signed(ctx, b)
	if err != nil {
		return err
	}
	bare, stop, err := bareEcho()
	if err != nil {
		return err
	}
	defer stop()
	// The first ones are thrown away.
	if _, err := pair(function, bare, 100, 0); err != nil {
		return err
	}
	before, err := measure.ProcessorTime(b.PID())
	if err != nil {
		return err
	}
	busy, err := pair(function, bare, requests, 0)
	if err != nil {
		return err
	}
	after, err := measure.ProcessorTime(b.PID())
	if err != nil {
		return err
	}
	busy.print("back to back")
	fmt.Printf("%-44s %.3f ms an invocation\n", "processor time of the server", float64(after-before)/1e6/float64(requests))
	for _, c := range []struct {
		name  string
		pause time.Duration
	}{{"idle between, not yet frozen", idle}, {"frozen between", pause}} {
		rested, err := pair(function, bare, pauses, c.pause)
		if err != nil {
			return err
		}
		rested.print(c.name)
	}
	for _, connections := range []int{1, 4, 16} {
		rate, err := load(function, connections, length)
		if err != nil {
			return err
		}
		fmt.Printf("%2d connections: %.0f invocations/s\n", connections, rate)
	}
	return nil
}

// pause is longer than a sandbox has to be idle to be frozen (worker.Config's
// FreezeAfter).
const pause = 80 * time.Millisecond

// idle is a pause, twice, in which a sandbox is not frozen yet: processors and
// processes rest, and what they take to wake up is no matter of the freezer.
const idle = 15 * time.Millisecond

// paired are the samples of two targets that took turns.
type paired struct{ function, bare measure.Samples }

// pair sends to both in turns, n times, with a pause before each.
func pair(function, bare target, n int, pause time.Duration) (paired, error) {
	var p paired
	for range n {
		for _, m := range []struct {
			send    target
			samples *measure.Samples
		}{{function, &p.function}, {bare, &p.bare}} {
			time.Sleep(pause)
			start := time.Now()
			if err := m.send(); err != nil {
				return p, err
			}
			*m.samples = append(*m.samples, time.Since(start))
		}
	}
	return p, nil
}

func (p paired) print(how string) {
	fmt.Printf("%s\n  invocation      %s\n  bare HTTP echo  %s\n", how, p.function, p.bare)
	fmt.Printf("%-44s %.3f ms (promised 0.5)\n", "thaw adds, p50", float64(p.function.Quantile(0.5)-p.bare.Quantile(0.5))/1e6)
}

// load keeps connections busy for a while and returns requests a second.
func load(send target, connections int, length time.Duration) (float64, error) {
	for range connections { // a sandbox for each, started before the clock
		if err := burst(send, connections); err != nil {
			return 0, err
		}
	}
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	start := time.Now()
	for range connections {
		group.Go(func() {
			for time.Since(start) < length && failed.Load() == nil {
				if err := send(); err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

func burst(send target, n int) error {
	var group sync.WaitGroup
	errs := make(chan error, n)
	for range n {
		group.Go(func() { errs <- send() })
	}
	group.Wait()
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}

// signed signs one request and sends it again and again: its date is good for
// five minutes, and the signer's own cost is no cost of the server.
func signed(ctx context.Context, b *measure.Bench) (target, error) {
	url := b.Endpoint + "/2015-03-31/functions/warm/invocations"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(payload)))
	if err != nil {
		return nil, err
	}
	sign := func() error {
		creds, err := b.Credentials(ctx, "default")
		if err != nil {
			return err
		}
		return v4.NewSigner().SignHTTP(ctx, aws.Credentials{AccessKeyID: creds.AccessKey, SecretAccessKey: creds.Secret},
			request, measure.SHA256(payload), "lambda", b.Region, time.Now())
	}
	if err := sign(); err != nil {
		return nil, err
	}
	return func() error { return send(request) }, nil
}

func send(template *http.Request) error {
	request := template.Clone(template.Context())
	request.Body = io.NopCloser(bytes.NewReader([]byte(payload)))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || response.Header.Get("X-Amz-Function-Error") != "") {
		err = fmt.Errorf("HTTP %s: %s", response.Status, body)
	}
	return err
}

// bareEcho starts this program as a server that answers with what it is sent:
// another process, as the function is.
func bareEcho() (target, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, "-echo")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() { _, _ = cmd.Process.Kill(), cmd.Wait() }
	address, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		var request *http.Request
		if request, err = http.NewRequest(http.MethodPost, "http://"+strings.TrimSpace(address)+"/", strings.NewReader(payload)); err == nil {
			return func() error { return send(request) }, stop, nil
		}
	}
	stop()
	return nil, nil, err
}

// echo is that server; it prints its address.
func echo() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
}
