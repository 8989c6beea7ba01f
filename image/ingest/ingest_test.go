// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// chunks returns the chunk list of an image.
func (w *world) chunks(t testing.TB, id thaw.ImageID) []manifest.Chunk {
	t.Helper()
	var all []manifest.Chunk
	for c, err := range ingesttest.Open(t, w, w.keys, id).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// layered is an image of three layers in which files are replaced and deleted,
// small and large.
func layered(t testing.TB) []testkit.Blob {
	base := testkit.NewTar(t).Dir("usr", 0o755).Dir("usr/lib", 0o755)
	for i := range 400 {
		base.File(fmt.Sprintf("usr/lib/pkg%d/mod%d.py", i%9, i), ingesttest.Noise(uint64(i), 100+i*53%9000))
	}
	base.File("usr/lib/big.so", ingesttest.Noise(1000, 1_300_000)).File("usr/lib/gone.so", ingesttest.Noise(1001, 700_000)).File("usr/lib/old", ingesttest.Noise(1002, 300))
	middle := testkit.NewTar(t).Whiteout("usr/lib/gone.so").File("usr/lib/old", ingesttest.Noise(1003, 400)).Dir("app", 0o755)
	for i := range 100 {
		middle.File(fmt.Sprintf("app/f%d", i), ingesttest.Noise(uint64(2000+i), 3000))
	}
	middle.File("app/model", ingesttest.Noise(3000, 2_000_000))
	top := testkit.NewTar(t).File("app/f1", "patched").File("app/model", ingesttest.Noise(3001, 900_000))
	return []testkit.Blob{testkit.GzipLayer(t, base.Bytes()), testkit.ZstdLayer(t, middle.Bytes()), testkit.PlainLayer(top.Bytes())}
}

// TestDeterminism ingests one image many times, in stores of their own, with
// few and many processors and with every way of waiting for a group, and wants
// the same chunks every time.
func TestDeterminism(t *testing.T) {
	blobs := layered(t)
	first := newWorld(t)
	r := first.mustRun(t, first.options(), private(blobs...)...)
	wantNames, wantChunks := first.names(t), first.chunks(t, r.Image)
	if r.Chunks != len(wantChunks) || r.NewChunks != len(wantNames) {
		t.Errorf("%d chunks, %d new: the manifest has %d and the store %d", r.Chunks, r.NewChunks, len(wantChunks), len(wantNames))
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	step := 1
	if testing.Short() {
		step = 5 // runs 0, 5, 10 and 15: each number of processors, both ways of waiting
	}
	for i := 0; i < 16; i += step {
		runtime.GOMAXPROCS([]int{1, 2, 8, 3}[i%4])
		w := first.fresh(t)
		o := w.options()
		o.Workers = []int{0, 1, 13}[i%3]
		if i >= 8 {
			o.HoldBytes, o.TempBytes = 1, int64(i%3)<<20
		}
		again := w.mustRun(t, o, private(blobs...)...)
		if !slices.Equal(w.chunks(t, again.Image), wantChunks) {
			t.Errorf("run %d: other chunks", i)
		}
		if !slices.Equal(w.names(t), wantNames) {
			t.Errorf("run %d: other names in the store", i)
		}
		again.Image = r.Image // has a data key of its own
		if !reflect.DeepEqual(again, r) {
			t.Errorf("run %d: %+v, first %+v", i, again, r)
		}
	}
}

// TestExtensions: what Lambda would start is known from the preparation.
func TestExtensions(t *testing.T) {
	w := newWorld(t)
	b := testkit.NewTar(t).Dir("opt/extensions/dir", 0o755).File("opt/extensions/readme", "x").Symlink("opt/extensions/link", "../agent")
	b.Add(tar.Header{Typeflag: tar.TypeReg, Name: "opt/extensions/agent", Mode: 0o755}, "#!/bin/sh")
	b.Add(tar.Header{Typeflag: tar.TypeReg, Name: "opt/extensions/gone", Mode: 0o755}, "#!/bin/sh")
	upper := testkit.NewTar(t).Whiteout("opt/extensions/gone")
	r := w.mustRun(t, w.options(), private(testkit.PlainLayer(b.Bytes()), testkit.PlainLayer(upper.Bytes()))...)
	if !slices.Equal(r.Extensions, []string{"agent", "link"}) {
		t.Errorf("%q", r.Extensions)
	}
	r = w.mustRun(t, w.options(), private(testkit.PlainLayer(testkit.NewTar(t).File("opt/extensions", "a file").Bytes()))...)
	if r.Extensions != nil {
		t.Errorf("%q", r.Extensions)
	}
	r = w.mustRun(t, w.options(), private(layered(t)...)...)
	if r.Extensions != nil {
		t.Errorf("%q", r.Extensions)
	}
}

// TestOnlyWhatIsInTheImageIsStored shows that files which upper layers replace
// or delete leave no chunk.
func TestOnlyWhatIsInTheImageIsStored(t *testing.T) {
	w := newWorld(t)
	r := w.mustRun(t, w.options(), private(layered(t)...)...)
	stored := w.names(t)
	for _, c := range w.chunks(t, r.Image) {
		if i, ok := slices.BinarySearch(stored, c.Name.String()); ok {
			stored = slices.Delete(stored, i, i+1)
		}
	}
	if len(stored) > 0 {
		t.Errorf("%d chunks are stored that are not of the image", len(stored))
	}
}

// TestTightHold has the small files find room neither in memory nor on disk, in
// an order that opens every group before it completes one.
func TestTightHold(t *testing.T) {
	type file struct{ name, content string }
	var files []file
	count := 600
	if testing.Short() {
		count = 200 // still twice what may be held
	}
	for i := range count {
		files = append(files, file{fmt.Sprintf("lib/p%d/q/r/s/t%d", i%40, i), ingesttest.Noise(uint64(i), 20_000+i*37)})
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	b := testkit.NewTar(t)
	for _, f := range files {
		b.File(f.name, f.content)
	}
	blob := testkit.GzipLayer(t, b.Bytes())
	roomy := newWorld(t)
	want := roomy.mustRun(t, roomy.options(), private(blob)...)
	tight := roomy.fresh(t)
	o := tight.options()
	o.HoldBytes, o.TempBytes = 1<<20, 2<<20
	var last ingest.Progress
	o.Progress = func(p ingest.Progress) { last = p }
	r := tight.mustRun(t, o, private(blob)...)
	if !slices.Equal(roomy.chunks(t, want.Image), tight.chunks(t, r.Image)) {
		t.Error("other chunks")
	}
	if last.ReadBytes < 2*int64(len(blob.Data)) {
		t.Errorf("%d bytes read of a layer of %d: it was not read again, the test tests nothing", last.ReadBytes, len(blob.Data))
	}
	report(t, ingesttest.Diff(tight.mounted(t, r.Image), roomy.mounted(t, want.Image), nil))
	emptyDir(t, tight.temp)
}

// TestMistakenShadow has files look replaced by an upper layer which are not:
// large and small ones are then read again.
func TestMistakenShadow(t *testing.T) {
	check := func(blobs []testkit.Blob) {
		t.Helper()
		want := umoci(t, blobs...)
		w := newWorld(t)
		r := w.mustRun(t, w.options(), private(blobs...)...)
		got := w.mounted(t, r.Image)
		forgetUnsaid(got, want)
		report(t, ingesttest.Diff(got, want, added(want)))
	}
	// The top layer deletes the link by which the base named its files.
	base := testkit.NewTar(t).Dir("real", 0o755).Symlink("s", "real").File("s/large", ingesttest.Noise(1, 600_000)).File("s/small", "s").Bytes()
	top := testkit.NewTar(t).Whiteout("s").Bytes()
	check([]testkit.Blob{testkit.PlainLayer(base), testkit.GzipLayer(t, top)})
	// The top layer replaces the folder of files that it has given other names.
	base = testkit.NewTar(t).Dir("b", 0o755).Dir("x", 0o755).File("x/large", ingesttest.Noise(3, 800_000)).File("x/small", "small").Bytes()
	top = testkit.NewTar(t).Add(tar.Header{Typeflag: tar.TypeLink, Name: "kept", Linkname: "x/large"}, "").
		Add(tar.Header{Typeflag: tar.TypeLink, Name: "kept2", Linkname: "x/small"}, "").Symlink("x", "b").Bytes()
	check([]testkit.Blob{testkit.PlainLayer(base), testkit.PlainLayer(top)})
}

// TestDomains shows that two tenants share every chunk of a published base and
// none of what is private, and that one domain for all shares everything.
func TestDomains(t *testing.T) {
	blobs := layered(t)
	w := newWorld(t)
	layers := private(blobs...)
	layers[0].Public = true
	for i := range layers[1:] {
		layers[1+i].Public = false
	}
	b := w.options()
	b.Tenant = tenantB
	ra, rb := w.mustRun(t, w.options(), layers...), w.mustRun(t, b, layers...)
	domain := map[thaw.ChunkName]uint8{}
	public := 0
	for _, c := range w.chunks(t, ra.Image) {
		domain[c.Name] = c.Domain
		if c.Domain == 0 {
			public++
		}
	}
	shared := 0
	for _, c := range w.chunks(t, rb.Image) {
		d, both := domain[c.Name]
		switch {
		case both && (d != 0 || c.Domain != 0):
			t.Errorf("the chunk at block %d is private and both tenants have it", c.Block)
		case !both && c.Domain == 0:
			t.Errorf("the public chunk at block %d is not shared", c.Block)
		case both:
			shared++
		}
	}
	if public == 0 || shared != public || public == ra.Chunks || rb.SharedChunks != shared {
		t.Errorf("%d public chunks of %d, %d shared, %d said to be", public, ra.Chunks, shared, rb.SharedChunks)
	}

	one := w.fresh(t)
	oa, ob := one.options(), one.options()
	oa.OneDomain, ob.OneDomain, ob.Tenant = true, true, tenantB
	one.mustRun(t, oa, private(blobs...)...)
	if r := one.mustRun(t, ob, private(blobs...)...); r.NewChunks != 0 || r.SharedChunks != r.Chunks-r.ZeroChunks {
		t.Errorf("with one domain the second tenant stored %d chunks", r.NewChunks)
	}
}

// TestRootsShareNothing shows that a root is part of every name.
func TestRootsShareNothing(t *testing.T) {
	w := newWorld(t)
	w.mustRun(t, w.options(), private(layered(t)...)...)
	o := w.options()
	o.Root = "root2"
	if r := w.mustRun(t, o, private(layered(t)...)...); r.SharedChunks != 0 {
		t.Errorf("%d chunks shared between two roots", r.SharedChunks)
	}
}

// TestSealedAtRest looks for a marker of the image in all that is stored.
func TestSealedAtRest(t *testing.T) {
	const marker = "THE-MARKER-OF-THIS-TEST-0123456789"
	data := testkit.NewTar(t).File("etc/"+marker, strings.Repeat(marker, 50)).Symlink("link", marker).
		File("usr/large", strings.Repeat("x", 4090)+marker+ingesttest.Noise(1, 1_000_000)+marker).
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "attr", PAXRecords: ingesttest.Xattrs("user.m", marker)}, "").Bytes()
	w := newWorld(t)
	w.mustRun(t, w.options(), private(testkit.PlainLayer(data))...)
	var hay [][]byte
	for info, err := range w.Chunks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := w.Get(t.Context(), info.Name)
		if err != nil {
			t.Fatal(err)
		}
		hay = append(hay, sealed)
	}
	for key, err := range w.ListObjects(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		object, err := w.ReadObject(t.Context(), key, 0, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		hay = append(hay, object)
	}
	if len(hay) < 5 {
		t.Fatalf("only %d things are stored", len(hay))
	}
	for skip := range 3 { // base64 has three alignments
		part := marker[skip : skip+24]
		for _, needle := range []string{part, hex.EncodeToString([]byte(part)), base64.StdEncoding.EncodeToString([]byte(part))} {
			for _, h := range hay {
				if bytes.Contains(h, []byte(needle)) {
					t.Errorf("%q is in what is stored", needle)
				}
			}
		}
	}
}

// TestUpdateOfOneFile shows what an update of one file stores: that file's
// group, and the metadata.
func TestUpdateOfOneFile(t *testing.T) {
	image := func(patch string) testkit.Blob {
		b := testkit.NewTar(t)
		for i := range 1500 {
			content := ingesttest.Noise(uint64(i), 500+i*71%8000)
			if i == 777 {
				content = patch + content
			}
			b.File(fmt.Sprintf("srv/app/node_modules/m%d/f%d.js", i%60, i), content)
		}
		return testkit.GzipLayer(t, b.File("srv/large", ingesttest.Noise(9999, 5_000_000)).Bytes())
	}
	w := newWorld(t)
	w.mustRun(t, w.options(), private(image(""))...)
	r := w.mustRun(t, w.options(), private(image("// one line\n"))...)
	meta := ingesttest.Open(t, w, w.keys, r.Image).Head().MetaBytes
	if most := meta + thaw.MaxChunkBytes; r.NewBytes > most {
		t.Errorf("%d new bytes, want at most the metadata and one group: %d", r.NewBytes, most)
	}
	if r.NewChunks == 0 {
		t.Error("nothing is new, the test tests nothing")
	}
}

// TestSameImageAgain stores no chunk.
func TestSameImageAgain(t *testing.T) {
	w := newWorld(t)
	first := w.mustRun(t, w.options(), private(layered(t)...)...)
	again := w.mustRun(t, w.options(), private(layered(t)...)...)
	if again.NewChunks != 0 || again.NewBytes != 0 || again.SharedChunks != first.Chunks-first.ZeroChunks {
		t.Errorf("the same image again: %+v", again)
	}
}

// TestProgress wants numbers that never fall and end at the truth.
func TestProgress(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	var all []ingest.Progress
	o.Progress = func(p ingest.Progress) { all = append(all, p) }
	blobs := layered(t)
	r := w.mustRun(t, o, private(blobs...)...)
	var total int64
	for _, b := range blobs {
		total += int64(len(b.Data))
	}
	last := all[len(all)-1]
	if last.ReadBytes != total || last.TotalBytes != total || last.NewChunks != r.NewChunks || last.NewBytes != r.NewBytes || last.Chunks != r.Chunks {
		t.Errorf("the last progress is %+v, the result %+v, the layers have %d bytes", last, r, total)
	}
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; b.ReadBytes < a.ReadBytes || b.Chunks < a.Chunks || b.NewBytes < a.NewBytes || b.TotalBytes < a.TotalBytes {
			t.Errorf("progress fell from %+v to %+v", a, b)
		}
	}
}

// TestHead checks what the manifest says of the whole.
func TestHead(t *testing.T) {
	data := testkit.NewTar(t).Dir("d", 0o755).File("d/a", "a").Link("d/b", "d/a").Symlink("d/c", "a").File("e", "").Bytes()
	w := newWorld(t)
	r := w.mustRun(t, w.options(), private(testkit.GzipLayer(t, data))...)
	h := ingesttest.Open(t, w, w.keys, r.Image).Head()
	// The directories are /, d and dev, etc, proc, sys, tmp; the files d/a, e,
	// etc/hosts, etc/resolv.conf, etc/passwd and etc/group.
	if h.Files != 6 || h.Dirs != 7 || h.Links != 2 || h.LayerBytes != int64(len(data)) || h.SourceDigest != "sha256:feed" || h.Tenant != tenantA || h.Root != "root1" {
		t.Errorf("head %+v", h)
	}
	if h.ImageBytes != r.ImageBytes || r.Files != 6 || r.LayerBytes != int64(len(data)) {
		t.Errorf("result %+v", r)
	}
}
