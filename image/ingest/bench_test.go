// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store"
)

// benchBytes is how much the benchmark's layer holds, at most.
const benchBytes = 300 << 20

// toolchainTar is a layer of what a Go toolchain has: thousands of sources of a
// few KB, tools and libraries of many MB.
func toolchainTar(b testing.TB, path string) {
	b.Helper()
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	var size int64
	dir := strings.TrimSpace(string(root))
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if size += int64(len(data)) + 1024; size > benchBytes {
			return fs.SkipAll
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "usr/local/go/" + name, Mode: 0o755, Size: int64(len(data)), ModTime: testkit.Epoch}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// compressTo writes the file at from compressed to path and returns the layer.
func compressTo(b testing.TB, from, path string, wrap func(io.Writer) io.WriteCloser) ingest.Layer {
	b.Helper()
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	plain, stored := sha256.New(), sha256.New()
	w := wrap(io.MultiWriter(out, stored))
	if _, err := io.Copy(io.MultiWriter(w, plain), in); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := out.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return ingest.Layer{
		Digest: fmt.Sprintf("sha256:%x", stored.Sum(nil)), DiffID: fmt.Sprintf("sha256:%x", plain.Sum(nil)), Bytes: info.Size(),
		Open: func(context.Context) (io.ReadCloser, error) { return os.Open(path) },
	}
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// cpuTime is what this process has used of all processors.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIngest reports MB/s of uncompressed layer, into the durable store
// that a server has, the final sync included.
func BenchmarkIngest(b *testing.B) {
	dir := b.TempDir()
	path := filepath.Join(dir, "layer.tar")
	toolchainTar(b, path)
	forms := map[string]func(io.Writer) io.WriteCloser{
		"plain": func(w io.Writer) io.WriteCloser { return plainWriter{w} },
		"gzip":  func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				b.Fatal(err)
			}
			return z
		},
	}
	for _, form := range []string{"plain", "gzip", "zstd"} {
		b.Run(form, func(b *testing.B) {
			layer := compressTo(b, path, filepath.Join(dir, form), forms[form])
			w := newWorld(b)
			var cpu time.Duration
			var read int64
			for b.Loop() {
				b.StopTimer()
				d, err := store.OpenDir(filepath.Join(b.TempDir(), "origin"))
				if err != nil {
					b.Fatal(err)
				}
				o := w.options()
				o.Sink, o.Objects = d, d
				before := cpuTime(b)
				b.StartTimer()
				r, err := ingest.Run(b.Context(), []ingest.Layer{layer}, "", o)
				if err != nil {
					b.Fatal(err)
				}
				cpu += cpuTime(b) - before
				read += r.LayerBytes
				b.SetBytes(r.LayerBytes)
				b.ReportMetric(float64(r.Chunks), "chunks")
				b.ReportMetric(cpu.Seconds()*1e9/float64(read), "cpu-ns/B")
				b.StopTimer()
				if err := d.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
