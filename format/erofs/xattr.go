// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"thaw.dev/thaw"
)

// xattrPrefixes are the beginnings of names that are stored as a number. A
// whole name stands for itself: nothing may follow it.
func xattrPrefixes() []xattrPrefix {
	return []xattrPrefix{
		{1, "user.", false},
		{2, "system.posix_acl_access", true},
		{3, "system.posix_acl_default", true},
		{4, "trusted.", false},
		{6, "security.", false},
	}
}

type xattrPrefix struct {
	index byte
	text  string
	whole bool
}

// splitXattr returns the number of name's prefix and what follows it.
func splitXattr(name string) (index byte, rest string, ok bool) {
	for _, p := range xattrPrefixes() {
		rest, found := strings.CutPrefix(name, p.text)
		if found && p.whole == (rest == "") {
			return p.index, rest, true
		}
	}
	return 0, "", false
}

func xattrName(index byte, rest string) (string, bool) {
	for _, p := range xattrPrefixes() {
		if p.index == index && p.whole == (rest == "") {
			return p.text + rest, true
		}
	}
	return "", false
}

// sortXattrs checks the attributes and puts them in their one order on disk.
func sortXattrs(xattrs []Xattr) error {
	for _, x := range xattrs {
		_, rest, ok := splitXattr(x.Name)
		switch {
		case !ok:
			return invalid("the attribute %q has a name that EROFS can't hold", x.Name)
		case len(rest) > maxNameBytes || strings.IndexByte(rest, 0) >= 0:
			return invalid("the attribute %.40q has a name that is too long or holds a zero byte", x.Name)
		case len(x.Value) > maxXattrValueBytes:
			return invalid("the attribute %q has %d bytes, more than %d", x.Name, len(x.Value), maxXattrValueBytes)
		}
	}
	slices.SortStableFunc(xattrs, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(xattrs); i++ {
		if xattrs[i].Name == xattrs[i-1].Name {
			return invalid("the attribute %q occurs twice", xattrs[i].Name)
		}
	}
	if n := xattrBytes(xattrs); n > maxXattrBytes {
		return invalid("the attributes take %d bytes, more than %d", n, maxXattrBytes)
	}
	return nil
}

// xattrBytes returns the size of the attributes on disk, 0 if there are none.
func xattrBytes(xattrs []Xattr) int64 {
	if len(xattrs) == 0 {
		return 0
	}
	n := int64(xattrHeadBytes)
	for _, x := range xattrs {
		_, rest, _ := splitXattr(x.Name)
		n += roundUp(int64(xattrEntryBytes+len(rest)+len(x.Value)), 4)
	}
	return n
}

// putXattrs writes the attributes to dst, which is zero and long enough.
func putXattrs(dst []byte, xattrs []Xattr) {
	if len(xattrs) == 0 {
		return
	}
	at := xattrHeadBytes // the header is zeros: no name filter, no shared attributes
	for _, x := range xattrs {
		index, rest, _ := splitXattr(x.Name)
		dst[at] = byte(len(rest))
		dst[at+1] = index
		binary.LittleEndian.PutUint16(dst[at+2:], uint16(len(x.Value)))
		copy(dst[at+xattrEntryBytes:], rest)
		copy(dst[at+xattrEntryBytes+len(rest):], x.Value)
		at += int(roundUp(int64(xattrEntryBytes+len(rest)+len(x.Value)), 4))
	}
}

// xattrCount is the number that an inode has for attributes of n bytes.
func xattrCount(n int64) uint16 {
	if n == 0 {
		return 0
	}
	return uint16((n-xattrHeadBytes)/4 + 1)
}

func invalid(format string, args ...any) error {
	return thaw.Errorf("", thaw.Invalid, format, args...)
}
