// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"thaw.dev/thaw/internal/request"
)

// allJSON fails where a line is no JSON object, and returns the lines.
func allJSON(t *testing.T, out string) []map[string]any {
	t.Helper()
	var records []map[string]any
	for line := range strings.Lines(out) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("no JSON: %q", line)
		}
		records = append(records, record)
	}
	return records
}

// TestJSONLinesWrapsWhatIsNone: records pass as they are, whatever the parts that
// they come in; a crash becomes records.
func TestJSONLinesWrapsWhatIsNone(t *testing.T) {
	var out bytes.Buffer
	lines := newJSONLines(&out)
	const printed = `{"msg":"a record"}` + "\n" + "panic: oh \"no\"\n\ngoroutine 1 [running]:\n" + `{"msg":"torn` + "\n" + `{"msg":"last"}` + "\n"
	for i := range len(printed) {
		if _, err := lines.Write([]byte(printed[i : i+1])); err != nil {
			t.Fatal(err)
		}
	}
	records := allJSON(t, out.String())
	var messages []string
	for _, r := range records {
		messages = append(messages, r["msg"].(string))
	}
	if got := strings.Join(messages, "|"); got != `a record|panic: oh "no"|goroutine 1 [running]:|{"msg":"torn|last` {
		t.Error(got)
	}
}

// TestLastWordsAreJSON: a command line that can't be carried out fails in JSON,
// too, in each of the three processes.
func TestLastWordsAreJSON(t *testing.T) {
	for _, args := range [][]string{
		{"serve", "--json-log", "--bogus"},
		{"serve", "--json-log", "--listen", "127.0.0.1:no", "--data", t.TempDir()},
		{"loader", "--json-log", "--data", t.TempDir(), "--origin-concurrency", "2"},
		{"holder", "--json-log", "--bogus"},
	} {
		var out, err bytes.Buffer
		if code := run(t.Context(), args, streams{nil, &out, &err}); code == 0 || err.Len() == 0 {
			t.Errorf("%v: %d, %q", args, code, err.String())
		}
		allJSON(t, err.String())
	}
}

// TestVerboseLogsEachRequest with all that the help promises, and without what is
// secret: the query and the headers.
func TestVerboseLogsEachRequest(t *testing.T) {
	for _, verbose := range []bool{true, false} {
		var out bytes.Buffer
		n := &node{log: logFlags{JSONLog: true, Verbose: verbose}.logger(&out), metrics: newMetrics()}
		t.Cleanup(func() { slog.SetDefault(slog.New(slog.DiscardHandler)) })
		h := n.observed(surfaceLambda, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info := request.Of(r.Context())
			info.Tenant = "111111111111"
			switch r.URL.Path {
			case "/panic":
				panic("secret-cause")
			case "/fails":
				info.Err = errors.New("lost")
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		for path, status := range map[string]float64{"/fine": 200, "/fails": 500, "/panic": 500} {
			out.Reset()
			r := httptest.NewRequestWithContext(t.Context(), "GET", path+"?X-Amz-Signature=sesame", nil)
			r.Header.Set("Authorization", "sesame")
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, r)
			if answer.Code != int(status) || strings.Contains(answer.Body.String(), "secret") {
				t.Errorf("%s: %d %s", path, answer.Code, answer.Body.String())
			}
			records := allJSON(t, out.String())
			if strings.Contains(out.String(), "sesame") {
				t.Errorf("a secret is logged: %s", out.String())
			}
			if !verbose {
				if path != "/panic" && len(records) > 0 {
					t.Errorf("logged without --verbose: %s", out.String())
				}
				continue
			}
			last := records[len(records)-1]
			if last["method"] != "GET" || last["path"] != path || last["status"] != status || last["tenant"] != "111111111111" || last["request"] == "" || last["took"] == nil {
				t.Errorf("%v", last)
			}
		}
		gathered, err := n.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		failures := 0.0
		for _, family := range gathered {
			if family.GetName() == "thaw_request_failures_total" {
				for _, m := range family.GetMetric() {
					failures += m.GetCounter().GetValue()
				}
			}
		}
		if failures != 2 {
			t.Errorf("%v failures are counted, not 2", failures)
		}
	}
}
