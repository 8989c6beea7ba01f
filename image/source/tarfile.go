// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// archive is a tar whose files can be read without unpacking it.
type archive struct {
	file  string
	parts map[string]part
	links map[string]string // names that stand for others: docker once wrote equal layers so
}

// maxArchiveLinks bounds links to links.
const maxArchiveLinks = 8

// part is where a file's bytes are in the tar.
type part struct{ offset, bytes int64 }

// readArchive lists a tar's files: one pass over its headers.
func readArchive(file string) (*archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return nil, fmt.Errorf("it is no tar: %w", err)
	}
	if magic[0] == 0x1f && magic[1] == 0x8b || magic == [4]byte{0x28, 0xb5, 0x2f, 0xfd} {
		return nil, errors.New("it is compressed; decompress it first")
	}
	a := &archive{file: file, parts: map[string]part{}, links: map[string]string{}}
	// The reader seeks over what it skips, so this is quick for any size.
	for in := tar.NewReader(f); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar: %w", err)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		switch name := path.Clean(header.Name); header.Typeflag {
		case tar.TypeReg:
			a.parts[name] = part{offset, header.Size}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), header.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean(header.Linkname)
		}
	}
}

func (a *archive) has(name string) bool {
	_, ok := a.find(name)
	return ok
}

// find returns a file by its name, or by that of a link to it.
func (a *archive) find(name string) (part, bool) {
	name = path.Clean(name)
	for range maxArchiveLinks {
		if to, ok := a.links[name]; ok {
			name = to
		}
	}
	p, ok := a.parts[name]
	return p, ok
}

// open opens one file of the tar; the tar itself is open as long.
func (a *archive) open(name string) (io.ReadCloser, error) {
	p, ok := a.find(name)
	if !ok {
		return nil, fmt.Errorf("%s has no %s", a.file, name)
	}
	f, err := os.Open(a.file)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, p.offset, p.bytes), f}, nil
}

// read returns a small file of the tar.
func (a *archive) read(name string) ([]byte, error) {
	in, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close() // only read
	data, err := io.ReadAll(io.LimitReader(in, maxConfigBytes+1))
	if err == nil && len(data) > maxConfigBytes {
		err = fmt.Errorf("%s in %s has more than %d bytes", name, a.file, maxConfigBytes)
	}
	return data, err
}
