// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// canonicalRequest is the text that both sides agree on, see "Create a signed
// AWS API request" in the IAM user guide. The path is escaped once more than
// it is on the wire, as for every service but S3.
func (s *signature) canonicalRequest(r *http.Request, query, payload string) []byte {
	b := make([]byte, 0, 1024)
	b = append(b, r.Method...)
	b = append(b, '\n')
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	if s.scope.service == "s3" {
		b = append(b, path...)
	} else {
		b = appendEscaped(b, path, '/')
	}
	b = append(b, '\n')
	b = append(b, query...)
	b = append(b, '\n')
	for _, name := range s.signedHeaders {
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range s.signedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	return append(b, payload...)
}

func (s *signature) stringToSign(canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	b := make([]byte, 0, 192)
	b = append(b, algorithm+"\n"...)
	b = s.date.AppendFormat(b, timeFormat)
	b = append(b, '\n')
	b = append(b, s.scope.String()...)
	b = append(b, '\n')
	return hex.AppendEncode(b, sum[:])
}

// appendHeader appends the values of one header, runs of spaces as one, none at
// the ends, joined by commas.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	switch name {
	case "host":
		return append(b, r.Host...)
	case "content-length":
		// The server may keep it as a number only.
		if r.ContentLength >= 0 && len(r.Header["Content-Length"]) == 0 {
			return strconv.AppendInt(b, r.ContentLength, 10)
		}
	}
	for i, value := range r.Header.Values(name) {
		if i > 0 {
			b = append(b, ',')
		}
		space := false
		for _, c := range []byte(strings.TrimSpace(value)) {
			if c == ' ' && space {
				continue
			}
			space = c == ' '
			b = append(b, c)
		}
	}
	return b
}

// order says how query parameters are compared.
type order bool

const (
	sortEscaped order = false
	sortPlain   order = true
)

type parameter struct{ key, value, plainKey, plainValue string }

// canonicalQuery sorts the parameters and writes them with one kind of escape.
// The signature itself is left out: it can't sign itself.
func canonicalQuery(raw string, by order) string {
	if raw == "" {
		return ""
	}
	parameters := make([]parameter, 0, 8)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		p := parameter{plainKey: unescape(key), plainValue: unescape(value)}
		if p.plainKey == "X-Amz-Signature" {
			continue
		}
		p.key = string(appendEscaped(nil, p.plainKey, 0))
		p.value = string(appendEscaped(nil, p.plainValue, 0))
		parameters = append(parameters, p)
	}
	slices.SortStableFunc(parameters, func(a, b parameter) int {
		if by == sortPlain {
			if c := strings.Compare(a.plainKey, b.plainKey); c != 0 {
				return c
			}
			return strings.Compare(a.plainValue, b.plainValue)
		}
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	var out strings.Builder
	for i, p := range parameters {
		if i > 0 {
			out.WriteByte('&')
		}
		out.WriteString(p.key)
		out.WriteByte('=')
		out.WriteString(p.value)
	}
	return out.String()
}

// unescape decodes a part of a query; a malformed escape stands for itself,
// and then the signature does not match.
func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// appendEscaped escapes all but the unreserved characters of RFC 3986 and the
// one named by keep.
func appendEscaped(b []byte, s string, keep byte) []byte {
	const hexDigits = "0123456789ABCDEF"
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == keep && keep != 0:
			b = append(b, c)
		default:
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}
