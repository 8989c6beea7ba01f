// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

// maxHeaderBytes bounds the line that precedes a stored manifest. An index of
// 4 MiB names some thirty thousand manifests.
const maxHeaderBytes = 4 << 20

// Manifest describes a manifest of a repository.
type Manifest struct {
	Digest       v1.Hash   `json:"-"`
	MediaType    string    `json:"mediaType"`
	Bytes        int64     `json:"bytes"`                  // of the manifest itself
	ImageBytes   int64     `json:"imageBytes"`             // of config and layers, as stored
	ArtifactType string    `json:"artifactType,omitempty"` // the config's media type where the manifest has none
	Subject      string    `json:"subject,omitempty"`      // digest
	Children     []string  `json:"children,omitempty"`     // digests that an index names
	Pushed       time.Time `json:"pushed"`                 // first

	path string
}

// Push is a manifest to store.
type Push struct {
	Data      []byte // at most [MaxManifestBytes]
	MediaType string // as the client says; "" where the manifest says it
	Digest    string // that the client expects, "" for none
	Tags      []string
}

// PutManifest stores a manifest and points the tags at it, durably and in this
// order. Everything it names must be in the repository (MANIFEST_BLOB_UNKNOWN
// else), but for its subject and for non-distributable layers. A tag that may
// not move is TAG_IMMUTABLE; then nothing is stored.
func (w *Writer) PutManifest(p Push) (Manifest, error) {
	if len(p.Data) > MaxManifestBytes {
		return Manifest{}, refuseAs(CodeManifestInvalid, thaw.TooLarge, "a manifest has at most %d bytes", MaxManifestBytes)
	}
	algorithm := "sha256"
	if p.Digest != "" {
		want, err := ParseDigest(p.Digest)
		if err != nil {
			return Manifest{}, err
		}
		algorithm = want.Algorithm
	}
	h, err := digestOf(algorithm, p.Data)
	if err != nil {
		return Manifest{}, err
	}
	if p.Digest != "" && h.String() != p.Digest {
		return Manifest{}, refuse(CodeDigestInvalid, "the manifest is %s, not %s", h, p.Digest)
	}
	for _, tag := range p.Tags {
		if !tagPattern.MatchString(tag) {
			return Manifest{}, refuse(CodeTagInvalid, "%q is not a tag", clip(tag))
		}
	}
	doc, err := parseManifest(p.MediaType, p.Data)
	if err != nil {
		return Manifest{}, err
	}
	if err := w.ensure(); err != nil {
		return Manifest{}, err
	}
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	return w.putLocked(p, h, doc)
}

func (w *Writer) putLocked(p Push, h v1.Hash, doc document) (Manifest, error) {
	repository, err := w.Describe()
	if err != nil {
		return Manifest{}, err
	}
	for _, tag := range p.Tags {
		if err := w.mayMove(repository.Settings, tag, h); err != nil {
			return Manifest{}, err
		}
	}
	if err := w.checkNamed(doc); err != nil {
		return Manifest{}, err
	}
	if err := w.takeManifest(h, p); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Digest: h, MediaType: doc.mediaType, Bytes: int64(len(p.Data)), ImageBytes: doc.bytes(), ArtifactType: doc.artifactType, Pushed: time.Now().UTC(), path: w.manifestPath(h)}
	for _, child := range doc.manifests {
		m.Children = append(m.Children, child.Digest.String())
	}
	if earlier, err := w.Manifest(h.String()); err == nil {
		m.Pushed = earlier.Pushed
	}
	if doc.subject != nil {
		m.Subject = doc.subject.Digest.String()
		if err := w.writeReferrer(m, doc); err != nil {
			return Manifest{}, err
		}
	}
	header, err := json.Marshal(m)
	if err != nil {
		return Manifest{}, thaw.Wrap("registry: store "+h.String(), err)
	}
	err = w.store.disk.writeFile(m.path, header, []byte{'\n'}, p.Data)
	w.store.indexes.note(&w.Repo, h, doc) // also of one that is there although that failed
	if err != nil {
		return Manifest{}, diskError("store "+h.String(), err)
	}
	if err := removeQuietly(deletedMark(m.path)); err != nil {
		return Manifest{}, diskError("store "+h.String(), err)
	}
	for _, tag := range p.Tags {
		if err := w.store.disk.writeFile(w.tagPath(tag), []byte(h.String())); err != nil {
			return Manifest{}, diskError("tag "+tag, err)
		}
	}
	return m, nil
}

// mayMove refuses to point a tag that settings freeze at another manifest.
func (w *Writer) mayMove(settings Settings, tag string, to v1.Hash) error {
	if !settings.frozen(tag) {
		return nil
	}
	from, err := w.Tag(tag)
	if CodeOf(err) == CodeManifestUnknown {
		return nil
	}
	if err != nil {
		return err
	}
	if from != to {
		return refuse(CodeTagImmutable, "The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the tag is immutable.", tag, w.name)
	}
	return nil
}

// checkNamed demands that what a manifest names is in the repository, with the
// size that the manifest says.
func (w *Writer) checkNamed(doc document) error {
	for _, d := range doc.blobs {
		n, err := w.StatBlob(d.Digest)
		if CodeOf(err) == CodeBlobUnknown {
			if d.elsewhere {
				continue
			}
			return refuse(CodeManifestBlobUnknown, "the repository has no blob %s", d.Digest)
		}
		if err != nil {
			return err
		}
		if n != d.Size {
			return invalidManifest("blob %s has %d bytes, the manifest says %d", d.Digest, n, d.Size)
		}
	}
	for _, d := range doc.manifests {
		m, err := w.Manifest(d.Digest.String())
		if CodeOf(err) == CodeManifestUnknown {
			return refuse(CodeManifestBlobUnknown, "the repository has no manifest %s", d.Digest)
		}
		if err != nil {
			return err
		}
		if m.Bytes != d.Size {
			return invalidManifest("manifest %s has %d bytes, the index says %d", d.Digest, m.Bytes, d.Size)
		}
	}
	return nil
}

// Manifest describes what a tag or digest stands for, or returns
// MANIFEST_UNKNOWN; DIGEST_INVALID is for a malformed digest. Of one that is lost
// it returns the digest too.
func (r *Repo) Manifest(tagOrDigest string) (Manifest, error) {
	var h v1.Hash
	var err error
	if isDigest(tagOrDigest) {
		h, err = ParseDigest(tagOrDigest)
	} else {
		h, err = r.Tag(tagOrDigest)
	}
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Digest: h, path: r.manifestPath(h)}
	header, _, err := m.read(false)
	if isNotExist(err) {
		return m, r.gone(m.path, h, CodeManifestUnknown, "repository %q has no manifest %s", r.name, h)
	}
	if err != nil {
		return Manifest{}, diskError("read "+h.String(), err)
	}
	if err := json.Unmarshal(header, &m); err != nil {
		return Manifest{}, thaw.Errorf("registry: read "+h.String(), thaw.Corrupt, "header: %w", err)
	}
	return m, nil
}

// ManifestData returns the manifest's bytes, checked against its digest
// ([thaw.Corrupt] where they are not it).
func (r *Repo) ManifestData(m Manifest) ([]byte, error) {
	_, data, err := m.read(true)
	if isNotExist(err) {
		return nil, r.gone(m.path, m.Digest, CodeManifestUnknown, "repository %q has no manifest %s", r.name, m.Digest)
	}
	if err != nil {
		return nil, diskError("read "+m.Digest.String(), err)
	}
	got, err := digestOf(m.Digest.Algorithm, data)
	if err != nil {
		return nil, err
	}
	if got != m.Digest {
		return nil, thaw.Errorf("registry: read "+m.Digest.String(), thaw.Corrupt, "the stored manifest is %s", got)
	}
	return data, nil
}

// read returns the line before a stored manifest and, if wanted, its bytes.
func (m Manifest) read(body bool) (header, data []byte, err error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // only read
	in := bufio.NewReader(io.LimitReader(f, maxHeaderBytes+MaxManifestBytes))
	if header, err = in.ReadBytes('\n'); err != nil {
		return nil, nil, err
	}
	if body {
		data, err = io.ReadAll(in)
	}
	return bytes.TrimSuffix(header, []byte{'\n'}), data, err
}

// Tag returns the digest that a tag stands for, or MANIFEST_UNKNOWN, also for
// what can't be a tag.
func (r *Repo) Tag(tag string) (v1.Hash, error) {
	if !tagPattern.MatchString(tag) {
		return v1.Hash{}, refuse(CodeManifestUnknown, "%q is not a tag", clip(tag))
	}
	data, err := os.ReadFile(r.tagPath(tag))
	if isNotExist(err) {
		return v1.Hash{}, r.missing(CodeManifestUnknown, "repository %q has no tag %q", r.name, tag)
	}
	if err != nil {
		return v1.Hash{}, diskError("read tag "+tag, err)
	}
	h, err := v1.NewHash(string(data))
	if err != nil {
		return v1.Hash{}, thaw.Errorf("registry: read tag "+tag, thaw.Corrupt, "%w", err)
	}
	return h, nil
}

// Tags lists the repository's tags that come after the given one, in bytewise
// order, at most limit of them; more says whether there are further ones.
func (r *Repo) Tags(after string, limit int) (tags []string, more bool, err error) {
	all, err := r.tagNames()
	if err != nil {
		return nil, false, err
	}
	start, found := slices.BinarySearch(all, after)
	if found {
		start++
	}
	rest := all[start:]
	if len(rest) > limit {
		return rest[:limit], true, nil
	}
	return rest, false, nil
}

func (r *Repo) tagNames() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, "tags"))
	if isNotExist(err) {
		return nil, r.exists()
	}
	if err != nil {
		return nil, diskError("list tags of "+r.name, err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// Image is a manifest with the tags that stand for it.
type Image struct {
	Manifest
	Tags []string
	Lost error // says that the manifest is lost; then only Digest and Tags are known
}

// Images lists the repository's manifests, ordered by digest, and among them those
// that only their tags are left of.
func (r *Repo) Images() ([]Image, error) {
	digests, err := r.manifestDigests()
	if err != nil {
		return nil, err
	}
	tags, err := r.tagsByDigest()
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(digests))
	for _, h := range digests {
		m, err := r.Manifest(h.String())
		if CodeOf(err) == CodeManifestUnknown {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		images = append(images, Image{Manifest: m, Tags: tags[h]})
		delete(tags, h)
	}
	for h, names := range tags {
		if m, err := r.Manifest(h.String()); PushMends(err) {
			images = append(images, Image{Manifest: m, Tags: names, Lost: err})
		}
	}
	slices.SortFunc(images, func(a, b Image) int { return cmp.Compare(a.Digest.String(), b.Digest.String()) })
	return images, nil
}

func (r *Repo) tagsByDigest() (map[v1.Hash][]string, error) {
	names, err := r.tagNames()
	if err != nil {
		return nil, err
	}
	tags := map[v1.Hash][]string{}
	for _, name := range names {
		h, err := r.Tag(name)
		if CodeOf(err) == CodeManifestUnknown {
			continue
		}
		if err != nil {
			return nil, err
		}
		tags[h] = append(tags[h], name)
	}
	return tags, nil
}

// DeleteTag removes a tag, not what it stands for.
func (w *Writer) DeleteTag(tag string) error {
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	if _, err := w.Tag(tag); err != nil {
		return err
	}
	if err := removeSynced(w.tagPath(tag)); err != nil {
		return diskError("delete tag "+tag, err)
	}
	w.giveManifest(0, 0, 1)
	return nil
}

// DeleteManifest removes a manifest and the tags that stand for it. Its blobs
// stay until they are deleted, or found unnamed by [Store.Clean].
func (w *Writer) DeleteManifest(h v1.Hash) error {
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	m, err := w.Manifest(h.String())
	if err != nil && !PushMends(err) {
		return err
	}
	tags, err := w.tagsByDigest()
	if err != nil {
		return err
	}
	for _, tag := range tags[h] {
		err = errors.Join(err, removeSynced(w.tagPath(tag)))
	}
	if err == nil {
		err = w.markDeleted(m.path, h) // an index may name it
	}
	if err == nil {
		err = removeSynced(m.path)
	}
	if err == nil {
		w.giveManifest(1, m.Bytes, int64(len(tags[h])))
	}
	// A listing passes over referrers that are gone, so this comes last.
	if err == nil && m.Subject != "" {
		err = w.removeReferrer(m)
	}
	return diskErrorKeepingKind("delete "+h.String(), err)
}

// IndexesNaming returns the digests of the repository's indexes that name h.
func (r *Repo) IndexesNaming(h v1.Hash) ([]v1.Hash, error) {
	images, err := r.Images()
	if err != nil {
		return nil, err
	}
	var found []v1.Hash
	for _, image := range images {
		if slices.Contains(image.Children, h.String()) {
			found = append(found, image.Digest)
		}
	}
	return found, nil
}

func (r *Repo) manifestPath(h v1.Hash) string {
	return filepath.Join(r.dir, "manifests", fileOfDigest(h))
}

func (r *Repo) tagPath(tag string) string { return filepath.Join(r.dir, "tags", tag) }
