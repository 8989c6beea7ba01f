// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
)

// rawRequest is a request as bytes, so that a benchmark does not measure a
// client.
func rawRequest(b *testing.B, r *http.Request) []byte {
	b.Helper()
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		b.Fatal(err)
	}
	return wire.Bytes()
}

// benchmarkRaw sends the same request over one connection, again and again.
func benchmarkRaw(b *testing.B, address string, wire []byte) {
	b.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer connection.Close()
	in := bufio.NewReader(connection)
	for b.Loop() {
		if _, err := connection.Write(wire); err != nil {
			b.Fatal(err)
		}
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 {
			b.Fatal(response.Status, err)
		}
	}
}
