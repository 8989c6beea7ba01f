// SPDX-License-Identifier: Apache-2.0

// Package controltest holds what tests of the control plane and of its users
// share: a registry and an image maker in memory, which keep control.Images'
// promises.
package controltest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
)

// Image is what a reference names.
type Image struct {
	Content    string   // makes the digest
	Entrypoint []string // /entry if nil
	Command    []string
	Env        []string
	Dir        string
	Fails      error // what preparing it ends with
	Waits      bool  // preparing it says that it waits for the host
}

type ref struct {
	tenant thaw.TenantID
	text   string
}

// Images implements [control.Images]. It is safe for concurrent use.
type Images struct {
	mu       sync.Mutex
	byRef    map[ref]Image
	byPinned map[ref]Image
	errs     map[ref]error
	silent   map[ref]chan struct{} // closed once it was asked for
	gate     chan struct{}         // preparations wait until it is closed
	prepared map[string]int
}

var _ control.Images = (*Images)(nil)

// NewImages returns an empty registry.
func NewImages() *Images {
	open := make(chan struct{})
	close(open)
	return &Images{byRef: make(map[ref]Image), byPinned: make(map[ref]Image), errs: make(map[ref]error), silent: make(map[ref]chan struct{}), gate: open, prepared: make(map[string]int)}
}

// Push makes a reference name an image, for good by its pinned form, and
// returns its digest.
func (m *Images) Push(tenant thaw.TenantID, text string, image Image) (digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byRef[ref{tenant, text}] = image
	m.byPinned[ref{tenant, pin(image)}] = image
	return digestOf(image)
}

// Refuse makes resolving a reference fail.
func (m *Images) Refuse(tenant thaw.TenantID, text string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.errs[ref{tenant, text}] = err
}

// Silence makes resolving a reference wait until its caller gives up. asked is
// closed once it was resolved the first time.
func (m *Images) Silence(tenant thaw.TenantID, text string) (asked <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{})
	m.silent[ref{tenant, text}] = c
	return c
}

// Hold makes preparations wait until release is called.
func (m *Images) Hold() (release func()) {
	gate := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// Prepared returns how often the image of that digest was begun to be
// prepared.
func (m *Images) Prepared(digest string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.prepared[digest]
}

// Resolve implements [control.Images].
func (m *Images) Resolve(ctx context.Context, tenant thaw.TenantID, text string) (control.Resolved, error) {
	m.mu.Lock()
	silent := m.silent[ref{tenant, text}]
	m.mu.Unlock()
	if silent != nil {
		close(silent)
		<-ctx.Done()
		return control.Resolved{}, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.errs[ref{tenant, text}]; err != nil {
		return control.Resolved{}, err
	}
	image, ok := m.byRef[ref{tenant, text}]
	if !ok {
		return control.Resolved{}, thaw.Errorf("resolve "+text, thaw.NotFound, "no such image")
	}
	return control.Resolved{Digest: digestOf(image), Pinned: pin(image)}, nil
}

// Panic is an [Image]'s Fails that makes its preparation panic.
type Panic string

// Error implements error.
func (p Panic) Error() string { return string(p) }

// Prepare implements [control.Images].
func (m *Images) Prepare(ctx context.Context, tenant thaw.TenantID, pinned string, report func(control.Progress)) (control.Prepared, error) {
	m.mu.Lock()
	image, ok := m.byPinned[ref{tenant, pinned}]
	digest := digestOf(image)
	m.prepared[digest]++
	gate := m.gate
	m.mu.Unlock()
	report(control.Progress{Stage: "ingest", DoneBytes: 1, TotalBytes: 2, Chunks: 3, Waits: image.Waits})
	select {
	case <-gate:
	case <-ctx.Done():
		return control.Prepared{}, ctx.Err()
	}
	if !ok {
		return control.Prepared{}, thaw.Errorf("prepare "+pinned, thaw.NotFound, "no such image")
	}
	if image.Fails != nil {
		if cause, ok := image.Fails.(Panic); ok { //nolint:errorlint // it is given as it is
			panic(cause)
		}
		return control.Prepared{}, image.Fails
	}
	entrypoint := image.Entrypoint
	if entrypoint == nil {
		entrypoint = []string{"/entry"}
	}
	return control.Prepared{Image: thaw.ImageID(sha256.Sum256([]byte(digest))), Entrypoint: entrypoint,
		Command: image.Command, Env: image.Env, WorkingDir: image.Dir, Bytes: int64(len(image.Content))}, nil
}

// pin names an image wherever the references to it lead by now.
func pin(image Image) string { return "/any@" + digestOf(image) }

func digestOf(image Image) string {
	sum := sha256.Sum256([]byte(image.Content))
	return "sha256:" + hex.EncodeToString(sum[:])
}
