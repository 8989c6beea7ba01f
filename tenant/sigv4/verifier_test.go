// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"

	thaw "thaw.dev/thaw"
)

const (
	testKey    = "AKIATESTTESTTESTTEST"
	testSecret = "0123456789abcdefghij0123456789ABCDEFGHIJ"
	testTenant = thaw.TenantID("123456789012")
)

var testNow = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func lookup(_ context.Context, accessKeyID string) (string, thaw.TenantID, error) {
	if accessKeyID != testKey {
		return "", "", thaw.Errorf("lookup", thaw.NotFound, "no such key")
	}
	return testSecret, testTenant, nil
}

func newTestVerifier() *Verifier {
	return New(Config{Lookup: lookup, Services: []string{"lambda", "ecr"}, MaxBodyBytes: 1 << 16,
		Now: func() time.Time { return testNow }})
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// overTheWire returns r as a server sees it: written by the standard client
// and parsed again.
func overTheWire(t interface{ Fatal(...any) }, r *http.Request) *http.Request {
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	return parseRequest(t, wire.Bytes())
}

func codeOf(err error) Code {
	if r, ok := errors.AsType[*Rejection](err); ok && thaw.KindOf(err) == thaw.Denied {
		return r.Code
	}
	return ""
}

// drawn is a random request of the shapes that an API meets, and ones it
// doesn't.
type drawn struct {
	method, path, query string
	header              http.Header
	body                []byte
	nameHash            bool
}

func drawRequest(t *rapid.T) drawn {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ09-._~ !$&'()*+,;=:@/?#[]%éß日\"<>")), 0, 12, -1)
	d := drawn{header: http.Header{}}
	d.method = rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE"}).Draw(t, "method")
	for range rapid.IntRange(0, 4).Draw(t, "segments") {
		d.path += "/" + url.PathEscape(text.Draw(t, "segment"))
	}
	if d.path == "" || strings.HasPrefix(d.path, "//") {
		d.path = "/x" + d.path
	}
	values := url.Values{}
	for range rapid.IntRange(0, 4).Draw(t, "parameters") {
		values.Add("k"+text.Draw(t, "key"), text.Draw(t, "value"))
	}
	d.query = strings.ReplaceAll(values.Encode(), "+", "%20")
	for _, name := range []string{"Content-Type", "X-Amz-Invocation-Type", "X-Amz-Two", "Range"} {
		for range rapid.IntRange(0, 2).Draw(t, name) {
			d.header.Add(name, rapid.StringMatching(`[a-zA-Z0-9 /;=]{1,20}`).Draw(t, "value of "+name))
		}
	}
	if d.method != "GET" {
		d.body = rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "body")
	}
	d.nameHash = rapid.Bool().Draw(t, "name the hash")
	return d
}

func (d drawn) request(t *rapid.T) *http.Request {
	r, err := http.NewRequest(d.method, "http://127.0.0.1:9800"+d.path+"?"+d.query, bytes.NewReader(d.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = d.header.Clone()
	return r
}

func TestAgreesWithTheSDKsSigner(t *testing.T) {
	verifier, signer := newTestVerifier(), v4.NewSigner()
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	rapid.Check(t, func(t *rapid.T) {
		d := drawRequest(t)
		r := d.request(t)
		service := rapid.SampledFrom([]string{"lambda", "ecr"}).Draw(t, "service")
		at := testNow.Add(time.Duration(rapid.IntRange(-300, 300).Draw(t, "skew")) * time.Second)
		if d.nameHash {
			r.Header.Set("X-Amz-Content-Sha256", hashOf(d.body))
		}
		if rapid.Bool().Draw(t, "presign") {
			r.URL.RawQuery = strings.TrimPrefix(r.URL.RawQuery+"&X-Amz-Expires=300", "&")
			if at.After(testNow) {
				at = testNow
			}
			signed, header, err := signer.PresignHTTP(t.Context(), credentials, r, hashOf(d.body), service, "eu-central-1", at)
			if err != nil {
				t.Fatal(err)
			}
			if r.URL, err = url.Parse(signed); err != nil {
				t.Fatal(err)
			}
			r.Header = header
		} else if err := signer.SignHTTP(t.Context(), credentials, r, hashOf(d.body), service, "eu-central-1", at); err != nil {
			t.Fatal(err)
		}
		got := overTheWire(t, r)
		identity, err := verifier.Verify(t.Context(), got)
		want := Identity{testTenant, testKey, "eu-central-1", service}
		if err != nil || identity != want {
			t.Fatalf("%s %s %v: %+v, %v", r.Method, r.URL, r.Header, identity, err)
		}
		body, err := ReadBody(got)
		if err != nil || !bytes.Equal(body, d.body) {
			t.Fatalf("body %q, %v; want %q", body, err, d.body)
		}
	})
}

func TestRefusesEveryChange(t *testing.T) {
	verifier, signer := newTestVerifier(), v4.NewSigner()
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	changes := map[string]func(*rapid.T, *http.Request) (body []byte){
		"method": func(_ *rapid.T, r *http.Request) []byte { r.Method = "PATCH"; return nil },
		"path":   func(_ *rapid.T, r *http.Request) []byte { r.URL.Path, r.URL.RawPath = r.URL.Path+"x", ""; return nil },
		"query":  func(_ *rapid.T, r *http.Request) []byte { r.URL.RawQuery += "&z=1"; return nil },
		"host":   func(_ *rapid.T, r *http.Request) []byte { r.Host = "other"; return nil },
		"signed header": func(_ *rapid.T, r *http.Request) []byte {
			r.Header.Set("X-Amz-Two", "changed")
			return nil
		},
		"added header": func(_ *rapid.T, r *http.Request) []byte { r.Header.Set("X-Amz-Added", "1"); return nil },
		"signature": func(t *rapid.T, r *http.Request) []byte {
			auth := []byte(r.Header.Get("Authorization"))
			i := len(auth) - 1 - rapid.IntRange(0, 63).Draw(t, "digit")
			auth[i] = map[bool]byte{true: '1', false: '0'}[auth[i] == '0']
			r.Header.Set("Authorization", string(auth))
			return nil
		},
		"date": func(_ *rapid.T, r *http.Request) []byte {
			r.Header.Set("X-Amz-Date", testNow.Add(time.Second).Format(timeFormat))
			return nil
		},
		"body": func(t *rapid.T, r *http.Request) []byte {
			body, _ := io.ReadAll(r.Body)
			body[rapid.IntRange(0, len(body)-1).Draw(t, "byte")] ^= 1
			return body
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				d := drawRequest(t)
				d.method, d.body = "POST", append(d.body, 'x')
				d.header.Set("X-Amz-Two", "2")
				r := d.request(t)
				if d.nameHash {
					r.Header.Set("X-Amz-Content-Sha256", hashOf(d.body))
				}
				if err := signer.SignHTTP(t.Context(), credentials, r, hashOf(d.body), "lambda", "us-east-1", testNow); err != nil {
					t.Fatal(err)
				}
				if body := change(t, r); body != nil {
					r.Body = io.NopCloser(bytes.NewReader(body))
				}
				got := overTheWire(t, r)
				_, err := verifier.Verify(t.Context(), got)
				if err == nil {
					_, err = ReadBody(got)
				}
				if codeOf(err) != InvalidSignature {
					t.Fatalf("got %v", err)
				}
			})
		})
	}
}

// TestPublishedExample is the example of the IAM user guide.
func TestPublishedExample(t *testing.T) {
	r := httptest.NewRequest("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "+
		"SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
	verifier := New(Config{Services: []string{"iam"},
		Now: func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) },
		Lookup: func(context.Context, string) (string, thaw.TenantID, error) {
			return "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", testTenant, nil
		}})
	if _, err := verifier.Verify(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// signedRequest is a small good request to spoil.
func signedRequest(t *testing.T, at time.Time, service string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", "http://localhost/2015-03-31/functions/f/invocations?Qualifier=%24LATEST", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Content-Sha256", hashOf([]byte("{}")))
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret},
		r, hashOf([]byte("{}")), service, "us-east-1", at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRejections(t *testing.T) {
	replace := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
		}
	}
	for _, test := range []struct {
		name    string
		at      time.Time
		service string
		change  func(*http.Request)
		code    Code
		message string // a part of it
	}{
		{name: "no signature", change: func(r *http.Request) { r.Header.Del("Authorization") },
			code: MissingAuthentication, message: "Missing Authentication Token"},
		{name: "basic", change: func(r *http.Request) { r.SetBasicAuth("a", "hidden") },
			code: IncompleteSignature, message: "Unsupported AWS 'algorithm': 'not AWS4'"},
		{name: "asymmetric", change: replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
			code: IncompleteSignature, message: "'AWS4-ECDSA-P256-SHA256'"},
		{name: "no credential", change: replace("Credential=", "Credentials="),
			code: IncompleteSignature, message: "Authorization header requires 'Credential' parameter."},
		{name: "no date", change: func(r *http.Request) { r.Header.Del("X-Amz-Date") },
			code: IncompleteSignature, message: "requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		{name: "bad date", change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "today") },
			code: IncompleteSignature, message: "Date must be in ISO-8601 'basic format'. Got 'today'."},
		{name: "short credential", change: replace("/us-east-1", ""),
			code: IncompleteSignature, message: "Credential must have exactly 5 slash-delimited elements"},
		{name: "no pair", change: replace(" SignedHeaders=", " SignedHeaders"),
			code: IncompleteSignature, message: "no key=value pair"},
		{name: "unknown key", change: replace(testKey, "AKIAOTHER"),
			code: UnrecognizedClient, message: "The security token included in the request is invalid."},
		{name: "session token", change: func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "left over") },
			code: UnrecognizedClient, message: "The security token included in the request is invalid."},
		{name: "service", service: "s3",
			code: InvalidSignature, message: "Credential should be scoped to correct service: 'lambda'. "},
		{name: "region", change: replace("us-east-1", "US_EAST"),
			code: InvalidSignature, message: "Credential should be scoped to a valid region, not 'US_EAST'."},
		{name: "day", change: replace("/20260304/", "/20260303/"),
			code: InvalidSignature, message: "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20260303' != '20260304', from '20260304T050607Z'."},
		{name: "terminator", change: replace("/aws4_request", "/aws5_request"),
			code: InvalidSignature, message: "valid terminator"},
		{name: "late", at: testNow.Add(-301 * time.Second),
			code: InvalidSignature, message: "Signature expired: 20260304T050106Z is now earlier than 20260304T050107Z (20260304T050607Z - 5 min.)"},
		{name: "early", at: testNow.Add(301 * time.Second),
			code: InvalidSignature, message: "Signature not yet current: 20260304T051108Z is still later than 20260304T051107Z (20260304T050607Z + 5 min.)"},
		{name: "host not signed", change: replace("host;", ""),
			code: InvalidSignature, message: "'Host' or ':authority' must be a 'SignedHeader'"},
		{name: "signature not hexadecimal", change: replace("Signature=", "Signature=zz"),
			code: InvalidSignature, message: "The request signature we calculated does not match"},
		{name: "payload kind", change: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "SOMETHING") },
			code: InvalidSignature, message: "does not match"},
		{name: "two signatures", change: func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=00" },
			code: IncompleteSignature, message: "one signature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.at.IsZero() {
				test.at = testNow
			}
			if test.service == "" {
				test.service = "lambda"
			}
			r := signedRequest(t, test.at, test.service)
			if test.change != nil {
				test.change(r)
			}
			_, err := newTestVerifier().Verify(t.Context(), overTheWire(t, r))
			if codeOf(err) != test.code || !strings.Contains(err.Error(), test.message) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), testSecret) {
				t.Error("the secret is in the message")
			}
		})
	}
}

func TestPresignedLivesAsLongAsItSays(t *testing.T) {
	r, err := http.NewRequest("GET", "http://localhost/2015-03-31/functions?X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), credentials, r, hashOf(nil), "lambda", "us-east-1", testNow)
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]Code{
		0: "", time.Minute: "", 61 * time.Second: InvalidSignature, -301 * time.Second: InvalidSignature,
	} {
		verifier := newTestVerifier()
		verifier.config.Now = func() time.Time { return testNow.Add(after) }
		_, err := verifier.Verify(t.Context(), httptest.NewRequest("GET", signed, nil))
		if codeOf(err) != want || (want == "") != (err == nil) {
			t.Errorf("after %v: %v, want %q", after, err, want)
		}
	}
	for _, change := range [][2]string{{"X-Amz-Expires=60", "X-Amz-Expires=0"}, {"X-Amz-Expires=60", "X-Amz-Expires=604801"},
		{"X-Amz-Expires=60", "X-Amz-Expires=x"}, {"X-Amz-Expires=60&", ""}, {"AWS4-HMAC", "AWS9-HMAC"}} {
		spoiled := strings.Replace(signed, change[0], change[1], 1)
		_, err := newTestVerifier().Verify(t.Context(), httptest.NewRequest("GET", spoiled, nil))
		if codeOf(err) != IncompleteSignature {
			t.Errorf("%v: %v", change, err)
		}
	}
}

func TestRotatedSecretDoesNotHitTheCache(t *testing.T) {
	secret := testSecret
	verifier := newTestVerifier()
	verifier.config.Lookup = func(context.Context, string) (string, thaw.TenantID, error) { return secret, testTenant, nil }
	for _, want := range []Code{"", InvalidSignature, InvalidSignature} {
		_, err := verifier.Verify(t.Context(), overTheWire(t, signedRequest(t, testNow, "lambda")))
		if codeOf(err) != want || (want == "") != (err == nil) {
			t.Errorf("with secret %q: %v, want %q", secret, err, want)
		}
		secret = "another"
	}
}

func TestLookupErrorIsNoRejection(t *testing.T) {
	verifier := newTestVerifier()
	verifier.config.Lookup = func(context.Context, string) (string, thaw.TenantID, error) {
		return "", "", thaw.Errorf("lookup", thaw.Unavailable, "the database is away")
	}
	_, err := verifier.Verify(t.Context(), overTheWire(t, signedRequest(t, testNow, "lambda")))
	if thaw.KindOf(err) != thaw.Unavailable || codeOf(err) != "" {
		t.Errorf("got %v", err)
	}
}

func TestBodyIsBounded(t *testing.T) {
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	for _, named := range []string{"", "hash", unsignedPayload} {
		for _, chunked := range []bool{false, true} {
			for _, size := range []int{1 << 16, 1<<16 + 1, 1 << 20} {
				body := bytes.Repeat([]byte("x"), size)
				r, err := http.NewRequest("POST", "http://localhost/", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				payload := hashOf(body)
				switch named {
				case "hash":
					r.Header.Set("X-Amz-Content-Sha256", payload)
				case unsignedPayload:
					payload = unsignedPayload
					r.Header.Set("X-Amz-Content-Sha256", payload)
				}
				if chunked {
					r.ContentLength = -1
				}
				if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, payload, "lambda", "us-east-1", testNow); err != nil {
					t.Fatal(err)
				}
				got := overTheWire(t, r)
				_, err = newTestVerifier().Verify(t.Context(), got)
				var data []byte
				if err == nil {
					data, err = ReadBody(got)
				}
				if fits := size <= 1<<16; fits != (err == nil) || fits && len(data) != size || !fits && thaw.KindOf(err) != thaw.TooLarge {
					t.Errorf("hash %q, chunked %v, %d bytes: %d, %v", named, chunked, size, len(data), err)
				}
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	verifier := newTestVerifier()
	r, err := http.NewRequest("POST", "http://localhost/2015-03-31/functions/f/invocations", nil)
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"hello":"world, this is a payload of 48 bytes"}`)
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	if err := v4.NewSigner().SignHTTP(b.Context(), credentials, r, hashOf(body), "lambda", "us-east-1", testNow); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.Body = io.NopCloser(bytes.NewReader(body))
		if _, err := verifier.Verify(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
