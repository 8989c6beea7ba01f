// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"thaw.dev/thaw"
)

// ScanOptions says how to read a layer.
type ScanOptions struct {
	Name       string // how errors name the layer: its digest
	MaxEntries int    // 0 means [DefaultMaxEntries]; a layer of more is [thaw.TooLarge]

	// Budget is charged for what is kept of each entry; past it the layer is
	// [thaw.TooLarge]. Nil is one of [DefaultBudget] for the layer alone.
	Budget *Budget

	// FilesOnly keeps nothing of the entries: only File is of use.
	FilesOnly bool

	// File gets the bytes of each regular file that has any, in the order of
	// the tar, holes of sparse files as zeros: their size is no measure of the
	// tar's, and for File to bound. It may read r in part or not at all, and
	// must not keep it. Its error ends the scan and is returned as it is, but
	// for what io.ReadFull says of an end too early, which is a bad tar.
	File func(f FileHeader, r io.Reader) error
}

// FileHeader is what [ScanOptions.File] is told of a file.
type FileHeader struct {
	Ordinal int    // 0, 1, 2... among the layer's regular files that have bytes
	Name    string // cleaned, without a leading slash; links in it not resolved
	Size    int64  // in bytes, more than 0
}

// Layer is what the headers of one layer say.
type Layer struct {
	name    string
	slabs   [][]entry
	entries int
	files   int
}

// Entries returns the number of entries of the layer's tar that describe
// something, whiteouts included.
func (l *Layer) Entries() int { return l.entries }

// slabEntries is how many entries are allocated at once: the list of a large
// layer is not copied as it grows.
const slabEntries = 2048

// Scan reads the tar of one layer to the end-of-archive mark, or to the end of
// r if there is none. An entry that no image can have (a name that leaves the
// tree, an unknown type, attributes beyond what a kernel takes) is
// [thaw.Invalid], and so is what isn't a tar or ends within an entry; errors
// of r are returned with their kind.
func Scan(ctx context.Context, r io.Reader, o ScanOptions) (*Layer, error) {
	if o.MaxEntries == 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	if o.Budget == nil {
		o.Budget = NewBudget(0)
	}
	l := &Layer{name: o.Name}
	tr := tar.NewReader(r)
	last := "" // the entry before the one being read
	for {
		if err := ctx.Err(); err != nil {
			return nil, thaw.Wrap(op(o.Name), err)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err != nil {
			return nil, tarError(o.Name, last, err)
		}
		last = h.Name
		e, err := parseEntry(o, h)
		if err != nil {
			return nil, err
		}
		if e.kind == kindNone {
			continue
		}
		if err := l.take(o, &e, tr); err != nil {
			return nil, err
		}
	}
}

// take lists an entry and passes on the bytes behind it.
func (l *Layer) take(o ScanOptions, e *entry, r io.Reader) error {
	if l.entries >= o.MaxEntries {
		return thaw.Errorf(op(l.name), thaw.TooLarge, "it has more than the %d entries that an image may have", o.MaxEntries)
	}
	e.ordinal = -1
	if e.kind == kindRegular && e.size > 0 {
		e.ordinal = int32(l.files)
		l.files++
	}
	l.entries++
	if !o.FilesOnly {
		if err := o.Budget.take(l.name, e.name, e.cost()); err != nil {
			return err
		}
		l.keep(e)
	}
	if e.ordinal < 0 || o.File == nil {
		return nil
	}
	err := o.File(FileHeader{Ordinal: int(e.ordinal), Name: e.name, Size: e.size}, r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return tarError(l.name, e.name, err) // of r, unless it has a kind
	}
	return err
}

// keep adds an entry to the list.
func (l *Layer) keep(e *entry) {
	if len(l.slabs) == 0 || len(l.slabs[len(l.slabs)-1]) == slabEntries {
		l.slabs = append(l.slabs, make([]entry, 0, slabEntries))
	}
	last := &l.slabs[len(l.slabs)-1]
	*last = append(*last, *e)
}

// tarError classes what went wrong with reading the tar: errors that the
// reader has given a kind are its own, anything else is a bad tar. at is the
// entry that was begun last.
func tarError(layer, at string, err error) error {
	where := "at its first entry"
	if at != "" {
		where = fmt.Sprintf("in or behind entry %.300q", at)
	}
	_, kind := errors.AsType[*thaw.Error](err)
	switch {
	case kind, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return thaw.Errorf(op(layer), thaw.Invalid, "the tar ends within an entry, %s", where)
	}
	return thaw.Errorf(op(layer), thaw.Invalid, "it is not a well-formed tar %s: %w", where, err)
}
