// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnreachable: what answers at an endpoint that is no thaw's is told in a line
// that says what to do, and the status is that of a failure.
func TestUnreachable(t *testing.T) {
	page := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>hello</html>"))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = nil
	away := speaks(t, "")
	for _, try := range []struct{ what, endpoint, says string }{
		{"nothing listens", "http://" + refused(t), "connection refused: is \"thaw serve\" running there?"},
		{"a web page", page(http.StatusOK), "answers 200 OK, which is not thaw's API: check the address"},
		{"a page that is not there", page(http.StatusNotFound), "answers 404 Not Found, which is not thaw's API"},
		{"a proxy without a server", page(http.StatusBadGateway), "answers 502 Bad Gateway: a proxy whose server is away?"},
		{"https for http", strings.Replace(page(http.StatusOK), "http:", "https:", 1), "it speaks no TLS: an endpoint with http://"},
		{"http for https", strings.Replace(secure.URL, "https:", "http:", 1), "speaks TLS"},
		{"a certificate of nobody", secure.URL, "SSL_CERT_FILE"},
		{"another protocol", "http://" + speaks(t, "SSH-2.0-x\r\n"), "it does not speak HTTP: check the address"},
		{"it hangs up", "http://" + away, "closed the connection without an answer"},
	} {
		t.Run(try.what, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			for _, command := range []string{"ls", "rm f", "invoke f", "deploy f registry.example/f:1"} {
				var out, failed bytes.Buffer
				code := run(t.Context(), append(strings.Fields(command), "--endpoint", try.endpoint), streams{strings.NewReader(""), &out, &failed})
				said := failed.String()
				if command != "ls" && strings.Contains(said, "closed the connection") {
					continue // before the request was sent
				}
				if code != exitFailed || !strings.Contains(said, try.says) || strings.Count(said, "\n") != 1 || strings.Contains(said, "operation error") ||
					!strings.Contains(said, "no thaw answers at "+try.endpoint+" (--endpoint)") {
					t.Errorf("thaw %s: status %d, want %d with %q in one line, said: %s", command, code, exitFailed, try.says, said)
				}
			}
		})
	}
}

// refused is an address at which nothing listens.
func refused(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// speaks is the address of what reads a request, says something and hangs up.
func speaks(t *testing.T, something string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1<<16))
			_, _ = conn.Write([]byte(something))
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// TestInterrupted: a command that is interrupted says so, and no more.
func TestInterrupted(t *testing.T) {
	asked, over := make(chan struct{}, 1), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-over
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(over) })
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for command, says := range map[string]string{
			"ls": "thaw: interrupted\n", "invoke f": "f goes on with this invocation", "rm f": "thaw: interrupted",
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-asked
				cancel(signaled{signal})
			}()
			var out, failed bytes.Buffer
			code := run(ctx, append(strings.Fields(command), "--endpoint", silent.URL), streams{strings.NewReader(""), &out, &failed})
			if code != exitSignal+int(signal) || !strings.Contains(failed.String(), says) || strings.Count(failed.String(), "\n") != 1 {
				t.Errorf("thaw %s: status %d, said %s", command, code, &failed)
			}
		}
	}
	// A terminal that nobody types at.
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(signaled{syscall.SIGINT}) })
	reader, writer := net.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	var failed bytes.Buffer
	if code := run(ctx, []string{"invoke", "f", "-d", "-", "--endpoint", silent.URL}, streams{reader, &failed, &failed}); code != 130 {
		t.Errorf("thaw invoke -d -: status %d, said %s", code, &failed)
	}
}
