// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Layer says what one layer of an image holds.
type Layer struct {
	// Packages are the .deb files whose contents the layer holds, in order.
	Packages []string

	// Dirs are folders of the host whose contents are laid over the packages
	// at the paths given: destination in the image to folder.
	Dirs map[string]string

	// Links are symbolic links to add: path in the image to target.
	Links map[string]string

	// FillMB adds so many MiB of files that don't compress and that no other
	// image has, for images of any size.
	FillMB int

	// FillFileMB is the size of each of these files, in MiB; zero means 4.
	FillFileMB int
}

// epoch is the mtime of what the packages don't date.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// merged are the folders that Debian's merged /usr makes links to their
// namesakes in /usr; packages still ship files below some of them.
var merged = []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"}

// write writes the layer as a tar. What a package repeats of an earlier one
// (folders, mostly) is left out.
func (l Layer) write(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	seen := map[string]bool{}
	if len(l.Packages) > 0 {
		for _, dir := range merged {
			seen[dir] = true
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dir, Linkname: "usr/" + dir, Mode: 0o777, ModTime: epoch}); err != nil {
				return err
			}
		}
	}
	for _, deb := range l.Packages {
		err := contents(ctx, deb, func(r io.Reader) error { return copyEntries(tw, tar.NewReader(r), seen) })
		if err != nil {
			return err
		}
	}
	for _, dest := range sortedKeys(l.Dirs) {
		if err := addParents(tw, dest, seen); err != nil {
			return err
		}
		if err := copyDir(tw, l.Dirs[dest], dest, seen); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(l.Links) {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: l.Links[name], Mode: 0o777, ModTime: epoch}); err != nil {
			return err
		}
	}
	if err := fill(tw, l.FillMB, cmp.Or(l.FillFileMB, 4)); err != nil {
		return err
	}
	return tw.Close()
}

// fill adds files of pseudo-random bytes, fileMB MiB each; the same size gives
// the same bytes.
func fill(tw *tar.Writer, megabytes, fileMB int) error {
	block := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{byte(megabytes), byte(megabytes >> 8), byte(megabytes >> 16)})
	for n := 0; n < megabytes; n += fileMB {
		size := min(fileMB, megabytes-n)
		name := fmt.Sprintf("fill/%03d/%02d.bin", n/fileMB/100, n/fileMB%100)
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size) << 20, ModTime: epoch}); err != nil {
			return err
		}
		for range size {
			_, _ = random.Read(block)
			if _, err := tw.Write(block); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyEntries(tw *tar.Writer, tr *tar.Reader, seen map[string]bool) error {
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		header.Name = mergeUsr(path.Clean(header.Name))
		if header.Typeflag == tar.TypeLink {
			header.Linkname = mergeUsr(path.Clean(header.Linkname))
		}
		if header.Name == "." || seen[header.Name] {
			continue
		}
		seen[header.Name] = true
		header.Format = tar.FormatUnknown
		header.Uname, header.Gname = "", ""
		if err := tw.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}

func mergeUsr(name string) string {
	first, _, _ := strings.Cut(name, "/")
	if slices.Contains(merged, first) {
		return "usr/" + name
	}
	return name
}

// addParents adds the folders above a name that the layer lacks, as builders
// do: there are tools that take a file without them for a mistake.
func addParents(tw *tar.Writer, name string, seen map[string]bool) error {
	parent := path.Dir(name)
	if parent == "." || parent == "/" || seen[parent] {
		return nil
	}
	if err := addParents(tw, parent, seen); err != nil {
		return err
	}
	seen[parent] = true
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: parent, Mode: 0o755, ModTime: epoch})
}

// copyDir adds a folder of the host, owned by root, with its files' own mtimes.
func copyDir(tw *tar.Writer, src, dest string, seen map[string]bool) error {
	return filepath.WalkDir(src, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, file)
		if err != nil {
			return err
		}
		name := path.Join(dest, filepath.ToSlash(rel))
		if name == "." || name == "/" || (d.IsDir() && seen[name]) {
			return nil
		}
		seen[name] = true
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(file); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		header.Name = name
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		header.ModTime = header.ModTime.Truncate(time.Second)
		if err := tw.WriteHeader(header); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	})
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
