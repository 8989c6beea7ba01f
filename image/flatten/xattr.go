// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"encoding/binary"
	"slices"
	"strings"

	"thaw.dev/thaw/format/erofs"
)

// paxXattr is the prefix of the PAX records that hold extended attributes: the
// form of star that GNU tar, Go and all image builders share.
const paxXattr = "SCHILY.xattr."

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// setXattrs takes the extended attributes from the PAX records, or says what is
// wrong with them. Left out are those that belong to the host a layer was made
// on (overlayfs's, SELinux's) and those of other systems. What is kept is there
// to be read: the sandbox's mounts are nosuid, so that no attribute gives rights.
func (e *entry) setXattrs(records map[string]string) string {
	total := 0
	for key, value := range records {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || value == "" || !e.keepsXattr(name) {
			continue // an empty record says, in PAX, that there is none
		}
		total += len(name) + 1 + len(value)
		if len(name) > maxBaseBytes || len(value) > maxXattrBytes || total > maxXattrsBytes {
			return "has larger extended attributes than Linux allows"
		}
		if name == aclAccess {
			mode, minimal, ok := aclMode(e.mode, value)
			if !ok {
				return "has an access control list that is not well-formed"
			}
			if e.mode = mode; minimal {
				continue
			}
		}
		e.xattrs = append(e.xattrs, erofs.Xattr{Name: strings.Clone(name), Value: []byte(value)})
	}
	slices.SortFunc(e.xattrs, func(a, b erofs.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return ""
}

func (e *entry) keepsXattr(name string) bool {
	if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
		return false // what overlayfs once wrote beside a layer would lead another one astray
	}
	switch name {
	case "security.selinux", "user.", "trusted.", "security.":
		return false
	case aclAccess:
		return e.kind != kindSymlink
	case aclDefault:
		return e.kind == kindDir
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.")
}

// The tags of a POSIX access control list, as in <linux/posix_acl.h>.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// aclMode does what Linux does when an access list is set: the permissions in
// mode follow the list, and a list that says no more than they do (minimal) is
// not stored. ok is false for what is not a list.
func aclMode(mode uint32, list string) (_ uint32, minimal, ok bool) {
	const headBytes, entryBytes, version = 4, 8, 2
	b := []byte(list)
	if len(b) < headBytes || (len(b)-headBytes)%entryBytes != 0 || binary.LittleEndian.Uint32(b) != version {
		return mode, false, false
	}
	mask := -1
	minimal = true
	for b = b[headBytes:]; len(b) > 0; b = b[entryBytes:] {
		perm := uint32(binary.LittleEndian.Uint16(b[2:])) & 7
		switch binary.LittleEndian.Uint16(b) {
		case aclUserObj:
			mode = mode&^0o700 | perm<<6
		case aclGroupObj:
			mode = mode&^0o070 | perm<<3
		case aclOther:
			mode = mode&^0o007 | perm
		case aclMask:
			mask, minimal = int(perm), false
		case aclUser, aclGroup:
			minimal = false
		default:
			return mode, false, false
		}
	}
	if mask >= 0 {
		mode = mode&^0o070 | uint32(mask)<<3
	}
	return mode, minimal, true
}
