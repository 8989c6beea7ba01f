// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"

	"thaw.dev/thaw/tenant"
)

// fakeServer is the two surfaces of a server, which note what they are asked and
// refuse everything but to tell of themselves.
type fakeServer struct {
	data, endpoint, key string

	mu    sync.Mutex // guards asked
	asked []string
}

func newFakeServer(t *testing.T, key string) *fakeServer {
	s := &fakeServer{data: t.TempDir(), key: key}
	note := func(r *http.Request, what string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, what+" "+r.Method+" "+r.URL.Path)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r, "api")
		if !strings.Contains(r.Header.Get("Authorization"), s.key) {
			t.Errorf("%s was asked with credentials that are not its own: %s", s.data, r.Header.Get("Authorization"))
		}
		w.Header().Set("X-Amzn-Requestid", "1")
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"message":"no"}`))
	}))
	t.Cleanup(api.Close)
	s.endpoint = api.URL
	if err := os.MkdirAll(filepath.Join(s.data, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", adminSocket(s.data))
	if err != nil {
		t.Fatal(err)
	}
	admin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r, "admin")
		rest, isTenant := strings.CutPrefix(r.URL.Path, "/v1/tenants/")
		switch {
		case r.Method == http.MethodGet && r.URL.Path == "/v1/info":
			_ = json.NewEncoder(w).Encode(serverInfo{Endpoint: s.endpoint, Region: "us-east-1"})
		case r.Method == http.MethodGet && isTenant && !strings.Contains(rest, "/"):
			_ = json.NewEncoder(w).Encode(tenant.Account{Name: rest, AccessKeyID: s.key, Secret: "secret"})
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"kind":"not found","message":"no"}`))
		}
	})}
	go func() { _ = admin.Serve(socket) }()
	t.Cleanup(func() { _ = admin.Close() })
	return s
}

// take returns what was asked since the last call; acted is false if that was
// only what the server is and who the tenant is.
func (s *fakeServer) take() (asked []string, acted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, s.asked = s.asked, nil
	for _, a := range asked {
		lookup := a == "admin GET /v1/info" || strings.HasPrefix(a, "admin GET /v1/tenants/") && strings.Count(a, "/") == 3
		acted = acted || !lookup
	}
	return asked, acted
}

// clientCommands are the commands that speak to a server, each with arguments that
// it takes; they come from the command tree, so that none is forgotten.
func clientCommands(t *testing.T) map[string]*kong.Node {
	var c cli
	parser, err := kong.New(&c, kong.Vars{"version": version})
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]*kong.Node{}
	for _, leaf := range parser.Model.Leaves(true) {
		switch leaf.Path() {
		case "serve", "help", "version":
			continue
		}
		commands[leaf.Path()] = leaf
	}
	return commands
}

func lacksFlag(node *kong.Node, flags []string) bool {
	return slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, "--") && !hasFlag(node, f[2:]) })
}

func hasFlag(node *kong.Node, name string) bool {
	return slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == name })
}

// TestWhichServer: whatever the command, the same flags and environment mean the
// same server and the same tenant.
func TestWhichServer(t *testing.T) {
	a, b := newFakeServer(t, "KEYOFA"), newFakeServer(t, "KEYOFB")
	printed := func(s *fakeServer) map[string]string { // what "thaw env" sets
		return map[string]string{"AWS_ENDPOINT_URL": s.endpoint, "AWS_ACCESS_KEY_ID": s.key, "AWS_SECRET_ACCESS_KEY": "secret", "THAW_ENV": "blue:" + s.data}
	}
	with := func(env map[string]string, more ...string) map[string]string {
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	for _, try := range []struct {
		name   string
		env    map[string]string
		flags  []string
		want   *fakeServer // nil: refused as wrong usage
		tenant string
		but    string // commands that do otherwise, and rightly
	}{
		{"what thaw env set", printed(a), nil, a, "blue", ""},
		{"--data wins over what thaw env set", printed(a), []string{"--data", b.data}, b, "blue", ""},
		{"THAW_DATA wins over what thaw env set", with(printed(a), "THAW_DATA", b.data), nil, b, "blue", ""},
		{"--data wins over THAW_DATA", map[string]string{"THAW_DATA": a.data}, []string{"--data", b.data}, b, "default", ""},
		{"--data wins over THAW_ENDPOINT", with(printed(a), "THAW_ENDPOINT", a.endpoint), []string{"--data", b.data}, b, "blue", ""},
		{"--data wins over both", map[string]string{"THAW_ENDPOINT": a.endpoint, "THAW_DATA": a.data}, []string{"--data", b.data}, b, "default", ""},
		{"THAW_DATA and THAW_ENDPOINT of one server", map[string]string{"THAW_ENDPOINT": b.endpoint, "THAW_DATA": b.data}, nil, b, "default", ""},
		{"THAW_DATA and THAW_ENDPOINT of two servers", map[string]string{"THAW_ENDPOINT": a.endpoint, "THAW_DATA": b.data}, nil, nil, "", "env"},
		{"--endpoint wins over THAW_DATA", with(printed(a), "THAW_DATA", b.data), []string{"--endpoint", a.endpoint}, a, "blue", ""},
		{"--endpoint and --data of one server", printed(b), []string{"--endpoint", a.endpoint, "--data", a.data}, a, "blue", ""},
		{"--endpoint and --data of two servers", nil, []string{"--endpoint", a.endpoint, "--data", b.data}, nil, "", ""},
		{"another AWS_ENDPOINT_URL, without keys", map[string]string{"AWS_ENDPOINT_URL": a.endpoint, "THAW_ENV": "blue:" + b.data}, nil, nil, "", "env"},
		{"--tenant wins over what thaw env set", printed(a), []string{"--tenant", "red"}, a, "red", ""},
		{"THAW_TENANT wins over what thaw env set", with(printed(a), "THAW_TENANT", "red"), nil, a, "red", ""},
		{"--tenant wins over THAW_TENANT", with(printed(a), "THAW_TENANT", "red"), []string{"--tenant", "green"}, a, "green", ""},
		{"no server", nil, []string{"--data", ""}, nil, "", ""},
		{"no tenant", nil, []string{"--data", b.data, "--tenant", ""}, nil, "", ""},
		{"no endpoint", printed(a), []string{"--endpoint", ""}, nil, "", ""},
		{"no address", printed(a), []string{"--endpoint", "127.0.0.1:9800"}, nil, "", ""},
		{"a path", printed(a), []string{"--endpoint", a.endpoint + "/lambda"}, nil, "", ""},
	} {
		for path, node := range clientCommands(t) {
			if lacksFlag(node, try.flags) || path == try.but {
				continue
			}
			t.Run(try.name+"/"+path, func(t *testing.T) {
				for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "THAW_ENDPOINT", "THAW_DATA", "THAW_TENANT", "THAW_ENV"} {
					t.Setenv(name, try.env[name])
				}
				t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(t.TempDir(), "auth.json"))
				var out, failed bytes.Buffer
				code := run(t.Context(), slices.Concat(strings.Fields(path), arguments[path], try.flags), streams{strings.NewReader("secret"), &out, &failed})
				fromA, actedA := a.take()
				fromB, actedB := b.take()
				asked, other := fromA, fromB
				if try.want == b {
					asked, other = fromB, fromA
				}
				switch {
				case try.want == nil && (code != exitUsage || actedA || actedB):
					t.Errorf("status %d (%s), A was asked %q, B %q; want %d, and nothing done", code, &failed, fromA, fromB, exitUsage)
				case try.want != nil && (len(asked) == 0 || len(other) > 0):
					t.Errorf("status %d (%s), A was asked %q, B %q; want the one at %s alone", code, &failed, fromA, fromB, try.want.data)
				case try.want != nil && hasFlag(node, "tenant"):
					sure := slices.ContainsFunc(asked, func(s string) bool {
						return strings.Contains(s+"/", "/v1/tenants/"+try.tenant+"/") || strings.HasPrefix(s, "api") && try.tenant == "blue"
					})
					if !sure {
						t.Errorf("asked %q, want for the tenant %s", asked, try.tenant)
					}
				}
			})
		}
	}
}

// arguments are what a command needs beside the server.
var arguments = map[string][]string{
	"deploy":             {"f", "registry.example/f:1"},
	"invoke":             {"f"},
	"rm":                 {"f"},
	"logs":               {"f"},
	"trace":              {},
	"image inspect":      {"f"},
	"cache drop":         {"l1"},
	"tenant create":      {"t"},
	"tenant show":        {"t"},
	"tenant rotate-keys": {"t"},
	"registry login":     {"registry.example", "-u", "me", "--password-stdin"},
	"registry logout":    {"registry.example"},
}
