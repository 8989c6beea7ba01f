// SPDX-License-Identifier: Apache-2.0

package ecr_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/registry/ecr"
)

// TestRawRequests: what no well-behaved client sends, and what goes wrong
// before or below an operation.
func TestRawRequests(t *testing.T) {
	o := registry.DefaultOptions(t.TempDir())
	o.Log = slog.New(slog.DiscardHandler)
	store, err := registry.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	var refusal error
	h := ecr.New(ecr.Config{Store: store, Region: "eu-test-1", Log: o.Log,
		Identify:   func(*http.Request) (thaw.TenantID, string, error) { return alice, "KEY" + string(alice), refusal },
		DeniedCode: func(error) (string, string) { return "InvalidSignatureException", "signed by someone else" }})
	const prefix = "AmazonEC2ContainerRegistry_V20150921."
	for _, try := range []struct {
		why, method, target, body string
		refusal                   error
		status                    int
		want, message             string
	}{
		{"an operation that ECR has and we do not", "POST", prefix + "StartImageScan", "{}", nil, 400, "UnknownOperationException", "StartImageScan"},
		{"another service", "POST", "AWSLambda.Invoke", "{}", nil, 400, "UnknownOperationException", ""},
		{"no target", "POST", "", "{}", nil, 400, "UnknownOperationException", ""},
		{"not a POST", "GET", prefix + "DescribeRepositories", "{}", nil, 400, "UnknownOperationException", ""},
		{"no JSON", "POST", prefix + "DescribeRepositories", "{", nil, 400, "SerializationException", ""},
		{"JSON of another shape", "POST", prefix + "DescribeRepositories", `{"maxResults":"x"}`, nil, 400, "SerializationException", ""},
		{"a body out of bounds", "POST", prefix + "DescribeRepositories", strings.Repeat(" ", 15<<20), nil, 400, "InvalidParameterException", "has more than"},
		{"maxResults out of bounds", "POST", prefix + "DescribeRepositories", `{"maxResults":1001}`, nil, 400, "InvalidParameterException", "1001"},
		{"a page that is not ours", "POST", prefix + "DescribeRepositories", `{"nextToken":"!"}`, nil, 400, "InvalidParameterException", "nextToken"},
		{"a wrong signature", "POST", prefix + "DescribeRepositories", "{}", thaw.Errorf("verify", thaw.Denied, "no"), 403, "InvalidSignatureException", "signed by someone else"},
		{"a failure of ours", "POST", prefix + "DescribeRepositories", "{}", errors.New("disk /secret/path on fire"), 500, "ServerException", "try again"},
	} {
		refusal = try.refusal
		r := httptest.NewRequest(try.method, "/", strings.NewReader(try.body))
		r.Header.Set("X-Amz-Target", try.target)
		if got := ecr.IsRequest(r); got != strings.HasPrefix(try.target, prefix) {
			t.Errorf("%s: IsRequest %t", try.why, got)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		body, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Type    string `json:"__type"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %q: %v", try.why, body, err)
		}
		if w.Code != try.status || got.Type != try.want || !strings.Contains(got.Message, try.message) || strings.Contains(got.Message, "secret") {
			t.Errorf("%s: %d %s, want %d %s", try.why, w.Code, body, try.status, try.want)
		}
	}
}
