// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
)

const (
	headerErrorType    = "Lambda-Runtime-Function-Error-Type"
	headerErrorBody    = "Lambda-Runtime-Function-Error-Body"
	headerResponseMode = "Lambda-Runtime-Function-Response-Mode"

	// causeContentType marks an error body that carries an X-Ray cause beside
	// the error, which callers are not shown.
	causeContentType = "application/vnd.aws.lambda.error.cause+json"
)

var errTooLarge = errors.New("body too large")

// handleResponse takes the answer to an invocation. A streamed one is buffered.
func (c *conn) handleResponse(r *http.Request, id string) bool {
	turn, no := c.server.accept(id, stateResponse)
	if no != nil {
		return c.discard(r, false) && c.refuse(no, r.Close)
	}
	if mode := r.Header.Get(headerResponseMode); mode != "" && mode != "streaming" {
		c.server.answer(turn, failure(ErrorInvalidMode, "Invalid function response mode"))
		return c.discard(r, true) && c.refuse(&refusal{http.StatusBadRequest, "InvalidFunctionResponseMode",
			"Invalid function response mode"}, r.Close)
	}
	body, err := c.readBody(r)
	if err != nil {
		return c.answerUnread(r, turn, err)
	}
	c.server.answer(turn, withTrailer(r, Response{Payload: body, ContentType: r.Header.Get("Content-Type")}))
	return c.accepted(r)
}

// withTrailer turns a response whose end says that it failed midway into the
// error that the trailer holds.
func withTrailer(r *http.Request, ok Response) Response {
	said := r.Trailer.Get(headerErrorType)
	if said == "" {
		return ok
	}
	failed := Response{Payload: ok.Payload, ContentType: "application/json", Failed: true, ErrorType: errorType(said)}
	if body, err := base64.StdEncoding.DecodeString(r.Trailer.Get(headerErrorBody)); err == nil && len(body) > 0 {
		failed.Payload = body
	}
	return failed
}

func (c *conn) handleError(r *http.Request, id string) bool {
	turn, no := c.server.accept(id, stateErrorBody)
	if no != nil {
		return c.discard(r, false) && c.refuse(no, r.Close)
	}
	report, err := c.readReport(r)
	if err != nil {
		return c.answerUnread(r, turn, err)
	}
	c.server.answer(turn, report)
	return c.accepted(r)
}

func (c *conn) handleInitError(r *http.Request) bool {
	if no := c.server.acceptInitError(); no != nil {
		return c.discard(r, false) && c.refuse(no, r.Close)
	}
	report, err := c.readReport(r)
	if err != nil {
		c.server.failInit(failure(ErrorUnknown, "the runtime's init error could not be read"))
		return c.refuse(&refusal{http.StatusBadRequest, "InvalidRequest", "Unreadable init error"}, true)
	}
	c.server.failInit(report)
	return c.accepted(r)
}

// readReport reads an error in either of its two content types.
func (c *conn) readReport(r *http.Request) (Response, error) {
	body, err := c.readBody(r)
	if err != nil {
		return Response{}, err
	}
	report := Response{
		Payload:     body,
		ContentType: r.Header.Get("Content-Type"),
		Failed:      true,
		ErrorType:   errorType(r.Header.Get(headerErrorType)),
	}
	if report.ContentType == causeContentType {
		report.Payload, report.ContentType = withoutCause(body), "application/json"
	}
	return report, nil
}

// withoutCause keeps of an error with a cause what callers may see.
func withoutCause(body []byte) []byte {
	var shown struct {
		ErrorMessage string   `json:"errorMessage"`
		ErrorType    string   `json:"errorType"`
		StackTrace   []string `json:"stackTrace"`
	}
	if err := json.Unmarshal(body, &shown); err != nil {
		return []byte(`"Invalid error body"`)
	}
	out, err := json.Marshal(shown)
	if err != nil {
		return []byte(`"Invalid error body"`)
	}
	return out
}

// accepted tells the runtime that what it posted was passed on. Whoever waits for
// that goes on first, at once, on this processor: otherwise the caller of a warm
// function would wait until another is awake (bench/warm: 0.06 ms of 0.57).
func (c *conn) accepted(r *http.Request) bool {
	runtime.Gosched()
	return c.write(http.StatusAccepted, "application/json", []byte("{\"status\":\"OK\"}\n"), r.Close)
}

// answerUnread answers the turn and the runtime where a body was too large or
// ended early.
func (c *conn) answerUnread(r *http.Request, turn *Turn, err error) bool {
	if errors.Is(err, errTooLarge) {
		limit := fmt.Sprintf("maximum allowed payload size (%d bytes).", MaxPayloadBytes)
		c.server.answer(turn, failure(ErrorTooLarge, "Response payload size exceeded "+limit))
		drained := c.discard(r, true)
		return c.refuse(&refusal{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Exceeded " + limit},
			r.Close || !drained)
	}
	c.server.answer(turn, failure(ErrorTruncated, "the runtime's response ended before it was complete"))
	c.refuse(&refusal{http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated"}, true)
	return false
}

// failure is a function error in the form that callers see.
func failure(errorType, message string) Response {
	payload, err := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{errorType, message})
	if err != nil {
		payload = nil // two strings always marshal
	}
	return Response{Payload: payload, ContentType: "application/json", Failed: true, ErrorType: errorType}
}

// readBody reads a body of at most MaxPayloadBytes, chunked or not. What is more
// than any sandbox may have waits for its turn among those of other sandboxes.
func (c *conn) readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxPayloadBytes {
		return nil, errTooLarge
	}
	c.proceed(r)
	var body []byte
	if r.ContentLength < 0 {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, freeBytes)); err != nil || len(body) < freeBytes {
			return body, err
		}
	}
	length := r.ContentLength
	if length > freeBytes || length < 0 {
		release, ok := c.server.room(MaxPayloadBytes - freeBytes)
		if !ok {
			return nil, net.ErrClosed
		}
		defer release()
	}
	if length >= 0 {
		body = make([]byte, length)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	rest, err := io.ReadAll(io.LimitReader(r.Body, MaxPayloadBytes+1-freeBytes))
	if err == nil && len(rest) > MaxPayloadBytes-freeBytes {
		return nil, errTooLarge
	}
	return append(body, rest...), err
}
