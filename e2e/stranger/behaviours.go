// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// behaviours are what a visitor may do with its connection.
var behaviours = map[string]func(*visitor) error{
	"idle":            (*visitor).stay,
	"half-header":     (*visitor).halfHeader,
	"header-lines":    (*visitor).headerLines,
	"huge-header":     (*visitor).hugeHeader,
	"garbage":         (*visitor).garbage,
	"http2":           (*visitor).http2,
	"tls":             (*visitor).tls,
	"no-body":         (*visitor).noBody,
	"slow-body":       (*visitor).slowBody,
	"whole-body":      (*visitor).wholeBody,
	"wrong-signature": (*visitor).wrongSignature,
	"wrong-login":     (*visitor).wrongLogin,
	"upload":          (*visitor).upload,
	"takes-nothing":   (*visitor).takesNothing,
	"mutant":          (*visitor).mutant,
	"expects":         (*visitor).expects,
	"hangs-up":        func(*visitor) error { return nil },
}

const (
	invokePath = "/2015-03-31/functions/f/invocations"
	largeBody  = 13 << 20
)

// signed is a request of a tenant's key, under a signature that can't be right.
func (v *visitor) signed(method, path, service, more string) string {
	now := time.Now().UTC()
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Amz-Date: %s\r\nAuthorization: AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, "+
		"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-target, Signature=%064x\r\n%s", method, path, v.options.Server,
		now.Format("20060102T150405Z"), v.options.AccessKey, now.Format("20060102"), v.options.Region, service, v.rand.Uint64(), more)
}

// ofECR is such a request of ECR's API.
func (v *visitor) ofECR(more string) string {
	return v.signed("POST", "/", "ecr", "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.UploadLayerPart\r\nContent-Type: application/x-amz-json-1.1\r\n"+more)
}

func (v *visitor) either(a, b string) string {
	if v.rand.IntN(2) == 0 {
		return a
	}
	return b
}

func (v *visitor) halfHeader() error {
	if err := v.send("GET /v2/ HTTP/1.1\r\nHost: %s\r\n", v.options.Server); err != nil {
		return err
	}
	n := 0
	return v.dribble(func() []byte { n++; return fmt.Appendf(nil, "X-%d: %s\r\n", n, strings.Repeat("x", 1000)) }, 300*time.Millisecond)
}

func (v *visitor) headerLines() error {
	var text strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&text, "%x:\r\n", i)
	}
	if err := v.send("GET / HTTP/1.1\r\n%s", text.String()); err != nil {
		return err
	}
	return v.stay()
}

func (v *visitor) hugeHeader() error {
	if err := v.send("GET /%s HTTP/1.1\r\n", strings.Repeat("a", 1<<v.rand.IntN(21))); err != nil {
		return err
	}
	return v.stay()
}

func (v *visitor) garbage() error {
	if _, err := v.conn.Write(v.bytes(v.rand.IntN(64 << 10))); err != nil {
		return err
	}
	return v.stay()
}

func (v *visitor) http2() error {
	// The preface, settings, and a frame of headers that never end.
	frames := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x10\x00\x01\x00\x00\x00\x00\x01"), v.bytes(4<<10)...)
	if _, err := v.conn.Write(frames); err != nil {
		return err
	}
	return v.stay()
}

func (v *visitor) tls() error {
	if _, err := v.conn.Write(append([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), v.bytes(500)...)); err != nil {
		return err
	}
	return v.stay()
}

// noBody announces a body and sends none.
func (v *visitor) noBody() error {
	more := v.either("", "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\n") + fmt.Sprintf("Content-Length: %d\r\n\r\n", 2<<20)
	if err := v.send("%s", v.either(v.ofECR(more), v.signed("POST", invokePath, "lambda", more))); err != nil {
		return err
	}
	return v.stay()
}

// slowBody sends some kilobytes each second of what it announces.
func (v *visitor) slowBody() error {
	if err := v.send("%s", v.ofECR(fmt.Sprintf("Content-Length: %d\r\n\r\n", largeBody))); err != nil {
		return err
	}
	piece := bytes.Repeat([]byte("x"), 4<<10)
	return v.dribble(func() []byte { return piece }, time.Second)
}

// wholeBody sends all but the last byte of a large body, and keeps that.
func (v *visitor) wholeBody() error {
	if v.options.Kinds == nil && v.rand.IntN(20) > 0 {
		return nil // in a crowd of all kinds, a few of these make load enough
	}
	if err := v.send("%s", v.ofECR(fmt.Sprintf("Content-Length: %d\r\n\r\n", largeBody))); err != nil {
		return err
	}
	if _, err := v.conn.Write(make([]byte, largeBody-1)); err != nil {
		return err
	}
	return v.stay()
}

func (v *visitor) wrongSignature() error {
	for range 3 {
		body := v.bytes(v.rand.IntN(2000))
		more := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		if err := v.send("%s", v.either(v.ofECR(more), v.signed("POST", invokePath, v.either("lambda", "s3"), more))); err != nil {
			return err
		}
	}
	return v.stay()
}

func (v *visitor) wrongLogin() error {
	user, password := v.either("AWS", v.options.AccessKey), v.either("thaw2.e30.AAAA", "secret")
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	if err := v.send("GET /v2/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\n\r\n", v.either("", "app/manifests/v1"), login); err != nil {
		return err
	}
	return v.stay()
}

// upload pushes without a login, in broken chunks.
func (v *visitor) upload() error {
	if err := v.send("%s /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", v.either("POST", "PATCH"),
		v.rand.Uint32(), v.bytes(1000)); err != nil {
		return err
	}
	return v.stay()
}

// takesNothing asks much and takes no answer.
func (v *visitor) takesNothing() error {
	request := []byte(strings.Repeat("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", 100))
	for {
		if _, err := v.conn.Write(request); err != nil {
			return err
		}
	}
}

// mutant is a request that would be whole but for some bytes.
func (v *visitor) mutant() error {
	text := []byte(v.signed("POST", invokePath, "lambda", "Content-Length: 2\r\n\r\n{}"))
	for range 1 + v.rand.IntN(10) {
		text[v.rand.IntN(len(text))] = byte(v.rand.Uint32())
	}
	if _, err := v.conn.Write(text); err != nil {
		return err
	}
	return v.stay()
}

func (v *visitor) expects() error {
	if err := v.send("%s", v.ofECR(fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", largeBody))); err != nil {
		return err
	}
	return v.stay()
}
