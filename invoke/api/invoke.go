// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"unicode/utf8"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/tenant/sigv4"
)

const (
	// maxPayload is Lambda's limit for a synchronous request.
	maxPayload = 6 << 20

	// maxClientContext bounds the header in base64, at Lambda too.
	maxClientContext = 3583
)

func (h *Handler) invoke(c *call) error {
	header := c.r.Header
	switch kind := header.Get("X-Amz-Invocation-Type"); kind {
	case "", "RequestResponse", "DryRun":
	case "Event":
		return refuse(string(control.InvalidParameter),
			"InvocationType Event is not supported: this server has no queue for asynchronous invocations. Use RequestResponse.")
	default:
		return control.Violation(kind, "invocationType", "Member must satisfy enum value set: [Event, RequestResponse, DryRun]")
	}
	request, err := c.invocation()
	if err != nil {
		return err
	}
	name, qualifier := c.function()
	target, err := h.options.Control.ResolveInvoke(c.r.Context(), c.identity.Tenant, name, qualifier)
	if err != nil {
		return err
	}
	if header.Get("X-Amz-Tenant-Id") != "" {
		return refuse(string(control.InvalidParameter), "The header X-Amz-Tenant-Id is for functions with tenant isolation, which this server does not support.")
	}
	c.Header()["X-Amz-Executed-Version"] = []string{target.Version}
	if header.Get("X-Amz-Invocation-Type") == "DryRun" {
		return c.noContent()
	}
	// The function runs to its end, whether or not the client waits for it.
	response, err := h.options.Invoker.Invoke(context.WithoutCancel(c.r.Context()), target, request)
	if err != nil {
		// What the invoker was given are our own records, not the client's words.
		delete(c.Header(), "X-Amz-Executed-Version")
		return thaw.OurFault("", err)
	}
	c.respond(response)
	return nil
}

// invocation reads what the request says of the invocation.
func (c *call) invocation() (Request, error) {
	header := c.r.Header
	request := Request{ID: c.requestID, TraceID: header.Get("X-Amzn-Trace-Id")}
	switch log := header.Get("X-Amz-Log-Type"); log {
	case "", "None":
	case "Tail":
		request.LogTail = true
	default:
		return request, control.Violation(log, "logType", "Member must satisfy enum value set: [None, Tail]")
	}
	if encoded := header.Get("X-Amz-Client-Context"); encoded != "" {
		if len(encoded) > maxClientContext {
			return request, refuse(string(control.InvalidParameter), "The client context is larger than %d bytes.", maxClientContext)
		}
		text, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !json.Valid(text) {
			return request, refuse(invalidContent, "Client context must be a valid Base64-encoded JSON object.")
		}
		request.ClientContext = string(text)
	}
	payload, err := c.payload()
	request.Payload = payload
	return request, err
}

// payload reads the event. An empty one is an empty object, as at Lambda.
func (c *call) payload() ([]byte, error) {
	large := refuse(tooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", maxPayload)
	if c.r.ContentLength > maxPayload {
		return nil, large
	}
	payload, err := sigv4.ReadBody(c.r)
	switch {
	case thaw.KindOf(err) == thaw.TooLarge && err != nil, len(payload) > maxPayload:
		return nil, large
	case err != nil:
		return nil, err
	case len(payload) == 0:
		return []byte("{}"), nil
	case !utf8.Valid(payload):
		return nil, refuse(invalidContent, "Could not parse request body into json: it is not UTF-8")
	case !json.Valid(payload):
		var raw json.RawMessage // the same check again, for its words
		return nil, refuse(invalidContent, "Could not parse request body into json: %v", json.Unmarshal(payload, &raw))
	}
	return payload, nil
}

// respond answers with what the function said. The status tells of the
// invocation only, never of the function: that is in the header.
func (c *call) respond(response *Response) {
	header := c.Header()
	header["Content-Type"] = []string{"application/json"}
	header["Content-Length"] = []string{strconv.Itoa(len(response.Payload))}
	if response.FunctionError != "" {
		header["X-Amz-Function-Error"] = []string{response.FunctionError}
	}
	if response.LogTail != nil {
		header["X-Amz-Log-Result"] = []string{base64.StdEncoding.EncodeToString(response.LogTail)}
	}
	c.WriteHeader(http.StatusOK)
	_, _ = c.Write(response.Payload) // a client that has gone is no error of ours
}
