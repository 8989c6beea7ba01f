// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/internal/sqlitedb"
	"thaw.dev/thaw/store/bucket"
)

const (
	// healthTimeout bounds each look: monitoring gives up after a few seconds.
	healthTimeout = 3 * time.Second

	// minFreeBytes is what must be free for the server to be ready: less than a
	// database's transaction and a manifest take.
	minFreeBytes = 16 << 20

	// checkEvery is how long the database is not read as a whole again.
	checkEvery = 2 * time.Second

	// maxManifests bounds the manifests that are looked for.
	maxManifests = 1000
)

// readyz says whether the server can do all that it is there for, or each
// reason why not. It looks at what is on this host only, and touches little.
func (n *node) readyz(w http.ResponseWriter, r *http.Request) {
	var reasons strings.Builder
	for _, look := range []struct {
		name string
		at   func(context.Context) error
	}{
		{"database", n.databaseReady}, {"keys", n.keysReady}, {"disk", n.diskReady}, {"folders", n.foldersReady},
		{"registry", func(context.Context) error { return n.registry.Check() }},
		{"loader", func(ctx context.Context) error { _, err := n.loader.Stats(ctx); return err }},
		{"mounts", func(context.Context) error { return n.loader.CheckMounts() }},
		{"origin", n.originReady},
	} {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		if err := look.at(ctx); err != nil {
			fmt.Fprintf(&reasons, "%s: %s\n", look.name, strings.TrimPrefix(err.Error(), look.name+": "))
		}
		cancel()
	}
	if reasons.Len() > 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		reasons.WriteString("ready\n")
	}
	_, _ = w.Write([]byte(reasons.String())) // a prober that is gone is no trouble
}

// databaseReady looks whether the database answers, and still is the file that
// the next start will open.
func (n *node) databaseReady(ctx context.Context) error {
	info, err := os.Stat(n.databasePath())
	if err != nil {
		return err
	}
	if !os.SameFile(info, n.dbFile) {
		return thaw.Errorf("", thaw.Lost, "%s was replaced while the server runs: what it is told goes nowhere", n.databasePath())
	}
	if _, err = n.accounts.ByName(ctx, "default"); err != nil {
		return err
	}
	n.checked.Lock()
	defer n.checked.Unlock()
	if time.Since(n.checked.at) > checkEvery {
		n.checked.at, n.checked.err = time.Now(), sqlitedb.Check(ctx, n.databasePath())
	}
	return n.checked.err
}

// checked is what the last look at the whole database found.
type checked struct {
	sync.Mutex

	at  time.Time
	err error
}

// keysReady looks at the key sets of the tenants who have images.
func (n *node) keysReady(ctx context.Context) error {
	tenants, err := n.control.TenantsWithImages(ctx)
	if err != nil {
		return err
	}
	return n.keys.Check(tenants)
}

// diskReady looks whether something can be written below --data.
func (n *node) diskReady(context.Context) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(n.cmd.Data, &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < minFreeBytes {
		return thaw.Errorf("", thaw.Unavailable, "%d bytes are free below %s, and %d are needed: invocations go on, deployments and pushes fail; free some",
			free, n.cmd.Data, minFreeBytes)
	}
	probe := filepath.Join(n.cmd.Data, "run", "probe")
	err := os.WriteFile(probe, []byte("thaw looks whether it can write\n"), 0o600)
	return errors.Join(err, ignoreAbsent(os.Remove(probe)))
}

// originReady looks whether a bucket was reached, or whether a folder has the
// manifests of the functions' images.
func (n *node) originReady(ctx context.Context) error {
	if n.bucket.Bucket != nil {
		return n.bucket.ready()
	}
	images, err := n.control.Images(ctx)
	if err != nil {
		return err
	}
	for _, id := range images[:min(len(images), maxManifests)] {
		if _, err := n.origin.ReadObject(ctx, manifest.Key(id), 0, 1); err != nil {
			return thaw.OurFault("the manifest of a function's image", err)
		}
	}
	return nil
}

// foldersReady looks whether the folders below --data, and the origin's, are
// there.
func (n *node) foldersReady(context.Context) error {
	wanted := []string{filepath.Join(n.cmd.Data, "logs"), filepath.Join(n.cmd.Data, "l1")}
	if !bucket.IsURL(n.cmd.Origin) {
		origin := n.cmd.location(n.cmd.Data)
		wanted = append(wanted, filepath.Join(origin, "FORMAT"), filepath.Join(origin, "chunks"), filepath.Join(origin, "objects"))
	}
	for _, path := range wanted {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
