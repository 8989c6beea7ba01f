// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"thaw.dev/thaw/internal/livetest"
)

// layer is a layer as it is pushed.
type layer struct {
	data           []byte // gzip
	digest, diffID string
}

// makeLayer makes a layer of what entries writes.
func makeLayer(entries func(*tar.Writer) error) (layer, error) {
	var data bytes.Buffer
	plain := sha256.New()
	compressor, err := gzip.NewWriterLevel(&data, gzip.BestSpeed)
	if err != nil {
		return layer{}, err
	}
	w := tar.NewWriter(io.MultiWriter(compressor, plain))
	if err := entries(w); err != nil {
		return layer{}, err
	}
	if err := w.Close(); err != nil {
		return layer{}, err
	}
	if err := compressor.Close(); err != nil {
		return layer{}, err
	}
	return layer{data.Bytes(), digest(data.Bytes()), "sha256:" + hex.EncodeToString(plain.Sum(nil))}, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// file adds a file to a layer.
func file(w *tar.Writer, name string, mode int64, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// programLayer holds the abusers' function.
func programLayer(path string) (layer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return layer{}, err
	}
	return makeLayer(func(w *tar.Writer) error { return file(w, "program", 0o755, text) })
}

// randomLayer holds a file of bytes that no other layer has.
func randomLayer(name string, size int) (layer, error) {
	content := make([]byte, size)
	_, _ = rand.Read(content) // never fails
	return makeLayer(func(w *tar.Writer) error { return file(w, name, 0o644, content) })
}

// bombs are layers that are small as they are pushed, and large in another way.
var bombs = map[string]func() (layer, error){
	// Empty files whose attributes are 60 KB each.
	"xattrs": sync.OnceValues(func() (layer, error) {
		value := strings.Repeat("x", 60_000)
		return makeLayer(func(w *tar.Writer) error {
			for i := range 16_000 {
				h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("x/%d", i), Mode: 0o644,
					PAXRecords: map[string]string{"SCHILY.xattr.user.x": fmt.Sprint(i, value)}}
				if err := w.WriteHeader(h); err != nil {
					return err
				}
			}
			return nil
		})
	}),
	// Symbolic links to names of 4,000 bytes.
	"links": sync.OnceValues(func() (layer, error) {
		return makeLayer(func(w *tar.Writer) error {
			for i := range 150_000 {
				h := &tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("l/%d/%d", i/1000, i), Mode: 0o777,
					Linkname: fmt.Sprintf("%08d", i) + strings.Repeat("/0123456", 499)}
				if err := w.WriteHeader(h); err != nil {
					return err
				}
			}
			return nil
		})
	}),
	// Zeros, a thousand times as many as come over the wire.
	"zeros": sync.OnceValues(func() (layer, error) {
		zeros := make([]byte, 1<<20)
		return makeLayer(func(w *tar.Writer) error {
			const mb = 350
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: mb << 20}); err != nil {
				return err
			}
			for range mb {
				if _, err := w.Write(zeros); err != nil {
					return err
				}
			}
			return nil
		})
	}),
}

// registry is a tenant's way to a registry.
type registry struct {
	endpoint string
	creds    livetest.Credentials
}

// manifest describes an image of layers, and returns its configuration beside it.
func manifest(layers []layer) (text, config []byte, err error) {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	var diffs []string
	var descriptors []descriptor
	for _, l := range layers {
		diffs = append(diffs, l.diffID)
		descriptors = append(descriptors, descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", l.digest, len(l.data)})
	}
	config, err = json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		"config": map[string]any{"Entrypoint": []string{"/program"}}})
	if err != nil {
		return nil, nil, err
	}
	text, err = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "layers": descriptors,
		"config": descriptor{"application/vnd.oci.image.config.v1+json", digest(config), len(config)}})
	return text, config, err
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// push pushes an image of layers as REPOSITORY:v1, and returns its reference.
func (r registry) push(ctx context.Context, repository string, layers ...layer) (string, error) {
	text, config, err := manifest(layers)
	if err != nil {
		return "", err
	}
	blobs := [][]byte{config}
	for _, l := range layers {
		blobs = append(blobs, l.data)
	}
	for _, b := range blobs {
		if err := r.upload(ctx, repository, b); err != nil {
			return "", err
		}
	}
	if _, err := r.do(ctx, "PUT", "/v2/"+repository+"/manifests/v1", manifestType, text); err != nil {
		return "", err
	}
	return "/" + repository + ":v1", nil
}

// upload pushes one blob.
func (r registry) upload(ctx context.Context, repository string, data []byte) error {
	begun, err := r.do(ctx, "POST", "/v2/"+repository+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	at, err := url.Parse(begun.Get("Location"))
	if err != nil {
		return err
	}
	query := at.Query()
	query.Set("digest", digest(data))
	_, err = r.do(ctx, "PUT", at.Path+"?"+query.Encode(), "application/octet-stream", data)
	return err
}

// do makes one request; an answer of 400 and above is an error.
func (r registry) do(ctx context.Context, method, path, contentType string, body []byte) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.SetBasicAuth(r.creds.AccessKey, r.creds.Secret)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return response.Header, err
}
