// Command warm measures what thaw adds to a warm invocation, over a bare HTTP
// echo: the same payload to a server that only answers, and through the whole
// of the API to a function. It gives the rate at several connections too.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
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
	seconds := flag.Duration("t", 5*time.Second, "length of a run with several connections")
	flag.Parse()
	if err := run(context.Background(), *requests, *seconds); err != nil {
		log.Fatal("bench/warm: ", err)
	}
}

// target sends one request and reads the whole answer.
type target func() error

func run(ctx context.Context, requests int, length time.Duration) error {
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
	echo, stop, err := bareEcho()
	if err != nil {
		return err
	}
	defer stop()
	var through, bare measure.Samples
	for i := range requests + 100 {
		for _, m := range []struct {
			send    target
			samples *measure.Samples
		}{{function, &through}, {echo, &bare}} {
			start := time.Now()
			if err := m.send(); err != nil {
				return err
			}
			if i >= 100 {
				*m.samples = append(*m.samples, time.Since(start))
			}
		}
	}
	fmt.Printf("warm invocation  %s\nbare HTTP echo   %s\n", through, bare)
	fmt.Printf("%-44s %.3f ms (promised 0.5)\n", "thaw adds, p50", float64(through.Quantile(0.5)-bare.Quantile(0.5))/1e6)
	for _, connections := range []int{1, 4, 16} {
		rate, err := load(function, connections, length)
		if err != nil {
			return err
		}
		fmt.Printf("%2d connections: %.0f invocations/s\n", connections, rate)
	}
	return nil
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

// bareEcho is a server that answers with what it is sent.
func bareEcho() (target, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	go func() { _ = server.Serve(listener) }()
	request, err := http.NewRequest(http.MethodPost, "http://"+listener.Addr().String()+"/", bytes.NewReader([]byte(payload)))
	if err != nil {
		return nil, nil, err
	}
	return func() error { return send(request) }, func() { _ = server.Close() }, nil
}
