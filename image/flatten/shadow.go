// SPDX-License-Identifier: Apache-2.0

package flatten

import "strings"

// Shadow foretells which files of a layer the layers above it replace or
// delete, so that nothing is done for their bytes. It goes by names alone and
// does not follow symbolic links, so it can err in both directions; [Merge]
// decides. The zero value foretells nothing. It is not safe for concurrent use.
type Shadow struct {
	casts map[string]shade
}

// shade is what a name in an upper layer hides of lower ones.
type shade uint8

const (
	hidesSelf shade = 1 << iota
	hidesBelow
)

// Add adds a layer above those that [Shadow.Hides] will be asked of.
func (s *Shadow) Add(l *Layer) {
	if s.casts == nil {
		s.casts = make(map[string]shade, l.entries)
	}
	for _, slab := range l.slabs {
		for i := range slab {
			switch e := &slab[i]; e.kind {
			case kindDir:
				s.casts[e.name] |= hidesSelf
			case kindOpaque:
				s.casts[e.name] |= hidesBelow
			default:
				s.casts[e.name] |= hidesSelf | hidesBelow
			}
		}
	}
}

// Hides reports whether a file of that name in a layer below those added is
// likely not part of the image.
func (s *Shadow) Hides(name string) bool {
	if len(s.casts) == 0 {
		return false
	}
	if s.casts[name]&hidesSelf != 0 {
		return true
	}
	for name != "" {
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			name = name[:i]
		} else {
			name = ""
		}
		if s.casts[name]&hidesBelow != 0 {
			return true
		}
	}
	return false
}
