// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/tenant"
)

// adminClient speaks to the server's admin socket, which only the user who
// runs the server may open.
type adminClient struct {
	data string
	http *http.Client
}

func newAdminClient(data string) *adminClient {
	socket := adminSocket(data)
	return &adminClient{data: data, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

func adminSocket(data string) string { return filepath.Join(data, "run", "admin.sock") }

// do sends a request and decodes the JSON answer into out, where out is not nil.
func (a *adminClient) do(ctx context.Context, method, path string, in, out any) error {
	body, err := a.stream(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(out)
}

// stream sends a request and returns the body of a good answer.
func (a *adminClient) stream(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var payload io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://thaw"+path, payload)
	if err != nil {
		return nil, err
	}
	response, err := a.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, noAdmin(a.data, err)
	}
	if response.StatusCode >= 300 {
		defer response.Body.Close()
		var failure adminError
		if err := json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&failure); err != nil || failure.Message == "" {
			failure.Message = response.Status
		}
		return nil, &refusal{thaw.ParseKind(failure.Kind), failure.Message}
	}
	return response.Body, nil
}

// adminError is the body of a refused admin request.
type adminError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// serverInfo is what a server says of itself.
type serverInfo struct {
	Endpoint string `json:"endpoint"` // URL of the API and the registry
	Region   string `json:"region"`
	Version  string `json:"version"`
}

// account asks for a tenant's account by name.
func (a *adminClient) account(ctx context.Context, name string) (tenant.Account, error) {
	var account tenant.Account
	err := a.do(ctx, http.MethodGet, "/v1/tenants/"+url.PathEscape(name), nil, &account)
	return account, err
}

func (a *adminClient) info(ctx context.Context) (serverInfo, error) {
	var info serverInfo
	err := a.do(ctx, http.MethodGet, "/v1/info", nil, &info)
	return info, err
}

// await is info, asked until a server answers or the time is over; the error
// is then the last one.
func (a *adminClient) await(ctx context.Context, most time.Duration) (serverInfo, error) {
	const pause = 50 * time.Millisecond
	for over := time.Now().Add(most); ; {
		info, err := a.info(ctx)
		if thaw.KindOf(err) != thaw.Unavailable || time.Now().After(over) {
			return info, err
		}
		select {
		case <-ctx.Done():
			return info, err
		case <-time.After(pause):
		}
	}
}

// printJSON prints v indented, for --json.
func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
