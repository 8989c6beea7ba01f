// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// strangerScenarios are abuses without credentials.
var strangerScenarios = []*scenario{
	connecting("headers", "800 connections with headers of 1 MiB that do not end", 800, func(ctx context.Context, a *abuser, c net.Conn) {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
		line := []byte("X-Fill: " + strings.Repeat("x", 8000) + "\r\n")
		for range 127 {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	}),
	connecting("idle", "17,000 connections that send nothing, to a server of 14,000 descriptors", 17_000, func(context.Context, *abuser, net.Conn) {}),
	connecting("bodies", "100 bodies of 6 MB with a wrong signature, again and again", 100, func(ctx context.Context, a *abuser, c net.Conn) {
		_, _ = io.WriteString(c, "POST /2015-03-31/functions/warm/invocations HTTP/1.1\r\nHost: x\r\n"+a.wrongSignature("lambda")+"Content-Length: 6000000\r\n\r\n")
		_, _ = c.Write(make([]byte, 6_000_000))
	}),
	connecting("slow-bodies", "100 bodies with a wrong signature that come a byte a second", 100, func(ctx context.Context, a *abuser, c net.Conn) {
		_, _ = io.WriteString(c, "POST /2015-03-31/functions/warm/invocations HTTP/1.1\r\nHost: x\r\n"+a.wrongSignature("lambda")+"Content-Length: 6000000\r\n\r\n")
		_, _ = c.Write(make([]byte, 5_000_000))
		for ctx.Err() == nil {
			sleep(ctx, time.Second)
			if _, err := c.Write([]byte{'x'}); err != nil {
				return
			}
		}
	}),
	ecrBodies(),
}

// wrongSignature are the headers of a request by somebody who knows a key's id, and
// not its secret.
func (a *abuser) wrongSignature(service string) string {
	now, signed := time.Now().UTC(), "host;x-amz-date"
	if service == "ecr" {
		signed = "content-type;host;x-amz-date;x-amz-target"
	}
	return fmt.Sprintf("X-Amz-Date: %s\r\nAuthorization: AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, "+
		"SignedHeaders=%s, Signature=%064x\r\n", now.Format("20060102T150405Z"), a.creds.AccessKey, now.Format("20060102"), a.Region, service, signed, 1)
}

// ecrBodies announces bodies to ECR's API that never come.
func ecrBodies() *scenario {
	s := connecting("ecr", "16 requests to ECR's API that announce 2 MiB and send nothing, beside a victim that pushes by that API", 16, func(ctx context.Context, a *abuser, c net.Conn) {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-amz-json-1.1\r\n"+
			"X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.UploadLayerPart\r\n"+a.wrongSignature("ecr")+"Content-Length: 2097152\r\n\r\n")
	})
	s.deploy = deployByECR
	return s
}

// connecting is a scenario of n connections at once, made again when they end.
// Each abuser comes from an address of its own.
func connecting(name, what string, n int, send func(context.Context, *abuser, net.Conn)) *scenario {
	return &scenario{name: name, what: what, abuse: func(ctx context.Context, a *abuser) {
		var conns sync.WaitGroup
		for range n / len(a.Tenants) {
			conns.Go(func() {
				for ctx.Err() == nil {
					if err := a.connect(ctx, send); err != nil {
						a.note(ctx, err)
						sleep(ctx, pause)
					}
				}
			})
		}
		conns.Wait()
	}}
}

// connect makes one connection, has it send, and notes what it was answered
// until it ends.
func (a *abuser) connect(ctx context.Context, send func(context.Context, *abuser, net.Conn)) error {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+a.i))}
	c, err := (&net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}).DialContext(ctx, "tcp", a.host())
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		send(ctx, a, c)
	}()
	start := time.Now()
	in := bufio.NewReader(c)
	response, err := http.ReadResponse(in, nil)
	if err == nil {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		a.notes.add(response.Status + " " + string(bytes.TrimSpace(text)))
	} else if ctx.Err() == nil {
		a.notes.add(fmt.Sprintf("closed without an answer after %d s", int(time.Since(start).Seconds())))
	}
	_ = c.Close()
	<-sent
	return nil
}
