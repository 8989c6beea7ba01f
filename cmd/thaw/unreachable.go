// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"thaw.dev/thaw"
)

// unreachable says in one line why no thaw answers at the session's endpoint, and
// what to do. An error that is of another kind stays as it is.
func (s session) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	why := whyUnreachable(s.endpoint, err)
	if why == "" {
		return err
	}
	return thaw.Errorf("", thaw.Unavailable, "no thaw answers at %s (%s): %s", s.endpoint, s.from, why)
}

const (
	startServer   = "is \"thaw serve\" running there?"
	checkEndpoint = "check the address and the port"
)

// whyUnreachable is "" for an error that does not tell of the connection.
func whyUnreachable(endpoint string, err error) string {
	if strange, ok := errors.AsType[*strangeAnswer](err); ok {
		if strings.HasPrefix(strange.status, "50") {
			return strange.Error() + ": a proxy whose server is away? " + startServer
		}
		if strings.HasPrefix(strange.status, "400") && strings.HasPrefix(endpoint, "http://") {
			return strange.Error() + ", which is not thaw's API: if it speaks TLS, https:// is meant; else " + checkEndpoint
		}
		return strange.Error() + ", which is not thaw's API: " + checkEndpoint
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the name %s is not found: %s", name.Name, checkEndpoint)
	}
	if why := whyNoTLS(err); why != "" {
		return why
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: " + startServer
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection without an answer: " + checkEndpoint + ", and whether it speaks TLS"
	case strings.Contains(err.Error(), "malformed HTTP"):
		return "it does not speak HTTP: " + checkEndpoint
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "no answer in time: " + checkEndpoint + ", and what is between"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Sprintf("%v: %s", op.Err, checkEndpoint)
	}
	return ""
}

// whyNoTLS tells of https where there is no TLS, and of certificates.
func whyNoTLS(err error) string {
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	if isRecord || strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return "it speaks no TLS: an endpoint with http:// instead of https:// may be meant"
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	if unknown || name || invalid {
		var cause *tls.CertificateVerificationError
		text := err.Error()
		if errors.As(err, &cause) {
			text = cause.Err.Error()
		}
		return text + ": name the file of its authority's certificate in SSL_CERT_FILE, or the host as the certificate does"
	}
	return ""
}

// noAdmin says why no server answers at an admin socket.
func noAdmin(data string, err error) error {
	why := "no server runs there"
	switch {
	case errors.Is(err, fs.ErrPermission):
		return thaw.Errorf("", thaw.Denied, "the server of %s can't be asked: permission denied: run this as the user who runs it (root)", data)
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "its server is not running"
	case !errors.Is(err, fs.ErrNotExist):
		why = err.Error()
		if op, ok := errors.AsType[*net.OpError](err); ok {
			why = op.Err.Error()
		}
	}
	return thaw.Errorf("", thaw.Unavailable,
		"no server answers for the data folder %s (%s): start one with \"thaw serve --data %s\", or name the folder of one that runs with --data or THAW_DATA", data, why, data)
}
