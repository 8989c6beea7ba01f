// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a layer is stored.
type Compression string

// The three forms of a layer that OCI knows.
const (
	Plain Compression = ""
	Gzip  Compression = "+gzip"
	Zstd  Compression = "+zstd"
)

const (
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	configType   = "application/vnd.oci.image.config.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

// Config is what the image says of how it is run.
type Config struct {
	Env        []string `json:"Env,omitempty"`
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
	WorkingDir string   `json:"WorkingDir,omitempty"`
}

// Descriptor is OCI's content descriptor.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	diffID      string
	plainBytes  int64
}

// PlainBytes is the size of the layer uncompressed.
func (d Descriptor) PlainBytes() int64 { return d.plainBytes }

// Layout is an OCI image layout on disk in which images share layers.
type Layout struct {
	dir   string
	index []Descriptor
}

// NewLayout makes an empty layout in dir.
func NewLayout(dir string) (*Layout, error) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
	return &Layout{dir: dir}, err
}

// AddLayer writes a layer, compressing and hashing as it goes.
func (l *Layout) AddLayer(ctx context.Context, layer Layer, c Compression) (Descriptor, error) {
	return l.add(c, func(w io.Writer) error { return layer.write(ctx, w) })
}

// AddTar writes a layer whose tar is there already.
func (l *Layout) AddTar(file string, c Compression) (Descriptor, error) {
	tar, err := os.Open(file)
	if err != nil {
		return Descriptor{}, err
	}
	defer tar.Close()
	return l.add(c, func(w io.Writer) error {
		_, err := io.Copy(w, tar)
		return err
	})
}

// add stores what write writes as a layer.
func (l *Layout) add(c Compression, write func(io.Writer) error) (Descriptor, error) {
	file, err := os.CreateTemp(l.dir, "layer-")
	if err != nil {
		return Descriptor{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	stored, plain := &meter{Hash: sha256.New()}, &meter{Hash: sha256.New()}
	buffered := bufio.NewWriterSize(io.MultiWriter(file, stored), 1<<20)
	compressor, err := c.writer(buffered)
	if err != nil {
		return Descriptor{}, err
	}
	if err := write(io.MultiWriter(compressor, plain)); err != nil {
		return Descriptor{}, err
	}
	if err := compressor.Close(); err != nil {
		return Descriptor{}, err
	}
	if err := buffered.Flush(); err != nil {
		return Descriptor{}, err
	}
	d := Descriptor{MediaType: layerType + string(c), Digest: stored.digest(), Size: stored.n, diffID: plain.digest(), plainBytes: plain.n}
	if err := file.Chmod(0o644); err != nil {
		return d, err
	}
	return d, os.Rename(file.Name(), l.blob(d.Digest))
}

func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	default:
		return nopCloser{w}, nil
	}
}

// AddImage writes an image of those layers, bottom first, under the tag.
func (l *Layout) AddImage(tag string, layers []Descriptor, config Config) error {
	diffIDs := make([]string, len(layers))
	for i, d := range layers {
		diffIDs[i] = d.diffID
	}
	configBlob, err := l.addJSON(configType, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": epoch, "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return err
	}
	manifest, err := l.addJSON(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": configBlob, "layers": layers,
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	l.index = append(l.index, manifest)
	text, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": l.index})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "index.json"), text, 0o644)
}

func (l *Layout) addJSON(mediaType string, v any) (Descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return Descriptor{}, err
	}
	m := &meter{Hash: sha256.New()}
	_, _ = m.Write(text)
	d := Descriptor{MediaType: mediaType, Digest: m.digest(), Size: m.n}
	return d, os.WriteFile(l.blob(d.Digest), text, 0o644)
}

func (l *Layout) blob(digest string) string {
	return filepath.Join(l.dir, "blobs", "sha256", digest[len("sha256:"):])
}

// meter hashes and counts what is written to it.
type meter struct {
	hash.Hash
	n int64
}

// Write never fails.
func (m *meter) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	return m.Hash.Write(p)
}

func (m *meter) digest() string { return "sha256:" + hex.EncodeToString(m.Sum(nil)) }

type nopCloser struct{ io.Writer }

// Close does nothing: the file below is closed by whoever opened it.
func (nopCloser) Close() error { return nil }
