// SPDX-License-Identifier: Apache-2.0

// Package logs keeps what functions print and what is said of their
// invocations: files under DATA/logs/<tenant>/<function>/, a stream for each
// sandbox. It bounds every size, never blocks a function for want of disk, and
// reads streams back merged, once or as they grow.
//
// A file holds one event a line: the time in UTC to the millisecond (24
// characters), a blank, the text. So a person needs no tool to read it.
package logs

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/quota"
)

// Limits bounds what logs may take. [DefaultLimits] are the usual ones.
type Limits struct {
	LineBytes      int   // a longer line becomes several
	FileBytes      int64 // a stream goes on in a new file beyond this
	FunctionBytes  int64 // all files of a function; the oldest go first
	FunctionFiles  int   // likewise, a file for each sandbox at least
	TenantBytes    int64 // all files of a tenant, of 16 KiB at least each; likewise, by [Store.Run]. 0 is no bound
	BytesPerSecond int64 // of one sandbox, in the long run; more is dropped, and the drop is told
	BurstBytes     int64 // what a sandbox may print at once
}

// DefaultLimits are generous for people and harmless for a disk: Lambda's
// 256 KiB a line, and at most 64 MiB a function.
func DefaultLimits() Limits {
	return Limits{
		LineBytes:      256 << 10,
		FileBytes:      8 << 20,
		FunctionBytes:  64 << 20,
		FunctionFiles:  1000,
		TenantBytes:    10 << 30,
		BytesPerSecond: 1 << 20,
		BurstBytes:     8 << 20,
	}
}

func (l Limits) validate() error {
	if l.TenantBytes < 0 || l.LineBytes < 1 || l.FileBytes < 1 || l.FunctionBytes < 1 || l.FunctionFiles < 1 ||
		l.BytesPerSecond < 1 || l.BurstBytes < 1 {
		return thaw.Errorf("logs: limits", thaw.Invalid, "%+v: each must be positive, but that of a tenant, which may be 0", l)
	}
	return nil
}

// Store is the logs of all functions of a host. It is safe for concurrent use.
type Store struct {
	dir    string
	limits Limits
	bytes  *quota.Quota  // by tenant, known once Run has counted
	over   chan struct{} // has a token when a tenant may be over its bound
}

// Open returns the store in dir, which it creates.
func Open(dir string, limits Limits) (*Store, error) {
	if err := limits.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, thaw.Wrap("logs: open", err)
	}
	return &Store{dir: dir, limits: limits, bytes: quota.New("log-bytes", limits.TenantBytes), over: make(chan struct{}, 1)}, nil
}

// functionName is what names a folder: Lambda's function names.
var functionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,140}$`)

func (s *Store) functionDir(tenant thaw.TenantID, function string) (string, error) {
	if _, err := thaw.ParseTenantID(string(tenant)); err != nil {
		return "", err
	}
	if !functionName.MatchString(function) {
		return "", thaw.Errorf("logs: function", thaw.Invalid, "%q names no function", function)
	}
	return filepath.Join(s.dir, string(tenant), function), nil
}

// NewStream returns the name of a sandbox's stream in Lambda's form:
// "2026/07/07/[$LATEST]a3f9c1e84b7d42a0b6e5f0c2d19a7e33".
func NewStream(version string, now time.Time) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return now.UTC().Format("2006/01/02/[") + version + "]" + hex.EncodeToString(id[:])
}

var streamName = regexp.MustCompile(`^[0-9]{4}/[0-9]{2}/[0-9]{2}/\[[A-Za-z0-9$_-]{1,140}\][0-9a-f]{32}$`)

// Create begins a stream, named by [NewStream]. Its file appears with the first
// line. The caller closes the writer.
func (s *Store) Create(tenant thaw.TenantID, function, stream string) (*Writer, error) {
	dir, err := s.functionDir(tenant, function)
	if err != nil {
		return nil, err
	}
	if !streamName.MatchString(stream) {
		return nil, thaw.Errorf("logs: create", thaw.Invalid, "%q names no stream", stream)
	}
	return &Writer{
		store:  s,
		tenant: tenant,
		limits: s.limits,
		dir:    dir,
		base:   strings.ReplaceAll(stream, "/", "-"),
		tokens: s.limits.BurstBytes,
		last:   time.Now(),
	}, nil
}

// Remove deletes the logs of a function; none is no error. A sandbox that still
// runs begins a new file.
func (s *Store) Remove(tenant thaw.TenantID, function string) error {
	dir, err := s.functionDir(tenant, function)
	if err != nil {
		return err
	}
	list, err := segments(dir)
	if err != nil {
		return err
	}
	for _, seg := range list {
		s.grew(tenant, -seg.cost())
	}
	return thaw.Wrap("logs: remove "+function, os.RemoveAll(dir))
}

// segment is one file of a stream. Its name is the stream's with dashes for the
// slashes, then ".N.log", N counting from 0.
type segment struct {
	path   string
	stream string
	bytes  int64
	mtime  time.Time
}

var segmentName = regexp.MustCompile(`^([0-9]{4})-([0-9]{2})-([0-9]{2})-(\[[^/]+\][0-9a-f]{32})\.[0-9]+\.log$`)

// segments lists a function's files, those last written to first.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, thaw.Wrap("logs: list", err)
	}
	var out []segment
	for _, e := range entries {
		m := segmentName.FindStringSubmatch(e.Name())
		info, err := e.Info()
		if m == nil || err != nil {
			continue // not ours, or gone meanwhile
		}
		out = append(out, segment{
			path:   filepath.Join(dir, e.Name()),
			stream: strings.Join(m[1:], "/"),
			bytes:  info.Size(),
			mtime:  info.ModTime(),
		})
	}
	slices.SortFunc(out, func(a, b segment) int {
		if c := b.mtime.Compare(a.mtime); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	return out, nil
}

// prune deletes a function's oldest files beyond the limits. A file that a
// sandbox still writes to may go too: its space is free once that sandbox ends.
func (s *Store) prune(tenant thaw.TenantID, dir string) {
	limits := s.limits
	list, err := segments(dir)
	if err != nil {
		return // the next stream's end tries again
	}
	var bytes int64
	for i, seg := range list {
		bytes += seg.bytes
		if i > 0 && (i >= limits.FunctionFiles || bytes > limits.FunctionBytes) {
			if err := os.Remove(seg.path); err == nil { // else likewise
				s.grew(tenant, -seg.cost())
			}
		}
	}
}
