// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw"
)

func TestTurn(t *testing.T) {
	s, addr := serve(t)
	c := dial(t, addr)
	if _, err := s.Begin(Invocation{ID: "early"}); thaw.KindOf(err) != thaw.Conflict {
		t.Fatalf("Begin before ready: %v", err)
	}
	c.next()
	await(t, "ready", s.Ready())
	turn, err := s.Begin(Invocation{
		ID:            "id-1",
		Deadline:      time.UnixMilli(1234567890123),
		FunctionARN:   "arn:aws:lambda:eu-west-1:123456789012:function:f",
		TraceID:       "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
		ClientContext: "{}\r\nEvil: header",
		Payload:       []byte(`{"x":1}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := c.reply()
	if got.status != 200 || got.body != `{"x":1}` {
		t.Fatalf("next: %+v", got)
	}
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       "id-1",
		"Lambda-Runtime-Deadline-Ms":          "1234567890123",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
		"Lambda-Runtime-Trace-Id":             "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
		"Lambda-Runtime-Client-Context":       "{}  Evil: header",
		"Content-Type":                        "application/json",
		"Evil":                                "",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	if _, err := s.Begin(Invocation{ID: "second"}); thaw.KindOf(err) != thaw.Conflict {
		t.Fatalf("Begin while running: %v", err)
	}
	c.expect("response", c.post("/runtime/invocation/id-1/response", `"fine"`, "Content-Type: application/json"), 202, statusOK)
	await(t, "answered", turn.Answered())
	if r := turn.Response(); string(r.Payload) != `"fine"` || r.Failed || r.ContentType != "application/json" {
		t.Fatalf("response: %+v", r)
	}
	select {
	case <-turn.Done():
		t.Fatal("done before next")
	default:
	}
	c.next()
	await(t, "done", turn.Done())
	begin(t, s, "id-2", "{}")
	if got := c.reply(); got.header.Get("Lambda-Runtime-Aws-Request-Id") != "id-2" {
		t.Fatalf("second next: %+v", got)
	}
}

// TestTransitions drives a fresh runtime into each state and tries each call
// in it.
func TestTransitions(t *testing.T) {
	const (
		respond = "/runtime/invocation/id-1/response"
		fail    = "/runtime/invocation/id-1/error"
		other   = "/runtime/invocation/other/response"
		initErr = "/runtime/init/error"
	)
	reach := map[string]func(t *testing.T, s *Server, addr string){
		"Started": func(*testing.T, *Server, string) {},
		"InitError": func(t *testing.T, _ *Server, addr string) {
			c := dial(t, addr)
			c.expect("init error", c.post(initErr, `{}`), 202, statusOK)
		},
		"Ready": func(t *testing.T, s *Server, addr string) {
			dial(t, addr).next()
			await(t, "ready", s.Ready())
		},
		"Running": func(t *testing.T, s *Server, addr string) {
			c := dial(t, addr)
			c.next()
			await(t, "ready", s.Ready())
			begin(t, s, "id-1", "{}")
			c.reply()
		},
		"Responding": func(t *testing.T, s *Server, addr string) {
			c := dial(t, addr)
			c.next()
			await(t, "ready", s.Ready())
			begin(t, s, "id-1", "{}")
			c.reply()
			c.send("POST /2018-06-01" + respond + " HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\n\r\nhalf")
			for stateOf(s) != stateResponse {
				time.Sleep(time.Millisecond)
			}
		},
		"Sent": func(t *testing.T, s *Server, addr string) {
			c := dial(t, addr)
			c.next()
			await(t, "ready", s.Ready())
			begin(t, s, "id-1", "{}")
			c.reply()
			c.expect("response", c.post(respond, "1"), 202, statusOK)
		},
	}
	// A call that waits for an invocation is "waits", one that is handed the
	// invocation in flight "again".
	for _, row := range []struct {
		state, call string
		status      int
		body        string
	}{
		{"Started", "next", 0, "waits"},
		{"Started", respond, 400, invalidID},
		{"Started", fail, 400, invalidID},
		{"Started", initErr, 202, statusOK},
		{"InitError", "next", 403, transition("InitError", "Ready")},
		{"InitError", respond, 400, invalidID},
		{"InitError", initErr, 403, transition("InitError", "InitError")},
		{"Ready", "next", 0, "waits"},
		{"Ready", respond, 400, invalidID},
		{"Ready", fail, 400, invalidID},
		{"Ready", initErr, 403, transition("Ready", "InitError")},
		{"Running", "next", 200, "again"},
		{"Running", respond, 202, statusOK},
		{"Running", fail, 202, statusOK},
		{"Running", other, 400, invalidID},
		{"Running", initErr, 403, transition("Running", "InitError")},
		{"Responding", "next", 403, transition("InvocationResponse", "Ready")},
		{"Responding", respond, 403, transition("InvocationResponse", "InvocationResponse")},
		{"Responding", fail, 403, transition("InvocationResponse", "InvocationErrorResponse")},
		{"Responding", other, 400, invalidID},
		{"Sent", "next", 0, "waits"},
		{"Sent", respond, 403, transition("RuntimeResponseSentState", "InvocationResponse")},
		{"Sent", fail, 403, transition("RuntimeResponseSentState", "InvocationErrorResponse")},
		{"Sent", other, 400, invalidID},
		{"Sent", initErr, 403, transition("RuntimeResponseSentState", "InitError")},
	} {
		t.Run(row.state+strings.ReplaceAll(row.call, "/", "-"), func(t *testing.T) {
			s, addr := serve(t)
			reach[row.state](t, s, addr)
			c := dial(t, addr)
			if row.call != "next" {
				c.expect(row.call, c.post(row.call, `{"errorMessage":"m"}`), row.status, row.body)
				return
			}
			c.next()
			switch row.body {
			case "waits":
				for stateOf(s) != stateReady || waiters(s) == 0 {
					time.Sleep(time.Millisecond)
				}
			case "again":
				if got := c.reply(); got.status != 200 || got.header.Get("Lambda-Runtime-Aws-Request-Id") != "id-1" {
					t.Fatalf("next: %+v", got)
				}
			default:
				c.expect("next", c.reply(), row.status, row.body)
			}
		})
	}
}

func stateOf(s *Server) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func waiters(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// TestParallelNext: of several threads that wait, one gets the invocation.
func TestParallelNext(t *testing.T) {
	s, addr := serve(t)
	a, b := dial(t, addr), dial(t, addr)
	a.next()
	await(t, "ready", s.Ready())
	b.next()
	for waiters(s) < 2 {
		time.Sleep(time.Millisecond)
	}
	first := begin(t, s, "id-1", "{}")
	a.reply()
	a.expect("response", a.post("/runtime/invocation/id-1/response", "1"), 202, statusOK)
	await(t, "answered", first.Answered())
	a.next()
	await(t, "done", first.Done())
	begin(t, s, "id-2", "{}")
	if got := b.reply(); got.header.Get("Lambda-Runtime-Aws-Request-Id") != "id-2" {
		t.Fatalf("the second thread got %+v", got)
	}
}

// TestNextOfBrokenConnection: an invocation is not lost with the connection
// that waited for it.
func TestNextOfBrokenConnection(t *testing.T) {
	s, addr := serve(t)
	gone := dial(t, addr)
	gone.next()
	await(t, "ready", s.Ready())
	_ = gone.nc.Close()
	for waiters(s) > 0 {
		time.Sleep(time.Millisecond)
	}
	begin(t, s, "id-1", "{}")
	c := dial(t, addr)
	c.next()
	if got := c.reply(); got.header.Get("Lambda-Runtime-Aws-Request-Id") != "id-1" {
		t.Fatalf("next: %+v", got)
	}
}

func TestInitError(t *testing.T) {
	s, addr := serve(t)
	c := dial(t, addr)
	body := `{"errorMessage":"no module","errorType":"Runtime.ImportModuleError","stackTrace":[]}`
	c.expect("init error", c.post("/runtime/init/error", body,
		"Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError"), 202, statusOK)
	await(t, "failed", s.InitFailed())
	if r := s.InitError(); string(r.Payload) != body || r.ErrorType != "Runtime.ImportModuleError" || !r.Failed {
		t.Fatalf("init error: %+v", r)
	}
}

// TestErrorAnswers: what the runtime says of its error, in each form.
func TestErrorAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		verb, body   string
		headers      []string
		payload, typ string
	}{
		"plain":                    {"error", `{"errorMessage":"m","errorType":"E"}`, nil, `{"errorMessage":"m","errorType":"E"}`, "Runtime.Unknown"},
		"typed":                    {"error", `{}`, []string{"Lambda-Runtime-Function-Error-Type: Function.Boom"}, `{}`, "Function.Boom"},
		"function type of its own": {"error", `{}`, []string{"Lambda-Runtime-Function-Error-Type: Function.x"}, `{}`, "Function.Unknown"},
		"with a cause": {"error", `{"errorMessage":"m","errorType":"E","stackTrace":["a"],"errorCause":{"secret":1}}`,
			[]string{"Content-Type: application/vnd.aws.lambda.error.cause+json"},
			`{"errorMessage":"m","errorType":"E","stackTrace":["a"]}`, "Runtime.Unknown"},
		"with a broken cause": {"error", `{`, []string{"Content-Type: application/vnd.aws.lambda.error.cause+json"},
			`"Invalid error body"`, "Runtime.Unknown"},
		"huge X-Ray cause header": {"error", `{}`,
			[]string{"Lambda-Runtime-Function-Xray-Error-Cause: " + strings.Repeat("x", 1<<20-1)}, `{}`, "Runtime.Unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := serve(t)
			c := dial(t, addr)
			c.next()
			await(t, "ready", s.Ready())
			turn := begin(t, s, "id-1", "{}")
			c.reply()
			c.expect("error", c.post("/runtime/invocation/id-1/"+row.verb, row.body, row.headers...), 202, statusOK)
			await(t, "answered", turn.Answered())
			if r := turn.Response(); string(r.Payload) != row.payload || r.ErrorType != row.typ || !r.Failed {
				t.Fatalf("answer: %q %+v", r.Payload, r)
			}
		})
	}
}

// TestBodies: sizes, encodings and ends of a response's body.
func TestBodies(t *testing.T) {
	full := strings.Repeat("x", MaxPayloadBytes)
	tooLarge := `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":` +
		`"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}`
	refused := `{"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}`
	trailer := "\r\nTrailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n" +
		"4\r\nhalf\r\n0\r\nLambda-Runtime-Function-Error-Type: Function.Mid\r\nLambda-Runtime-Function-Error-Body: " +
		base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"`+strings.Repeat("long ", 1000)+`"}`)) + "\r\n\r\n"
	length := func(body string) string {
		return "\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n" + body
	}
	chunked := func(body string) string {
		return "\r\nTransfer-Encoding: chunked\r\n\r\n" + hex(len(body)) + "\r\n" + body + "\r\n0\r\n\r\n"
	}
	for name, row := range map[string]struct {
		rest         string // from the end of the request line's headers
		status       int
		body         string
		payload, typ string
	}{
		"empty":                {length(""), 202, statusOK, "", ""},
		"chunked":              {"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 202, statusOK, "abcde", ""},
		"largest":              {length(full), 202, statusOK, full, ""},
		"largest, chunked":     {chunked(full), 202, statusOK, full, ""},
		"too large":            {length(full + "y"), 413, refused, tooLarge, ErrorTooLarge},
		"too large, chunked":   {chunked(full + "y"), 413, refused, tooLarge, ErrorTooLarge},
		"streaming, buffered":  {"\r\nLambda-Runtime-Function-Response-Mode: streaming" + chunked("abc"), 202, statusOK, "abc", ""},
		"unknown mode":         {"\r\nLambda-Runtime-Function-Response-Mode: x" + length("abc"), 400, `{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}`, `{"errorType":"Runtime.InvalidResponseModeHeader","errorMessage":"Invalid function response mode"}`, ErrorInvalidMode},
		"failed midway":        {"\r\nTransfer-Encoding: chunked" + trailer, 202, statusOK, `{"errorMessage":"` + strings.Repeat("long ", 1000) + `"}`, "Function.Mid"},
		"expects leave":        {"\r\nExpect: 100-continue" + length("abc"), 202, statusOK, "abc", ""},
		"expects, then chunks": {"\r\nExpect: 100-Continue" + chunked("abc"), 202, statusOK, "abc", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := serve(t)
			c := dial(t, addr)
			c.next()
			await(t, "ready", s.Ready())
			turn := begin(t, s, "id-1", "{}")
			c.reply()
			c.send("POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: api" + row.rest)
			got := c.reply()
			if got.status == 100 {
				got = c.reply()
			}
			c.expect("response", got, row.status, row.body)
			await(t, "answered", turn.Answered())
			r := turn.Response()
			if string(r.Payload) != row.payload || r.ErrorType != row.typ || r.Failed != (row.typ != "") {
				t.Fatalf("answer: %d bytes, %q, failed %v", len(r.Payload), r.ErrorType, r.Failed)
			}
			// The connection goes on.
			c.next()
			await(t, "done", turn.Done())
		})
	}
}

// TestTruncated: a response whose sender goes away is not passed on.
func TestTruncated(t *testing.T) {
	for name, rest := range map[string]string{
		"length":  "Content-Length: 10\r\n\r\nhalf",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"garbage": "Transfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := serve(t)
			c := dial(t, addr)
			c.next()
			await(t, "ready", s.Ready())
			turn := begin(t, s, "id-1", "{}")
			c.reply()
			c.send("POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: api\r\n" + rest)
			_ = c.nc.Close()
			await(t, "answered", turn.Answered())
			if r := turn.Response(); r.ErrorType != ErrorTruncated || !r.Failed {
				t.Fatalf("answer: %+v", r)
			}
			next := dial(t, addr)
			next.next()
			await(t, "done", turn.Done())
		})
	}
}

// TestLargePayload: an invocation larger than every socket buffer doesn't block
// Begin, whether the runtime reads or not.
func TestLargePayload(t *testing.T) {
	s, addr := serve(t)
	c := dial(t, addr)
	c.next()
	await(t, "ready", s.Ready())
	payload := strings.Repeat("p", 32<<20)
	turn := begin(t, s, "id-1", payload)
	if got := c.reply(); got.body != payload {
		t.Fatalf("%d bytes arrived", len(got.body))
	}
	c.expect("response", c.post("/runtime/invocation/id-1/response", "1"), 202, statusOK)
	c.next()
	await(t, "done", turn.Done())
	begin(t, s, "id-2", payload) // never read: Close must still end
}
