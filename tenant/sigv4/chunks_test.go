// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"

	thaw "thaw.dev/thaw"
)

func parseRequest(t interface{ Fatal(...any) }, wire []byte) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPublishedChunkedExamples are the two examples of the S3 API reference,
// "Signature calculations for the Authorization header: transferring payload
// in multiple chunks", without and with a trailer.
func TestPublishedChunkedExamples(t *testing.T) {
	verifier := New(Config{Services: []string{"s3"},
		Now: func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) },
		Lookup: func(context.Context, string) (string, thaw.TenantID, error) {
			return "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", testTenant, nil
		}})
	content := strings.Repeat("a", 65*1024)
	for _, example := range []struct{ name, header, framed string }{
		{"signed", "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\r\n" +
			"Content-Length: 66824\r\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n",
			"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + content[:65536] + "\r\n" +
				"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + content[65536:] + "\r\n" +
				"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"},
		{"with trailer", "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e\r\n" +
			"Transfer-Encoding: chunked\r\nx-amz-trailer: x-amz-checksum-crc32c\r\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\r\n",
			"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + content[:65536] + "\r\n" +
				"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + content[65536:] + "\r\n" +
				"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
				"x-amz-checksum-crc32c:sOO8/Q==\r\n" +
				"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"},
	} {
		t.Run(example.name, func(t *testing.T) {
			body := example.framed
			if strings.Contains(example.header, "Transfer-Encoding") {
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}
			r := parseRequest(t, []byte("PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\n"+
				"x-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\ncontent-encoding: aws-chunked\r\n"+
				"x-amz-decoded-content-length: 66560\r\n"+example.header+"\r\n"+body))
			if _, err := verifier.Verify(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			got, err := ReadBody(r)
			if err != nil || string(got) != content {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if r.ContentLength != 66560 || r.Header.Get("Content-Encoding") != "" {
				t.Errorf("length %d, encoding %q", r.ContentLength, r.Header.Get("Content-Encoding"))
			}
		})
	}
}

// frame writes body as aws-chunked, signed after the signature last unless that
// is empty.
func frame(chunks [][]byte, last string, trailer string) []byte {
	s := scope{testNow.Format(dayFormat), "us-east-1", "lambda", "aws4_request"}
	key := deriveKey(testSecret, s)
	link := func(kind, rest string) string {
		last = hex.EncodeToString(key.sign([]byte(kind + "\n" + testNow.Format(timeFormat) + "\n" + s.String() + "\n" + last + "\n" + rest)))
		return last
	}
	signed := last != ""
	var out bytes.Buffer
	for _, chunk := range append(chunks, nil) {
		fmt.Fprintf(&out, "%x", len(chunk))
		if signed {
			out.WriteString(";chunk-signature=" + link(algorithm+"-PAYLOAD", emptyHash+"\n"+hashOf(chunk)))
		}
		out.WriteString("\r\n")
		if len(chunk) > 0 {
			out.Write(chunk)
			out.WriteString("\r\n")
		}
	}
	if trailer != "" {
		out.WriteString(trailer + "\r\n")
		if signed {
			out.WriteString("x-amz-trailer-signature:" + link(algorithm+"-TRAILER", hashOf([]byte(trailer+"\n"))) + "\r\n")
		}
	}
	out.WriteString("\r\n")
	return out.Bytes()
}

// chunkedRequest signs the head of a request with a chunked payload; body makes
// the payload from the head's signature.
func chunkedRequest(t interface{ Fatal(...any) }, kind string, decoded int, trailer bool, body func(signature string) []byte) *http.Request {
	r, err := http.NewRequest("POST", "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Content-Sha256", kind)
	r.Header.Set("Content-Encoding", "aws-chunked")
	r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(decoded))
	if trailer {
		r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
	}
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials, r, kind, "lambda", "us-east-1", testNow); err != nil {
		t.Fatal(err)
	}
	_, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	data := body(signature)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	return overTheWire(t, r)
}

func crcTrailer(data []byte) string {
	sum := crc32.ChecksumIEEE(data)
	return "x-amz-checksum-crc32:" + base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

func TestChunkedBodies(t *testing.T) {
	verifier := newTestVerifier()
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{streamSigned, streamSignedTrailer, streamUnsignedTrailer}).Draw(t, "kind")
		chunks := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 5000), 0, 5).Draw(t, "chunks")
		data := bytes.Join(chunks, nil)
		withTrailer := kind == streamSignedTrailer || kind == streamUnsignedTrailer && rapid.Bool().Draw(t, "trailer")
		spoil := rapid.SampledFrom([]string{"", "flip", "cut", "extend"}).Draw(t, "spoil")
		r := chunkedRequest(t, kind, len(data), withTrailer, func(signature string) []byte {
			if kind == streamUnsignedTrailer {
				signature = ""
			}
			trailer := ""
			if withTrailer {
				trailer = crcTrailer(data)
			}
			framed := frame(chunks, signature, trailer)
			switch spoil {
			case "flip":
				framed[rapid.IntRange(0, len(framed)-1).Draw(t, "byte")] ^= 0x40
			case "cut":
				framed = framed[:rapid.IntRange(0, len(framed)-1).Draw(t, "length")]
			case "extend":
				framed = append(framed, '\n')
			}
			return framed
		})
		var got []byte
		_, err := verifier.Verify(t.Context(), r)
		if err == nil {
			got, err = ReadBody(r)
		}
		switch {
		case spoil == "":
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
			}
		case spoil == "flip" && kind == streamUnsignedTrailer && !withTrailer:
			// Nothing covers these bytes, so they may pass; never longer ones.
			if err == nil && len(got) != len(data) {
				t.Fatalf("%d bytes, want %d", len(got), len(data))
			}
		case err == nil:
			t.Fatalf("%s went unnoticed", spoil)
		}
	})
}

// TestNothingOfABadBodyIsReturned: neither what came before the bad chunk, nor
// from a reader that others may hold.
func TestNothingOfABadBodyIsReturned(t *testing.T) {
	secret := bytes.Repeat([]byte("x"), 3000)
	r := chunkedRequest(t, streamSigned, 6000, false, func(signature string) []byte {
		framed := frame([][]byte{secret, bytes.Repeat([]byte("y"), 3000)}, signature, "")
		return bytes.Replace(framed, []byte("yyy"), []byte("yzy"), 1)
	})
	if _, err := newTestVerifier().Verify(t.Context(), r); codeOf(err) != InvalidSignature {
		t.Errorf("%v; want a rejection", err)
	}
	if data, err := ReadBody(r); err == nil || len(data) > 0 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if n, again := r.Body.Read(make([]byte, 1)); n != 0 || again == nil || again == io.EOF {
		t.Errorf("reading on gives %d, %v", n, again)
	}
}

func TestChunkedBodyErrors(t *testing.T) {
	sum := sha256.Sum256([]byte("data"))
	for _, test := range []struct {
		name, kind, trailer, body string
		kindOf                    thaw.Kind
	}{
		{"size", streamUnsignedTrailer, "", "zz\r\n", thaw.Invalid},
		{"negative", streamUnsignedTrailer, "", "-1\r\n", thaw.Invalid},
		{"long line", streamUnsignedTrailer, "", strings.Repeat("0", 5000), thaw.Invalid},
		{"more than promised", streamUnsignedTrailer, "", "5\r\nhello\r\n0\r\n\r\n", thaw.Invalid},
		{"less than promised", streamUnsignedTrailer, "", "3\r\nhel\r\n0\r\n\r\n", thaw.Invalid},
		{"chunk longer than its header", streamUnsignedTrailer, "", "3\r\ndata\r\n0\r\n\r\n", thaw.Invalid},
		{"signature where none belongs", streamUnsignedTrailer, "", "4;chunk-signature=00\r\ndata\r\n0\r\n\r\n", thaw.Invalid},
		{"no signature", streamSigned, "", "4\r\ndata\r\n0\r\n\r\n", thaw.Invalid},
		{"undeclared trailer", streamUnsignedTrailer, "", "4\r\ndata\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", thaw.Invalid},
		{"wrong checksum", streamUnsignedTrailer, "x-amz-checksum-sha256", "4\r\ndata\r\n0\r\nx-amz-checksum-sha256:" +
			base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\r\n\r\n", thaw.Invalid},
		{"missing trailer", streamUnsignedTrailer, "x-amz-checksum-sha256", "4\r\ndata\r\n0\r\n\r\n", thaw.Invalid},
		{"many trailers", streamUnsignedTrailer, "", "4\r\ndata\r\n0\r\n" + strings.Repeat("a:b\r\n", 100), thaw.Invalid},
		{"right checksum", streamUnsignedTrailer, "x-amz-checksum-sha256", "4\r\ndata\r\n0\r\nx-amz-checksum-sha256:" +
			base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n", thaw.Internal},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest("POST", "http://localhost/", strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Amz-Content-Sha256", test.kind)
			r.Header.Set("X-Amz-Decoded-Content-Length", "4")
			if test.trailer != "" {
				r.Header.Set("X-Amz-Trailer", test.trailer)
			}
			credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
			if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, test.kind, "lambda", "us-east-1", testNow); err != nil {
				t.Fatal(err)
			}
			var data []byte
			_, err = newTestVerifier().Verify(t.Context(), r)
			if err == nil {
				data, err = ReadBody(r)
			}
			if good := test.kindOf == thaw.Internal; good != (err == nil) || !good && thaw.KindOf(err) != test.kindOf {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}

// TestChecksums holds the check values of the CRC catalogue for "123456789".
func TestChecksums(t *testing.T) {
	for header, want := range map[string]string{
		"x-amz-checksum-crc32":     "cbf43926",
		"x-amz-checksum-crc32c":    "e3069283",
		"x-amz-checksum-crc64nvme": "ae8b14860a799888",
		"x-amz-checksum-sha1":      "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
		"x-amz-checksum-sha256":    "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	} {
		sum, ok := newChecksum(header)
		if !ok {
			t.Fatal(header)
		}
		sum.hash.Write([]byte("123456789"))
		if got := hex.EncodeToString(sum.hash.Sum(nil)); got != want {
			t.Errorf("%s is %s, want %s", header, got, want)
		}
	}
}

func FuzzChunkedBody(f *testing.F) {
	f.Add([]byte("4\r\ndata\r\n0\r\nx-amz-checksum-crc32:rfOYYw==\r\n\r\n"))
	f.Add([]byte("4;chunk-signature=00\r\ndata\r\n0;chunk-signature=00\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := http.NewRequest("POST", "http://localhost/", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Decoded-Content-Length", "4")
		r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		chunks, err := newChunkReader(r, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		chunks.trailers = true
		got, err := io.ReadAll(chunks)
		if len(got) > 4 || err == nil && (len(got) != 4 || !bytes.Contains(data, []byte(strings.TrimPrefix(crcTrailer(got), "x-amz-checksum-crc32:")))) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}
