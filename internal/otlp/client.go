// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"thaw.dev/thaw"
)

// requestTimeout bounds one request; it is OpenTelemetry's default.
const requestTimeout = 10 * time.Second

// client makes the requests of OTLP/HTTP in its binary form. A batch that fails
// is lost: traces are of use while they are fresh.
type client struct {
	url    string
	header http.Header
	http   http.Client
}

// clientFromEnv returns nil where the environment names no endpoint.
func clientFromEnv(getenv func(string) string) (*client, error) {
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		if endpoint = getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); endpoint == "" {
			return nil, nil
		}
		endpoint = strings.TrimRight(endpoint, "/") + "/v1/traces"
	}
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, thaw.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT", thaw.Invalid, "%q is no URL of a collector, such as http://127.0.0.1:4318", endpoint)
	}
	c := &client{url: endpoint, header: http.Header{}, http: http.Client{Timeout: requestTimeout}}
	for pair := range strings.SplitSeq(getenv("OTEL_EXPORTER_OTLP_HEADERS"), ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil {
			return nil, thaw.Errorf("OTEL_EXPORTER_OTLP_HEADERS", thaw.Invalid, "it is not NAME=VALUE,NAME=VALUE")
		}
		c.header.Set(strings.TrimSpace(name), plain)
	}
	c.header.Set("Content-Type", "application/x-protobuf")
	return c, nil
}

func (c *client) Start(context.Context) error { return nil }
func (c *client) Stop(context.Context) error  { return nil }

// UploadTraces sends a batch.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// The message of a request is TracesData on the wire.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = c.header.Clone()
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)) // so that the connection is used again
	if response.StatusCode/100 != 2 {
		return thaw.Errorf("send traces", thaw.Unavailable, "the collector answers %s", response.Status)
	}
	return nil
}
