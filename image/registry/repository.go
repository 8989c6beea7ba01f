// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

// Mutability says which tags of a repository may be moved to another manifest,
// in ECR's words.
type Mutability string

// The mutabilities. With exclusion, the tags that a filter matches are the
// other way round.
const (
	Mutable              Mutability = "MUTABLE"
	Immutable            Mutability = "IMMUTABLE"
	MutableExcluding     Mutability = "MUTABLE_WITH_EXCLUSION"
	ImmutableExcluding   Mutability = "IMMUTABLE_WITH_EXCLUSION"
	maxMutabilityFilters            = 5 // as in ECR
	maxLabels                       = 50
)

// Settings are what the owner of a repository may change. The zero value is
// that of a repository that its first push made.
type Settings struct {
	Mutability Mutability        `json:"mutability,omitempty"` // "" is Mutable
	Filters    []string          `json:"filters,omitempty"`    // of tags, "*" matches anything
	ScanOnPush bool              `json:"scanOnPush,omitempty"` // kept for ECR's clients; nothing scans
	Labels     map[string]string `json:"labels,omitempty"`     // ECR's resource tags
}

// Validate refuses settings that contradict themselves, with [thaw.Invalid].
func (s Settings) Validate() error {
	const op = "registry: settings"
	switch s.Mutability {
	case "", Mutable, Immutable:
		if len(s.Filters) > 0 {
			return thaw.Errorf(op, thaw.Invalid, "filters need a mutability WITH_EXCLUSION")
		}
	case MutableExcluding, ImmutableExcluding:
		if len(s.Filters) == 0 || len(s.Filters) > maxMutabilityFilters {
			return thaw.Errorf(op, thaw.Invalid, "%s needs 1 to %d filters", s.Mutability, maxMutabilityFilters)
		}
	default:
		return thaw.Errorf(op, thaw.Invalid, "%q is no tag mutability", clip(string(s.Mutability)))
	}
	for _, filter := range s.Filters {
		if !tagPattern.MatchString(strings.ReplaceAll(filter, "*", "a")) || strings.Count(filter, "*") > 2 {
			return thaw.Errorf(op, thaw.Invalid, "%q is not a filter of tags with at most two *", clip(filter))
		}
	}
	if len(s.Labels) > maxLabels {
		return thaw.Errorf(op, thaw.Invalid, "at most %d tags, not %d", maxLabels, len(s.Labels))
	}
	return nil
}

// frozen reports whether a tag that exists may not be moved.
func (s Settings) frozen(tag string) bool {
	matched := slices.ContainsFunc(s.Filters, func(filter string) bool {
		// Tags have no "/" and filters no other special character than "*".
		ok, err := path.Match(filter, tag)
		return ok && err == nil
	})
	switch s.Mutability {
	case Immutable, ImmutableExcluding:
		return !matched
	case MutableExcluding:
		return matched
	}
	return false
}

// Repository describes a repository that exists.
type Repository struct {
	Name     string    `json:"name"` // "public/" included
	Created  time.Time `json:"created"`
	Settings Settings  `json:"settings"`
}

// Describe returns the repository's settings, or NAME_UNKNOWN.
func (r *Repo) Describe() (Repository, error) {
	var desc Repository
	data, err := os.ReadFile(filepath.Join(r.dir, "repo.json"))
	if isNotExist(err) {
		return desc, r.unknown()
	}
	if err != nil {
		return desc, diskError("read "+r.name, err)
	}
	if err := json.Unmarshal(data, &desc); err != nil {
		return desc, thaw.Errorf("registry: read "+r.name, thaw.Corrupt, "repo.json: %w", err)
	}
	return desc, nil
}

// unknown is NAME_UNKNOWN, but where the repository's folder is there without its
// description, or the store is gone as a whole, it is [thaw.Lost].
func (r *Repo) unknown() error {
	if _, err := os.Lstat(filepath.Join(r.dir, "manifests")); err == nil {
		if _, err := os.Lstat(filepath.Join(r.dir, "repo.json")); err == nil {
			return refuse(CodeNameUnknown, "repository %q did not exist a moment ago", r.name) // made meanwhile, whole
		}
		return lost("the description of repository %q is gone", r.name)
	}
	if err := r.store.Check(); err != nil {
		return err
	}
	return refuse(CodeNameUnknown, "repository %q does not exist", r.name)
}

// exists returns nil or NAME_UNKNOWN.
func (r *Repo) exists() error {
	_, err := os.Stat(filepath.Join(r.dir, "repo.json"))
	if isNotExist(err) {
		return r.unknown()
	}
	return diskError("stat "+r.name, err)
}

// missing says what is missing: the repository, or code inside of it.
func (r *Repo) missing(code Code, format string, args ...any) error {
	if err := r.exists(); err != nil {
		return err
	}
	return refuse(code, format, args...)
}

// Create makes the repository, or fails with NAME_EXISTS.
func (w *Writer) Create(settings Settings) (Repository, error) {
	if err := settings.Validate(); err != nil {
		return Repository{}, err
	}
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	if err := w.exists(); err == nil {
		return Repository{}, refuse(CodeNameExists, "repository %q exists already", w.name)
	} else if CodeOf(err) != CodeNameUnknown {
		return Repository{}, err
	}
	if err := w.takeRepository(); err != nil {
		return Repository{}, err
	}
	made, err := w.createLocked(settings)
	if err != nil {
		w.giveRepository()
	}
	return made, err
}

// createLocked makes the folder elsewhere and renames it, so that a repository
// is there whole or not at all.
func (w *Writer) createLocked(settings Settings) (Repository, error) {
	desc := Repository{Name: w.name, Created: time.Now().UTC(), Settings: settings}
	data, err := json.Marshal(desc)
	if err != nil {
		return desc, thaw.Wrap("registry: create "+w.name, err)
	}
	if err := w.makeOwnerDirs(); err != nil {
		return desc, diskError("create "+w.name, err)
	}
	temp := w.store.disk.tempPath("repo")
	err = func() error {
		for _, dir := range append([]string{""}, folders...) {
			if err := os.Mkdir(filepath.Join(temp, dir), dirPerm); err != nil {
				return err
			}
		}
		if err := writeSynced(filepath.Join(temp, "repo.json"), [][]byte{data}); err != nil {
			return err
		}
		if err := syncDir(temp); err != nil {
			return err
		}
		if err := os.Rename(temp, w.dir); err != nil {
			return err
		}
		return syncDir(filepath.Dir(w.dir))
	}()
	if err != nil {
		return desc, diskError("create "+w.name, errors.Join(err, os.RemoveAll(temp)))
	}
	return desc, nil
}

func (w *Writer) makeOwnerDirs() error {
	lock := &w.store.locks.of(w.owner).folders
	lock.Lock()
	defer lock.Unlock()
	return errors.Join(makeDir(w.store.ownerDir(w.owner)), makeDir(w.store.blobsDir(w.owner)))
}

// folders are those of a repository.
var folders = []string{"blobs", "manifests", "tags", "referrers"}

// ensure makes the repository where it is missing: it comes with its first blob or
// manifest. A folder of it that is lost is made again, for what is pushed.
func (w *Writer) ensure() error {
	err := w.exists()
	if err == nil {
		for _, folder := range folders {
			err = errors.Join(err, makeDir(filepath.Join(w.dir, folder)))
		}
		err = errors.Join(err, makeDir(w.store.blobsDir(w.owner)))
		return diskError("mend "+w.name, err)
	}
	if CodeOf(err) != CodeNameUnknown {
		return err
	}
	if _, err := w.Create(Settings{}); err != nil && CodeOf(err) != CodeNameExists {
		return err
	}
	return nil
}

// Change replaces the settings by what edit makes of them and returns the
// result. edit may run while other requests wait; it must not call the store.
func (w *Writer) Change(edit func(*Settings) error) (Repository, error) {
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	desc, err := w.Describe()
	if err != nil {
		return desc, err
	}
	desc.Settings.Labels = maps.Clone(desc.Settings.Labels)
	if err := edit(&desc.Settings); err != nil {
		return desc, err
	}
	if err := desc.Settings.Validate(); err != nil {
		return desc, err
	}
	data, err := json.Marshal(desc)
	if err != nil {
		return desc, thaw.Wrap("registry: change "+w.name, err)
	}
	return desc, diskError("change "+w.name, w.store.disk.writeFile(filepath.Join(w.dir, "repo.json"), data))
}

// Delete removes the repository with all that is in it. Without force it
// refuses one that holds a manifest, with NAME_NOT_EMPTY.
func (w *Writer) Delete(force bool) (Repository, error) {
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	desc, err := w.Describe()
	if err != nil {
		return desc, err
	}
	if !force {
		manifests, err := w.manifestDigests()
		if err != nil {
			return desc, err
		}
		if len(manifests) > 0 {
			return desc, refuse(CodeNameNotEmpty, "repository %q holds %d manifests", w.name, len(manifests))
		}
	}
	blobs, err := w.Blobs()
	if err != nil {
		return desc, err
	}
	if err := w.store.uploads.dropAll(&w.Repo); err != nil {
		return desc, diskError("delete "+w.name, err)
	}
	trash := w.store.disk.tempPath("trash")
	if err := os.Rename(w.dir, trash); err != nil {
		return desc, diskError("delete "+w.name, err)
	}
	if err := syncDir(filepath.Dir(w.dir)); err != nil {
		return desc, diskError("delete "+w.name, err)
	}
	for _, h := range blobs {
		w.store.loose.note(bytesOf{w.owner, h})
	}
	w.giveRepository()
	return desc, nil
}

// Repositories lists the repositories of a tenant by name; for the anonymous
// identity, the public ones. A folder that is not a repository is passed over.
func (s *Store) Repositories(ctx context.Context, id Identity) ([]Repository, error) {
	owner := string(id.Tenant)
	if id.Anonymous() {
		owner = ownerPublic
	}
	return s.repositoriesOf(ctx, owner)
}

func (s *Store) repositoriesOf(ctx context.Context, owner string) ([]Repository, error) {
	entries, err := os.ReadDir(s.ownerDir(owner))
	if err != nil && !isNotExist(err) {
		return nil, diskError("list "+owner, err)
	}
	var all []Repository
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return nil, thaw.Wrap("registry: list "+owner, err)
		}
		desc, err := s.repo(owner, unescapeName(entry.Name())).Describe()
		if CodeOf(err) == CodeNameUnknown {
			continue // deleted meanwhile, or not a repository
		}
		if err != nil {
			return nil, err
		}
		all = append(all, desc)
	}
	slices.SortFunc(all, func(a, b Repository) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Blobs lists the digests of the repository's blobs, in no order.
func (r *Repo) Blobs() ([]v1.Hash, error) {
	return r.digestsIn("blobs")
}

func (r *Repo) manifestDigests() ([]v1.Hash, error) {
	return r.digestsIn("manifests")
}

// digestsIn lists a folder of files named by digest, ordered by name.
func (r *Repo) digestsIn(folder string) ([]v1.Hash, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, folder))
	if isNotExist(err) {
		return nil, r.exists()
	}
	if err != nil {
		return nil, diskError("list "+r.name, err)
	}
	digests := make([]v1.Hash, 0, len(entries))
	for _, entry := range entries {
		if h, ok := digestOfFile(entry.Name()); ok {
			digests = append(digests, h)
		}
	}
	return digests, nil
}
