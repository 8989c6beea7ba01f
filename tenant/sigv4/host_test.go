// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"net/http"
	"strings"
	"testing"
)

// TestChangedHost: a request whose Host a proxy has changed is refused, and told
// that. Of any other wrong signature nothing is said of hosts.
func TestChangedHost(t *testing.T) {
	const made = "It was made for the host 'localhost', but the request came with the host '"
	for _, row := range []struct {
		name, message string
		hosts         []string
		change        func(*http.Request)
	}{
		{"the upstream's", made + "127.0.0.1:9800': a proxy on the way must pass", []string{"127.0.0.1:9800", "localhost"}, func(r *http.Request) { r.Host = "127.0.0.1:9800" }},
		{"told by the proxy", made + "inside'", nil, func(r *http.Request) { r.Host = "inside"; r.Header.Set("X-Forwarded-Host", "localhost") }},
		{"with a port", made + "localhost:443'", nil, func(r *http.Request) { r.Host = "localhost:443" }},
		{"of a name that is unknown", "Check your AWS Secret Access Key", []string{"127.0.0.1:9800"}, func(r *http.Request) { r.Host = "inside" }},
		{"and another key", "Check your AWS Secret Access Key", []string{"localhost"}, func(r *http.Request) { r.Host = "inside"; r.Method = http.MethodPut }},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := overTheWire(t, signedRequest(t, testNow, "lambda"))
			row.change(r)
			v := newTestVerifier()
			v.config.Hosts = row.hosts
			_, err := v.Verify(t.Context(), r)
			if codeOf(err) != InvalidSignature || !strings.Contains(err.Error(), row.message) {
				t.Errorf("got %v", err)
			}
		})
	}
}
