// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// fails runs an ingest that must fail with that kind and a message with all the
// words, and leave nothing behind.
func (w *world) fails(t *testing.T, o ingest.Options, layers []ingest.Layer, kind thaw.Kind, words ...string) {
	t.Helper()
	before := runtime.NumGoroutine()
	_, err := ingest.Run(t.Context(), layers, "", o)
	if thaw.KindOf(err) != kind || err == nil {
		t.Errorf("got %v (%v), want kind %v", err, thaw.KindOf(err), kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	w.nothingLeft(t, before)
}

func (w *world) nothingLeft(t *testing.T, goroutines int) {
	t.Helper()
	for range 100 { // goroutines of the runtime come and go
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	for key := range w.ListObjects(t.Context(), "") {
		t.Errorf("the object %s was left", key)
	}
	if n := len(w.names(t)); n > 0 {
		t.Errorf("%d chunks were made visible", n)
	}
	emptyDir(t, w.temp)
}

func good(t testing.TB) testkit.Blob {
	b := testkit.NewTar(t)
	for i := range 200 {
		b.File(fmt.Sprintf("f%d", i), ingesttest.Noise(uint64(i), 9000))
	}
	return testkit.GzipLayer(t, b.File("large", ingesttest.Noise(7, 3_000_000)).Bytes())
}

// TestCorruptLayers feeds layers that are not what was promised.
func TestCorruptLayers(t *testing.T) {
	blob := good(t)
	plain := testkit.PlainLayer(testkit.NewTar(t).File("f", ingesttest.Noise(1, 100_000)).Bytes())
	ok := ingesttest.Layer(testkit.PlainLayer(testkit.NewTar(t).File("ok", "ok").Bytes()), false)
	other := testkit.Digest([]byte("other"))
	change := func(b testkit.Blob, data []byte) ingest.Layer {
		l := ingesttest.Layer(b, false)
		l.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		return l
	}
	flipped := func(b testkit.Blob, at int) ingest.Layer {
		data := bytes.Clone(b.Data)
		data[at] ^= 4
		return change(b, data)
	}
	cases := map[string]ingest.Layer{
		"truncated gzip":               change(blob, blob.Data[:len(blob.Data)/2]),
		"truncated in the first bytes": change(blob, blob.Data[:5]),
		"nothing":                      change(blob, nil),
		"truncated tar":                change(plain, plain.Data[:len(plain.Data)/2]),
		"longer":                       change(blob, append(bytes.Clone(blob.Data), 0)),
		"a bit flipped early":          flipped(blob, 100),
		"a bit flipped late":           flipped(blob, len(blob.Data)-3),
		"a bit flipped in a file":      flipped(plain, 5000),
		"a bit flipped in a header":    flipped(plain, 150),
		"a bit flipped in padding":     flipped(plain, len(plain.Data)-1),
		"another layer":                change(blob, plain.Data),
	}
	wrongDigest := ingesttest.Layer(blob, false)
	wrongDigest.Digest = other
	cases["wrong digest"] = wrongDigest
	wrongDiffID := ingesttest.Layer(blob, false)
	wrongDiffID.DiffID = other
	cases["wrong diff id"] = wrongDiffID
	unknownSize := change(blob, blob.Data[:len(blob.Data)-1])
	unknownSize.Bytes = 0
	cases["unknown size, truncated"] = unknownSize
	for name, layer := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fails(t, w.options(), []ingest.Layer{ok, layer, ok}, thaw.Corrupt, layer.Digest)
		})
	}
}

// TestInvalidLayers feeds layers that are what was promised, and no good.
func TestInvalidLayers(t *testing.T) {
	entry := func(h tar.Header) testkit.Blob { return testkit.PlainLayer(testkit.NewTar(t).Add(h, "").Bytes()) }
	reg := byte(tar.TypeReg)
	whole := testkit.NewTar(t).File("f", ingesttest.Noise(1, 400_000)).Bytes()
	cut := testkit.GzipLayer(t, whole)
	cut.Data = cut.Data[:len(cut.Data)-20]
	cut.Digest = testkit.Digest(cut.Data)
	cases := []struct {
		name  string
		blob  testkit.Blob
		words string
	}{
		{"up and out", entry(tar.Header{Typeflag: reg, Name: "a/../../etc/passwd"}), `"a/../../etc/passwd" leaves the image`},
		{"only up", entry(tar.Header{Typeflag: tar.TypeDir, Name: "../"}), "leaves the image"},
		{"absolute and up", entry(tar.Header{Typeflag: reg, Name: "/../x"}), "leaves the image"},
		{"link out", entry(tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "../x"}), "leaves the image"},
		{"absolute link out", entry(tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "/../x"}), "leaves the image"},
		{"link to nothing", entry(tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "x"}), "does not exist"},
		{"link to itself", testkit.PlainLayer(testkit.NewTar(t).File("x", "x").Link("x", "x").Bytes()), "does not exist"},
		{"link to a directory", testkit.PlainLayer(testkit.NewTar(t).Dir("x", 0o755).Link("y", "x").Bytes()), "is a directory"},
		{"empty link", testkit.PlainLayer(emptyLink(t)), "empty or too long"},
		{"below a file", testkit.PlainLayer(testkit.NewTar(t).File("x", "x").File("x/y", "y").Bytes()), "not a directory"},
		{"circle", testkit.PlainLayer(testkit.NewTar(t).Symlink("a", "b").Symlink("b", "a").File("a/f", "f").Bytes()), "symbolic links"},
		{"unknown type", entry(tar.Header{Typeflag: 'V', Name: "volume"}), "type 'V'"},
		{"contiguous", entry(tar.Header{Typeflag: tar.TypeCont, Name: "c"}), "type '7'"},
		{"root is a file", entry(tar.Header{Typeflag: reg, Name: "."}), "root"},
		{"whiteout of nothing", entry(tar.Header{Typeflag: reg, Name: "a/.wh."}), "whiteout"},
		{"whiteout of the parent", entry(tar.Header{Typeflag: reg, Name: "a/.wh..."}), "whiteout"},
		{"long element", entry(tar.Header{Typeflag: reg, Name: strings.Repeat("n", 256)}), "255 bytes"},
		{"long name", entry(tar.Header{Typeflag: reg, Name: strings.Repeat("n/", 2049) + "n"}), "4095 bytes"},
		{"device", entry(tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 5000}), "device"},
		{"owner", entry(tar.Header{Typeflag: reg, Name: "o", Uid: 1<<32 - 1}), "owner"},
		{"large attribute", entry(tar.Header{Typeflag: reg, Name: "x", PAXRecords: ingesttest.Xattrs("user.a", strings.Repeat("v", 70_000))}), "attributes"},
		{"many attributes", entry(tar.Header{Typeflag: reg, Name: "x", PAXRecords: manyXattrs()}), "attributes"},
		{"bad acl", entry(tar.Header{Typeflag: reg, Name: "x", PAXRecords: ingesttest.Xattrs("system.posix_acl_access", "nonsense")}), "access control list"},
		{"not a tar", testkit.PlainLayer([]byte(strings.Repeat("this is not a tar. ", 100))), "tar"},
		{"tar cut in a file", testkit.GzipLayer(t, whole[:300_000]), `ends within an entry, in or behind entry "f"`},
		{"tar cut in a header", testkit.PlainLayer(whole[:300]), "ends within an entry, at its first entry"},
		{"gzip cut short", cut, "decompress"},
		{"bzip2", notPlain("BZh91AY&SY"), "bzip2"},
		{"xz", notPlain("\xfd7zXZ\x00"), "xz"},
		{"zstd nonsense", notPlain("\x28\xb5\x2f\xfdnonsense"), "decompress"},
		{"gzip nonsense", notPlain("\x1f\x8bnonsense"), "decompress"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.fails(t, w.options(), private(c.blob), thaw.Invalid, c.words)
		})
	}
}

// notPlain is a layer that can't be opened, and says so by its digests.
func notPlain(data string) testkit.Blob {
	b := testkit.PlainLayer([]byte(data))
	b.DiffID = testkit.Digest([]byte("inflated " + data))
	return b
}

func manyXattrs() map[string]string {
	records := map[string]string{}
	for i := range 300 {
		records[fmt.Sprintf("SCHILY.xattr.user.a%d", i)] = strings.Repeat("v", 250)
	}
	return records
}

// emptyLink is a symbolic link to "", which Go's writer makes and Linux
// refuses.
func emptyLink(t *testing.T) []byte {
	return testkit.NewTar(t).Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "l"}, "").Bytes()
}

// TestOptionsAndDigests refuses what can't work before anything is read.
func TestOptionsAndDigests(t *testing.T) {
	w := newWorld(t)
	blob := good(t)
	for name, change := range map[string]func(*ingest.Options, *ingest.Layer){
		"no sink":        func(o *ingest.Options, _ *ingest.Layer) { o.Sink = nil },
		"short master":   func(o *ingest.Options, _ *ingest.Layer) { o.SaltMaster = o.SaltMaster[:31] },
		"no root":        func(o *ingest.Options, _ *ingest.Layer) { o.Root = "" },
		"no tenant":      func(o *ingest.Options, _ *ingest.Layer) { o.Tenant = "me" },
		"no digest":      func(_ *ingest.Options, l *ingest.Layer) { l.Digest = "" },
		"no diff id":     func(_ *ingest.Options, l *ingest.Layer) { l.DiffID = "" },
		"unknown digest": func(_ *ingest.Options, l *ingest.Layer) { l.Digest = "md5:00" },
		"short digest":   func(_ *ingest.Options, l *ingest.Layer) { l.Digest = l.Digest[:70] },
		"no reader":      func(_ *ingest.Options, l *ingest.Layer) { l.Open = nil },
	} {
		t.Run(name, func(t *testing.T) {
			o, layers := w.options(), private(blob)
			change(&o, &layers[0])
			w.fails(t, o, layers, thaw.Invalid)
		})
	}
}

// TestTooLarge has images beyond the limit in each way, one a bomb.
func TestTooLarge(t *testing.T) {
	limit := 4 << 20
	if testing.Short() {
		limit = 1 << 20
	}
	bomb := testkit.GzipLayer(t, testkit.NewTar(t).File("zeros", strings.Repeat("\x00", 10*limit)).Bytes())
	tail := testkit.GzipLayer(t, append(testkit.NewTar(t).File("f", "f").Bytes(), make([]byte, 10*limit)...))
	half := func(name string) testkit.Blob {
		return testkit.GzipLayer(t, testkit.NewTar(t).File(name, ingesttest.Noise(1, limit*5/8)).Bytes())
	}
	plain := testkit.PlainLayer(testkit.NewTar(t).File("f", ingesttest.Noise(1, limit)).Bytes())
	entries := map[string]string{
		"bomb": fmt.Sprintf(`entry "zeros" of %d bytes goes beyond it`, 10*limit), "together": `entry "a" of `, "holes": `entry "`,
	}
	for name, blobs := range map[string][]testkit.Blob{
		"bomb": {bomb}, "bomb behind the tar": {tail}, "together": {half("a"), half("b")}, "plain": {plain},
		"holes": {testkit.PlainLayer(hugeHole())}, "zstd bomb": {testkit.ZstdLayer(t, make([]byte, 16*limit))},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := w.options()
			o.MaxBytes = int64(limit)
			layers := private(blobs...)
			w.fails(t, o, layers, thaw.TooLarge, fmt.Sprintf("Uncompressed container image size exceeds %d byte limit", limit), "layer "+layers[0].Digest+": ", entries[name])
		})
	}
	w := newWorld(t)
	huge := private(plain)
	huge[0].Bytes = thaw.MaxImageBytes + 1
	w.fails(t, w.options(), huge, thaw.TooLarge, "Uncompressed container image size exceeds 10 GiB limit")
}

// hugeHole is a tar of a few KB with a sparse file of 1 TiB, as GNU tar's PAX
// format 1.0 says it.
func hugeHole() []byte {
	var buf bytes.Buffer
	record := func(k, v string) string {
		for n := len(k) + len(v) + 3; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
				return s
			}
		}
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", fmt.Sprint(int64(1)<<40))
	header := func(name string, typ byte, size int) {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00", size))
		b[156] = typ
		copy(b[257:], "ustar\x0000")
		copy(b[148:], "        ")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		buf.Write(b)
	}
	padded := func(s string) { buf.WriteString(s); buf.Write(make([]byte, (512-len(s)%512)%512)) }
	header("pax", 'x', len(pax))
	padded(pax)
	header("hole", '0', 512)
	padded("1\n1099511627776\n0\n")
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}

// TestSourceErrors keeps the kind of what the layer's reader says.
func TestSourceErrors(t *testing.T) {
	blob := good(t)
	fail := func(err error) ingest.Layer {
		l := ingesttest.Layer(blob, false)
		l.Open = func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(blob.Data[:100_000]), errorReader{err})), nil
		}
		return l
	}
	w := newWorld(t)
	w.fails(t, w.options(), []ingest.Layer{fail(errors.New("connection reset"))}, thaw.Unavailable, blob.Digest, "connection reset")
	w.fails(t, w.options(), []ingest.Layer{fail(io.ErrUnexpectedEOF)}, thaw.Unavailable, blob.Digest)
	w.fails(t, w.options(), []ingest.Layer{fail(thaw.Errorf("registry", thaw.Denied, "no"))}, thaw.Denied, blob.Digest)
	l := ingesttest.Layer(blob, false)
	l.Open = func(context.Context) (io.ReadCloser, error) {
		return nil, thaw.Errorf("registry", thaw.NotFound, "no such blob")
	}
	w.fails(t, w.options(), []ingest.Layer{l}, thaw.NotFound, "no such blob")
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// brokenSink fails at the nth call of one of its methods.
type brokenSink struct {
	thaw.ChunkSink
	left atomic.Int64
	sync bool
}

var errDisk = thaw.Errorf("disk", thaw.Unavailable, "it is full")

func (s *brokenSink) Put(ctx context.Context, chunk thaw.NamedChunk) error {
	if s.left.Add(-1) < 0 {
		return errDisk
	}
	return s.ChunkSink.Put(ctx, chunk)
}

func (s *brokenSink) Sync(ctx context.Context) error {
	if s.sync {
		return errDisk
	}
	return s.ChunkSink.Sync(ctx)
}

// TestSinkErrors fails the store at every put and at the sync.
func TestSinkErrors(t *testing.T) {
	blob := good(t)
	w := newWorld(t)
	for _, n := range []int64{0, 1, 7, 15, 1000} {
		o := w.options()
		s := &brokenSink{ChunkSink: w.Mem, sync: n == 1000}
		s.left.Store(n)
		o.Sink = s
		w.fails(t, o, private(blob), thaw.Unavailable, "it is full")
		w.Mem = w.fresh(t).Mem
	}
}

// TestCancel ends an ingest at many moments, also while the layer's reader
// hangs, and wants it gone at once.
func TestCancel(t *testing.T) {
	blob := good(t)
	for _, after := range []int{0, 1000, 200_000, 1_000_000, len(blob.Data) - 1} {
		w := newWorld(t)
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		l := ingesttest.Layer(blob, false)
		l.Open = func(context.Context) (io.ReadCloser, error) {
			pr, pw := io.Pipe()
			hang := hangingReader{io.MultiReader(bytes.NewReader(blob.Data[:after]), pr), pr}
			time.AfterFunc(50*time.Millisecond, cancel)
			_ = pw // never written to: a Read hangs until Close
			return hang, nil
		}
		_, err := ingest.Run(ctx, []ingest.Layer{l}, "", w.options())
		if thaw.KindOf(err) != thaw.Canceled {
			t.Errorf("after %d bytes: %v", after, err)
		}
		w.nothingLeft(t, before)
		cancel()
	}
}

type hangingReader struct {
	io.Reader
	closer io.Closer
}

func (r hangingReader) Close() error { return r.closer.Close() }

// TestGzipOfManyKinds reads what compressors write beside the simple case.
func TestGzipOfManyKinds(t *testing.T) {
	data := testkit.NewTar(t).File("f", ingesttest.Noise(1, 700_000)).File("g", strings.Repeat("text ", 100_000)).Bytes()
	member := func(p []byte) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, _ = w.Write(p)
		_ = w.Close()
		return buf.Bytes()
	}
	join := bytes.Join
	for name, stored := range map[string][]byte{
		"members":          join([][]byte{member(data[:10]), member(nil), member(data[10:300_000]), member(data[300_000:])}, nil),
		"padded":           append(member(data), make([]byte, 10_000)...),
		"trailing garbage": append(member(data), "garbage that is no gzip"...),
		"members, padded":  join([][]byte{member(data[:99_999]), member(data[99_999:]), make([]byte, 511)}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			blob := testkit.Blob{Digest: testkit.Digest(stored), DiffID: testkit.Digest(data), Data: stored, MediaType: "application/vnd.docker.image.rootfs.diff.tar"}
			r := w.mustRun(t, w.options(), private(blob)...)
			plain := w.mustRun(t, w.options(), private(testkit.PlainLayer(data))...)
			if r.LayerBytes != int64(len(data)) || plain.NewChunks != 0 {
				t.Error("it is not read as the same layer uncompressed")
			}
		})
	}
}
