// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"archive/tar"
	"path"
	"strings"

	"thaw.dev/thaw/format/erofs"
)

// kind is what an entry does to the tree.
type kind uint8

const (
	kindNone     kind = iota // describes nothing
	kindRegular              // a regular file
	kindDir                  // a directory
	kindSymlink              // a symbolic link
	kindLink                 // another name for an inode
	kindSpecial              // a device or FIFO
	kindWhiteout             // deletes name from lower layers
	kindOpaque               // deletes what lower layers have in name
)

// entry is one header, without what an image does not keep.
type entry struct {
	name    string // cleaned, relative; "" is the root. Of a whiteout: what it deletes
	link    string // target, cleaned if it is a hard link's
	xattrs  []erofs.Xattr
	size    int64
	mtime   int64
	nsec    uint32
	mode    uint32 // as st_mode
	uid     uint32
	gid     uint32
	rdev    uint32
	ordinal int32 // which of the layer's files with bytes, or -1
	kind    kind
}

// The types of a mode, as in <sys/stat.h>.
const (
	modeFIFO    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeSetGID  = 0o002000
	modePerm    = 0o7777
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // of all other names
)

// maxID is the largest owner: one more is "no change" to chown.
const maxID = 1<<32 - 2

// parseEntry checks one header and reduces it to an entry.
func parseEntry(o ScanOptions, h *tar.Header) (entry, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return entry{}, nil // defaults for archives that git made; none of them is kept
	}
	name, why := cleanName(h.Name)
	if why != "" {
		return entry{}, invalid(o.Name, h.Name, "%s", why)
	}
	if strings.HasPrefix(name, aufsPrefix) && name != whiteoutOpaque {
		return entry{}, nil // at the root AUFS kept what is its own, and old builders packed it; docker skips it too
	}
	// A PAX header is one string, of which its records are parts: a name that is
	// kept as such a part keeps all of it.
	e := entry{name: strings.Clone(name)}
	if base := path.Base(name); strings.HasPrefix(base, whiteoutPrefix) {
		return parseWhiteout(o, e, base)
	}
	if why := e.setType(h); why != "" {
		return entry{}, invalid(o.Name, h.Name, "%s", why)
	}
	if name == "" && e.kind != kindDir {
		return entry{}, invalid(o.Name, h.Name, "would make the root something other than a directory")
	}
	if e.kind == kindLink {
		return e, nil // it has no attributes of its own
	}
	if why := e.setAttributes(h); why != "" {
		return entry{}, invalid(o.Name, h.Name, "%s", why)
	}
	return e, nil
}

func parseWhiteout(o ScanOptions, e entry, base string) (entry, error) {
	dir := strings.TrimSuffix(e.name[:len(e.name)-len(base)], "/")
	if base == whiteoutOpaque {
		e.kind, e.name = kindOpaque, dir
		return e, nil
	}
	target := base[len(whiteoutPrefix):]
	if target == "" || target == "." || target == ".." {
		return entry{}, invalid(o.Name, e.name, "is a whiteout of nothing that can exist")
	}
	e.kind, e.name = kindWhiteout, path.Join(dir, target)
	return e, nil
}

// setType sets what depends on the entry's type, or says what is wrong.
func (e *entry) setType(h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // the old type is still met
		e.kind, e.mode, e.size = kindRegular, modeRegular, h.Size
	case tar.TypeDir:
		e.kind, e.mode = kindDir, modeDir
	case tar.TypeSymlink:
		e.kind, e.mode, e.link = kindSymlink, modeSymlink, strings.Clone(h.Linkname)
		if e.link == "" || len(e.link) > maxNameBytes {
			return "is a symbolic link to a name that is empty or too long"
		}
	case tar.TypeLink:
		link, why := cleanName(h.Linkname)
		if why == "" && link == "" {
			why = "is the root"
		}
		if why != "" {
			return "is a hard link whose target " + why
		}
		e.kind, e.link = kindLink, strings.Clone(link)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return e.setDevice(h)
	default:
		return "has the type '" + string(rune(h.Typeflag)) + "', which an image can't hold"
	}
	return ""
}

func (e *entry) setDevice(h *tar.Header) string {
	e.kind = kindSpecial
	switch h.Typeflag {
	case tar.TypeFifo:
		e.mode = modeFIFO
		return ""
	case tar.TypeChar:
		e.mode = modeChar
	default:
		e.mode = modeBlock
	}
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return "is a device with a number that Linux does not have"
	}
	major, minor := uint32(h.Devmajor), uint32(h.Devminor)
	e.rdev = minor&0xff | major<<8 | minor>>8<<20
	return ""
}

func (e *entry) setAttributes(h *tar.Header) string {
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return "has an owner outside the range of 32 bits"
	}
	e.uid, e.gid = uint32(h.Uid), uint32(h.Gid)
	e.mtime, e.nsec = h.ModTime.Unix(), uint32(h.ModTime.Nanosecond())
	if e.kind == kindSymlink {
		e.mode |= 0o777 // a link has no mode of its own; this is what Linux shows
	} else {
		e.mode |= uint32(h.Mode) & modePerm
	}
	return e.setXattrs(h.PAXRecords)
}

// cleanName returns the name as elements separated by single slashes, "" for
// the root, or says what is wrong with it. A name with a slash at its front is
// below the root like any other, as in containerd, docker and umoci.
func cleanName(name string) (clean, why string) {
	clean = path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case clean == ".":
		return "", "" // also "/", which some builders write for the root
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", "leaves the image by \"..\""
	case len(clean) > maxNameBytes:
		return "", "has a name of more than 4095 bytes"
	case strings.IndexByte(clean, 0) >= 0:
		return "", "has a name with a zero byte"
	}
	for rest := clean; rest != ""; {
		var element string
		element, rest, _ = strings.Cut(rest, "/")
		if len(element) > maxBaseBytes {
			return "", "has an element of more than 255 bytes in its name"
		}
	}
	return clean, ""
}
