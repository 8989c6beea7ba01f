// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

const (
	memoryFiles = 300_000
	memoryLimit = 512 << 20

	memoryChild = "THAW_TEST_MEMORY_CHILD" // set in the process that is measured
	memoryBytes = "THAW_TEST_MEMORY_BYTES" // of a file on average; the default keeps the test short
)

// TestMemory ingests an image of 300,000 files in a process of its own, which
// must never have more than 512 MiB resident. With THAW_TEST_MEMORY_BYTES=33000
// the image has 10 GB.
func TestMemory(t *testing.T) {
	if os.Getenv(memoryChild) != "" {
		ingestManyFiles(t)
		return
	}
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemory$", "-test.v")
	cmd.Env = append(os.Environ(), memoryChild+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func ingestManyFiles(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	size := 1200
	o.TempBytes = 64 << 20 // so that the layer must be read again
	if s := os.Getenv(memoryBytes); s != "" {
		var err error
		if size, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
		o.TempBytes = 0
	}
	h := sha256.New()
	n, err := io.Copy(h, manyFiles(size))
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("sha256:%x", h.Sum(nil))
	layer := ingest.Layer{Digest: digest, DiffID: digest, Bytes: n,
		Open: func(context.Context) (io.ReadCloser, error) { return manyFiles(size), nil }}
	sink := &countingSink{}
	o.Sink = sink
	read := int64(0)
	o.Progress = func(p ingest.Progress) { read = p.ReadBytes }
	r := w.mustRun(t, o, layer)
	peak := residentPeak(t)
	t.Logf("%d files, %d MB of layer read %.1f times, %d chunks, metadata and manifest included; peak %d MiB resident",
		r.Files, n/1e6, float64(read)/float64(n), r.Chunks, peak>>20)
	if peak > memoryLimit {
		t.Errorf("%d MiB resident, want at most %d", peak>>20, memoryLimit>>20)
	}
	if got := sink.puts.Load(); got != int64(r.NewChunks) {
		t.Errorf("%d chunks stored of %d", got, r.NewChunks)
	}
}

// manyFiles is a tar of memoryFiles files of about size bytes in folders of
// fifty, written as it is read.
func manyFiles(size int) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		w := tar.NewWriter(pw)
		content := []byte(ingesttest.Noise(1, 4*size))
		for i := range memoryFiles {
			n := size/2 + i*7919%size
			name := fmt.Sprintf("srv/application/node_modules/package-%d/lib/module-%d/file-number-%d.js", i/5000, i/50, i)
			binary.LittleEndian.PutUint32(content, uint32(i))
			if w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(n), ModTime: testkit.Epoch}) != nil {
				return // closed
			}
			if _, err := w.Write(content[:n]); err != nil {
				return
			}
		}
		_ = pw.CloseWithError(w.Close())
	}()
	return pr
}

// countingSink forgets what is put.
type countingSink struct{ puts atomic.Int64 }

func (s *countingSink) Has(context.Context, thaw.ChunkName) (bool, error) { return false, nil }

func (s *countingSink) Put(context.Context, thaw.NamedChunk) error {
	s.puts.Add(1)
	return nil
}

func (s *countingSink) Sync(context.Context) error { return nil }

// residentPeak is the most memory that this process ever had.
func residentPeak(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
