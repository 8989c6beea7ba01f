// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
)

// Referrer is the descriptor of a manifest whose subject is another one.
type Referrer struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// referrerIndex is the answer of the referrers API.
type referrerIndex struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	Manifests     []Referrer      `json:"manifests"`
}

// Referrers lists the manifests whose subject is h, which need not exist
// itself, in the order of their digests and beginning after the given one
// ("" for all). artifactType, if given, is the only kind wanted. The list ends
// before the annotations make it larger than a manifest may be; more says so.
func (r *Repo) Referrers(h v1.Hash, artifactType, after string) (list []Referrer, more bool, err error) {
	dir := r.referrersDir(h)
	entries, err := os.ReadDir(dir)
	if isNotExist(err) {
		return nil, false, r.exists()
	}
	if err != nil {
		return nil, false, diskError("list referrers of "+h.String(), err)
	}
	total := 0
	for _, entry := range entries {
		digest, ok := digestOfFile(entry.Name())
		if !ok || (after != "" && digest.String() <= after) {
			continue
		}
		if _, err := os.Stat(r.manifestPath(digest)); isNotExist(err) {
			continue // the manifest was being stored or deleted when a process died
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if isNotExist(err) {
			continue
		}
		if err != nil {
			return nil, false, diskError("read referrer "+digest.String(), err)
		}
		var referrer Referrer
		if err := json.Unmarshal(data, &referrer); err != nil {
			return nil, false, thaw.Errorf("registry: read referrer "+digest.String(), thaw.Corrupt, "%w", err)
		}
		if artifactType != "" && referrer.ArtifactType != artifactType {
			continue
		}
		if total += len(data); total > MaxManifestBytes && len(list) > 0 {
			return list, true, nil
		}
		list = append(list, referrer)
	}
	return list, false, nil
}

func (r *Repo) referrersDir(h v1.Hash) string {
	return filepath.Join(r.dir, "referrers", fileOfDigest(h))
}

func (w *Writer) writeReferrer(m Manifest, doc document) error {
	data, err := json.Marshal(Referrer{
		MediaType:    m.MediaType,
		Digest:       m.Digest.String(),
		Size:         m.Bytes,
		ArtifactType: m.ArtifactType,
		Annotations:  doc.annotations,
	})
	if err != nil {
		return thaw.Wrap("registry: refer to "+m.Subject, err)
	}
	dir := w.referrersDir(doc.subject.Digest)
	if err := makeDir(dir); err != nil {
		return diskError("refer to "+m.Subject, err)
	}
	return diskError("refer to "+m.Subject, w.store.disk.writeFile(filepath.Join(dir, fileOfDigest(m.Digest)), data))
}

// removeReferrer removes the entry, and the folder with its last one.
func (w *Writer) removeReferrer(m Manifest) error {
	subject, err := v1.NewHash(m.Subject)
	if err != nil {
		return err
	}
	dir := w.referrersDir(subject)
	if err := removeSynced(filepath.Join(dir, fileOfDigest(m.Digest))); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !isNotExist(err) {
		return err
	}
	return nil
}
