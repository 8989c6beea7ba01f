// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/trace"
)

// collector is the receiving side of OTLP/HTTP.
func collector(t *testing.T) (url string, batches chan *tracepb.TracesData, headers chan http.Header) {
	batches, headers = make(chan *tracepb.TracesData, 10), make(chan http.Header, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		batches <- &data
		headers <- r.Header
	}))
	t.Cleanup(server.Close)
	return server.URL, batches, headers
}

func TestExport(t *testing.T) {
	url, batches, headers := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, other=y")
	e, err := FromEnv(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1_700_000_000, 5)
	e.Export(trace.Trace{
		RequestID: "id", Function: "hello", Cold: true, Error: "Unhandled", Begin: begin,
		Spans: []trace.Span{{Name: "init", Start: time.Second, Took: 2 * time.Second,
			Tiers: []trace.Tier{{Name: "origin", Chunks: 3}},
			Spans: []trace.Span{{Name: "sandbox", Start: time.Second, Took: time.Second}}}},
	}, "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := <-headers; h.Get("Authorization") != "Bearer x" || h.Get("Other") != "y" {
		t.Errorf("headers %v", h)
	}
	spans := map[string]*tracepb.Span{}
	for _, s := range (<-batches).ResourceSpans[0].ScopeSpans[0].Spans {
		spans[s.Name] = s
		if got := hex.EncodeToString(s.TraceId); got != "5759e988bd862e3fe1be46a994272793" {
			t.Errorf("%s is of trace %s", s.Name, got)
		}
	}
	root, start, sandbox := spans["hello"], spans["init"], spans["sandbox"]
	if len(spans) != 3 || hex.EncodeToString(root.ParentSpanId) != "53995c3f42cd8ad8" ||
		string(start.ParentSpanId) != string(root.SpanId) || string(sandbox.ParentSpanId) != string(start.SpanId) {
		t.Fatalf("spans %v", spans)
	}
	if root.Status.GetMessage() != "Unhandled" || root.StartTimeUnixNano != uint64(begin.UnixNano()) ||
		root.EndTimeUnixNano != uint64(begin.Add(3*time.Second).UnixNano()) || start.StartTimeUnixNano != uint64(begin.Add(time.Second).UnixNano()) {
		t.Errorf("root %v, init %v", root, start)
	}
	if a := start.Attributes[0]; a.Key != "thaw.tier.origin.chunks" || a.Value.GetIntValue() != 3 {
		t.Errorf("attributes %v", start.Attributes)
	}
}

// TestHeaderOfAnotherMind: without a sampled parent a trace stands alone.
func TestHeaderOfAnotherMind(t *testing.T) {
	for _, header := range []string{
		"", "Root=1-5759e988-bd862e3fe1be46a994272793", "Root=1-zz;Parent=53995c3f42cd8ad8;Sampled=1",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
	} {
		if _, ok := parseHeader(header); ok {
			t.Errorf("%q is taken for a parent", header)
		}
	}
}

func TestNoEndpointAndBadOnes(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	e, err := FromEnv(slog.New(slog.DiscardHandler))
	if e != nil || err != nil {
		t.Fatalf("%v, %v", e, err)
	}
	e.Export(trace.Trace{}, "")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, endpoint := range []string{"localhost:4318", "ftp://x", "://"} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
		if _, err := FromEnv(slog.New(slog.DiscardHandler)); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}
