// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store"
)

// marker is what must be found nowhere.
const marker = "<<this-marker-is-in-no-other-text-than-this-one>>"

// TestSealed has two tenants run the same image on a base that the operator
// has published. Of what is private in it nothing can be read in the origin and
// in the L1, and nothing is shared although it is equal; of the base each chunk
// is stored once for all.
func TestSealed(t *testing.T) {
	w := newWorld(t, "--publishers", "default")
	ctx := t.Context()
	base, private := basedImage(t)
	w.pushImage(base, "public/base:v1")
	w.create(ctx, "base", w.Registry()+"/public/base:v1")
	tenants := []*world{w.tenant("alice"), w.tenant("bob")}
	for _, tenant := range tenants {
		tenant.pushImage(private, "app:v1")
		client := tenant.create(ctx, "app", w.Registry()+"/app:v1")
		for _, file := range []string{"/app/small", "/app/large"} { // through the L1
			if got, failed := invoke(ctx, t, client, "app", fmt.Sprintf(`{"find":%q,"in":%q}`, marker, file)); failed != "" || got != "true" {
				t.Fatalf("the marker in %s: %s %s", file, failed, got)
			}
		}
	}
	images := []thaw.ImageID{w.image("default", "base"), w.image("alice", "app"), w.image("bob", "app")}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	defer func() { // for the world's own end
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	origin, err := store.OpenShared(filepath.Join(w.Data, "origin"))
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()

	var lists []chunks
	for _, id := range images {
		lists = append(lists, chunksOf(t, origin, id))
	}
	checkSharing(t, lists[0], lists[1], lists[2])

	l1 := contents(t, filepath.Join(w.Data, "l1"))
	cached := 0
	for name := range lists[1].private {
		sealed, err := origin.Get(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if holds(l1, sealed[:64]) {
			cached++
		}
	}
	if cached == 0 {
		t.Errorf("of %d private chunks the L1 holds none: the search looks in the wrong place", len(lists[1].private))
	}
	sealed, plain := append(l1, contents(t, filepath.Join(w.Data, "origin"))...), contents(t, filepath.Join(w.Data, "registry"))
	for what, needle := range encodings() {
		if !holds(plain, needle) {
			t.Errorf("%s: not found in the layer as it was pushed, which has it", what)
		}
		if holds(sealed, needle) {
			t.Errorf("%s: found in the origin or the L1", what)
		}
	}
}

// basedImage is a base and an image on it, with layers that are not compressed.
// The upper one has the marker in names, links and files, in every encoding.
func basedImage(t *testing.T) (base, private v1.Image) {
	t.Helper()
	below := testkit.NewTar(t)
	for i := range 40 {
		below.File(fmt.Sprintf("usr/share/small/%d", i), ingesttest.Noise(uint64(i), 3000+100*i))
	}
	below.File("usr/share/large", ingesttest.Noise(100, 3_000_000))
	above := testkit.NewTar(t).File("app/small", marker).File("app/large", ingesttest.Noise(101, 700_001)+marker+ingesttest.Noise(102, 600_000)).
		File("app/"+marker, "").Symlink("app/link", marker)
	for what, needle := range encodings() {
		above.File("app/"+what, string(needle))
	}
	base = appendLayer(t, builtImage(t, "probe:1"), below.Bytes(), ocitypes.OCIUncompressedLayer)
	return base, appendLayer(t, base, above.Bytes(), ocitypes.OCIUncompressedLayer)
}

// encodings are forms in which the marker could stand somewhere: at any bit of
// a byte, in hexadecimal, and in base64 at its three offsets.
func encodings() map[string][]byte {
	found := map[string][]byte{
		"raw": []byte(marker), "hex": []byte(hex.EncodeToString([]byte(marker))), "upper hex": []byte(strings.ToUpper(hex.EncodeToString([]byte(marker)))),
	}
	for bits := 1; bits < 8; bits++ {
		shifted := make([]byte, len(marker)-1) // the ends would hold bits of neighbours
		for i := range shifted {
			shifted[i] = marker[i]<<bits | marker[i+1]>>(8-bits)
		}
		found[fmt.Sprintf("shifted by %d", bits)] = shifted
	}
	for skip := range 3 {
		part := marker[skip:]
		found[fmt.Sprintf("base64 at %d", skip)] = []byte(base64.StdEncoding.EncodeToString([]byte(part[:len(part)/3*3])))
	}
	return found
}

// contents are the files below a folder.
func contents(t *testing.T, dir string) [][]byte {
	t.Helper()
	var all [][]byte
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all = append(all, data, []byte(path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func holds(hay [][]byte, needle []byte) bool {
	return slices.ContainsFunc(hay, func(h []byte) bool { return bytes.Contains(h, needle) })
}

// tenant is another tenant of the world's server.
func (w *world) tenant(name string) *world {
	w.t.Helper()
	creds, err := w.CreateTenant(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return &world{Server: w.Server, t: w.t, creds: creds}
}

// image is the id of the image that a function runs.
func (w *world) image(tenant, function string) thaw.ImageID {
	w.t.Helper()
	var report struct{ Image thaw.ImageID }
	if err := w.ThawJSON(w.t.Context(), &report, "image", "inspect", "--tenant", tenant, function); err != nil {
		w.t.Fatal(err)
	}
	return report.Image
}

// chunks are the stored chunks of an image by domain; data is true for the
// public ones that hold no metadata.
type chunks struct {
	public, data, private map[thaw.ChunkName]bool
	owner                 thaw.Domain
}

func chunksOf(t *testing.T, origin thaw.Objects, id thaw.ImageID) chunks {
	t.Helper()
	const blockBytes = 4096
	reader, err := manifest.Open(t.Context(), manifest.FromObjects(origin, id), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	head := reader.Head()
	c := chunks{map[thaw.ChunkName]bool{}, map[thaw.ChunkName]bool{}, map[thaw.ChunkName]bool{}, thaw.TenantDomain(head.Tenant)}
	for chunk, err := range reader.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		switch domain := head.Domains[chunk.Domain]; {
		case chunk.Name.IsZero():
		case domain == thaw.DomainPublic:
			c.public[chunk.Name] = true
			c.data[chunk.Name] = int64(chunk.Block)*blockBytes >= head.MetaBytes
		case domain == c.owner:
			c.private[chunk.Name] = true
		default:
			t.Errorf("image %s of %s has a chunk in the domain %q", id, head.Tenant, domain)
		}
	}
	return c
}

// checkSharing compares what two tenants' images have in common with each
// other, and with the base.
func checkSharing(t *testing.T, base, alice, bob chunks) {
	t.Helper()
	shared := 0
	for name, data := range base.data {
		if !data {
			continue // the base's own tree, which no image on it has
		}
		shared++
		if !alice.public[name] || !bob.public[name] {
			t.Errorf("chunk %s of the base is not in both images", name)
		}
	}
	if shared < 12 {
		t.Errorf("the base has only %d chunks", shared)
	}
	if len(alice.private) < 5 || len(alice.private) != len(bob.private) {
		t.Errorf("%d and %d private chunks of the same image", len(alice.private), len(bob.private))
	}
	for name := range alice.private {
		if bob.private[name] || bob.public[name] || base.public[name] || base.private[name] {
			t.Errorf("private chunk %s is another's, too", name)
		}
	}
}
