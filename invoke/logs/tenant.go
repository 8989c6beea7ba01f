// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/quota"
)

const (
	// fileBytes is what a file costs beside its bytes: ext4 makes one inode for
	// so many bytes of the disk.
	fileBytes = 16 << 10

	// recountEvery is how often tenants are counted again, for what was
	// deleted by hand.
	recountEvery = time.Hour
)

func (g segment) cost() int64 { return fileBytes + g.bytes }

// Quota returns what tenants have of logs, which is known while Run runs.
func (s *Store) Quota() *quota.Quota { return s.bytes }

// grew counts what a tenant's logs grew by. It never waits.
func (s *Store) grew(tenant thaw.TenantID, n int64) {
	s.bytes.Add(string(tenant), n)
	if used, _ := s.bytes.Used(string(tenant)); n > 0 && s.limits.TenantBytes > 0 && used > s.limits.TenantBytes {
		select {
		case s.over <- struct{}{}:
		default: // Run will look anyway
		}
	}
}

// Run keeps tenants within their bound until ctx ends, and returns nil then: the
// oldest files of a tenant that is over it go, and the logs that lose some say
// so. Writers don't wait for it.
func (s *Store) Run(ctx context.Context, log *slog.Logger) error {
	again := time.NewTicker(recountEvery)
	defer again.Stop()
	s.keepAll(ctx, log, true)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			s.keepAll(ctx, log, true)
		case <-s.over:
			s.keepAll(ctx, log, false)
		}
	}
}

// keepAll looks at all tenants, or at those that are over their bound.
func (s *Store) keepAll(ctx context.Context, log *slog.Logger, all bool) {
	tenants, err := os.ReadDir(s.dir)
	if err != nil {
		log.Error("logs: tenants can't be listed", "error", err)
		return
	}
	for _, entry := range tenants {
		tenant, err := thaw.ParseTenantID(entry.Name())
		if err != nil || ctx.Err() != nil {
			continue // not ours
		}
		if used, known := s.bytes.Used(string(tenant)); !all && known && used <= s.limits.TenantBytes {
			continue
		}
		if err := s.keep(tenant, log); err != nil {
			log.Error("logs: a tenant's can't be counted", "tenant", tenant, "error", err)
		}
	}
}

// keep counts a tenant's logs and, where they are over the bound, deletes the
// oldest files until a tenth of it is free.
func (s *Store) keep(tenant thaw.TenantID, log *slog.Logger) error {
	functions, err := os.ReadDir(filepath.Join(s.dir, string(tenant)))
	if err != nil {
		return err
	}
	var all []segment
	var used int64
	for _, function := range functions {
		list, err := segments(filepath.Join(s.dir, string(tenant), function.Name()))
		if err != nil {
			return err
		}
		for _, seg := range list {
			used += seg.cost()
		}
		all = append(all, list...)
	}
	limit := s.limits.TenantBytes
	if limit > 0 && used > limit {
		slices.SortFunc(all, func(a, b segment) int { return a.mtime.Compare(b.mtime) })
		freed, lost := deleteOldest(all, used-limit*9/10)
		used -= freed
		for function, files := range lost {
			s.bytes.Refuse()
			s.tellLoss(tenant, function, files)
		}
		log.Warn("logs: a tenant had more than it may: its oldest files were deleted", "tenant", tenant, "bytes", freed, "functions", len(lost), "limit", limit)
	}
	s.bytes.Set(string(tenant), used)
	return nil
}

// deleteOldest deletes files, oldest first, until they had n bytes. It returns
// how much that was, and of how many files each function lost.
func deleteOldest(files []segment, n int64) (freed int64, lost map[string]int) {
	lost = map[string]int{}
	for _, seg := range files {
		if freed >= n {
			break
		}
		if err := os.Remove(seg.path); err != nil {
			continue // it may be gone; the next round sees
		}
		freed += seg.cost()
		lost[filepath.Base(filepath.Dir(seg.path))]++
	}
	return freed, lost
}

// tellLoss says in a function's log that files of it are gone; in none where
// nothing is left.
func (s *Store) tellLoss(tenant thaw.TenantID, function string, files int) {
	dir := filepath.Join(s.dir, string(tenant), function)
	if os.Remove(dir) == nil { // it was empty
		return
	}
	w, err := s.Create(tenant, function, NewStream("$LATEST", time.Now()))
	if err != nil {
		return // not a function's folder
	}
	w.Platform(fmt.Sprintf("[thaw] the oldest %d files of this log were deleted: the account's logs had more than %d bytes, which is all that it may have",
		files, s.limits.TenantBytes))
	_ = w.Close() // never fails but for a file that can't be closed
}
