// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw.dev/thaw/internal/trace"
)

// TestTraces: a cold start's trace has every phase and says from which tier its
// chunks came; the next one's has what was fetched ahead; a collector gets both.
func TestTraces(t *testing.T) {
	collected := make(chan []byte, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		collected <- body
	}))
	t.Cleanup(collector.Close) // after the server has ended
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "hello", w.push("go-hello:1", "hello:v1"))

	first := w.traced(ctx, client, "hello")
	want := []string{"placement", "attach", "attach/manifest", "attach/mount", "init", "init/sandbox", "init/runtime boot", "reads", "reads/first fault", "handler"}
	if got := names(first.Spans, ""); !slices.Equal(got, want) {
		t.Errorf("the first start has %q, want %q", got, want)
	}
	if !first.Cold || first.Function != "hello" || first.Error != "" || chunksFrom(first, "reads", "origin") == 0 {
		t.Errorf("the first start: %+v", first)
	}
	if warm := w.traced(ctx, client, "hello"); warm.Cold || !slices.Equal(names(warm.Spans, ""), []string{"placement", "handler"}) {
		t.Errorf("a warm invocation: %+v", warm)
	}

	w.cold(ctx, client, "hello", 1)
	second := w.traced(ctx, client, "hello")
	if got := names(second.Spans, ""); !slices.Contains(got, "prefetch") || chunksFrom(second, "prefetch", "origin")+chunksFrom(second, "reads", "origin") == 0 {
		t.Errorf("the second start has %q: %+v", got, second)
	}
	drawn := w.thaw("trace", second.RequestID)
	for _, part := range []string{"cold start", second.RequestID, "runtime boot", "prefetch", "origin", "█"} {
		if !strings.Contains(drawn, part) {
			t.Errorf("the waterfall lacks %q:\n%s", part, drawn)
		}
	}
	if list := w.thaw("trace"); !strings.Contains(list, first.RequestID) || !strings.Contains(list, second.RequestID) {
		t.Errorf("listed: %s", list)
	}
	if _, err := w.Thaw(ctx, "trace", "nothing"); err == nil || !strings.Contains(err.Error(), "no trace of request nothing") {
		t.Errorf("a trace of nothing: %v", err)
	}
	var sent strings.Builder
	for deadline := time.After(waitBound); !strings.Contains(sent.String(), first.RequestID) || !strings.Contains(sent.String(), second.RequestID); {
		select {
		case body := <-collected:
			sent.Write(body)
		case <-deadline:
			t.Fatal("the collector did not get both starts")
		}
	}
}

// traced invokes a function and returns the trace, once the read path has told
// its part of a cold start.
func (w *world) traced(ctx context.Context, client *lambda.Client, name string) trace.Trace {
	w.t.Helper()
	out, err := client.Invoke(ctx, invocation(name))
	if err != nil || out.FunctionError != nil {
		w.t.Fatalf("%v, %s", err, out.Payload)
	}
	id, _ := middleware.GetRequestIDMetadata(out.ResultMetadata)
	for deadline := time.Now().Add(waitBound); ; time.Sleep(20 * time.Millisecond) {
		var t trace.Trace
		if err := json.Unmarshal([]byte(w.thaw("trace", id, "--json")), &t); err != nil {
			w.t.Fatal(err)
		}
		if !t.Cold || slices.Contains(names(t.Spans, ""), "reads") {
			return t
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the read path does not tell of %s: %+v", id, t)
		}
	}
}

func names(spans []trace.Span, in string) []string {
	var all []string
	for _, s := range spans {
		all = append(all, in+s.Name)
		all = append(all, names(s.Spans, in+s.Name+"/")...)
	}
	return all
}

func chunksFrom(t trace.Trace, span, tier string) int64 {
	var n int64
	for _, s := range t.Spans {
		for _, u := range s.Tiers {
			if s.Name == span && u.Name == tier {
				n += u.Chunks
			}
		}
	}
	return n
}
