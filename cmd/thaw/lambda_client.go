// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"thaw.dev/thaw"
)

// How long a command waits for a server that is away: for a connection, for an
// answer, and for that of an invocation, which may run for 15 minutes.
const (
	connectTime = 10 * time.Second
	answerTime  = 2 * time.Minute
	invokeTime  = 16 * time.Minute
)

// lambda returns a client of the Lambda API.
func (s session) lambda() *lambda.Client { return s.patient(answerTime) }

// patient is lambda with another time to wait for an answer.
func (s session) patient(answerTime time.Duration) *lambda.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: connectTime}).DialContext
	transport.ResponseHeaderTimeout = answerTime
	return lambda.New(lambda.Options{
		Region:       s.region,
		BaseEndpoint: aws.String(s.endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(s.accessKey, s.secret, ""),
		HTTPClient:   &http.Client{Transport: lambdaAnswers{transport}},
		// An invocation must not be sent twice.
		RetryMaxAttempts: 1,
	})
}

// lambdaAnswers lets through what answers as Lambda's API does, with a request
// id, so that a web page is not taken for an empty list of functions.
type lambdaAnswers struct{ next http.RoundTripper }

func (t lambdaAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err == nil && answer.Header.Get("X-Amzn-Requestid") == "" {
		_ = answer.Body.Close()
		return nil, &strangeAnswer{status: answer.Status}
	}
	return answer, err
}

// strangeAnswer is what something other than thaw has answered.
type strangeAnswer struct{ status string }

func (e *strangeAnswer) Error() string { return "it answers " + e.status }

// plain turns an SDK's error into the server's own words and kind, or into what
// is wrong with the endpoint.
func (s session) plain(err error) error {
	if err == nil {
		return nil
	}
	apiError, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return s.unreachable(err)
	}
	kind := thaw.Internal
	switch apiError.ErrorCode() {
	case "ResourceNotFoundException":
		kind = thaw.NotFound
	case "ResourceConflictException", "PreconditionFailedException":
		kind = thaw.Conflict
	case "InvalidParameterValueException", "ValidationException":
		kind = thaw.Invalid
	case "TooManyRequestsException":
		kind = thaw.Throttled
	case "UnrecognizedClientException":
		return &refusal{thaw.Denied, "the server at " + s.endpoint + " does not know this access key; where it is the environment's, run: eval \"$(thaw env)\""}
	}
	return &refusal{kind, apiError.ErrorCode() + ": " + apiError.ErrorMessage()}
}

// refusal is a server's answer that it did not do what it was asked for.
type refusal struct {
	kind    thaw.Kind
	message string
}

func (e *refusal) Error() string { return e.message }

// Unwrap gives the error its kind.
func (e *refusal) Unwrap() error { return thaw.Errorf("", e.kind, "%s", e.message) }

func isNotFound(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}
