// SPDX-License-Identifier: Apache-2.0

package ingesttest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// rawHeader is a block of a tar as old or odd tools write it, which Go's writer
// does not.
type rawHeader struct {
	name, link string
	typeflag   byte
	size       int
	magic      string // "ustar\x0000", "ustar  \x00" of GNU, "" of version 7
	patch      func(block []byte)
}

func (h rawHeader) bytes(content string) []byte {
	b := make([]byte, 512)
	copy(b, h.name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", h.size))
	copy(b[136:], "14533401400\x00") // 1700000000 - a little
	b[156] = h.typeflag
	copy(b[157:257], h.link)
	copy(b[257:], h.magic)
	if h.patch != nil {
		h.patch(b)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	b = append(b, content...)
	return append(b, make([]byte, -len(content)&511)...)
}

// base256 writes a number as GNU does where octal digits don't suffice.
func base256(field []byte, n int64) {
	fill := byte(0)
	if n < 0 {
		fill = 0xff
	}
	for i := range field {
		field[i] = fill
	}
	binary.BigEndian.PutUint64(field[len(field)-8:], uint64(n))
	field[0] |= 0x80
}

const (
	ustar = "ustar\x0000"
	gnu   = "ustar  \x00"
)

var end = make([]byte, 1024)

// nastyBytes are trees whose tars are odd, not their names.
func nastyBytes(t testing.TB) map[string][][]byte {
	file := func(patch func([]byte)) []byte {
		return rawHeader{name: "f", typeflag: '0', size: 3, magic: gnu, patch: patch}.bytes("abc")
	}
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	long := strings.Repeat("long/", 60)
	return map[string][][]byte{
		"version 7":            {join(rawHeader{name: "d/", typeflag: 0}.bytes(""), rawHeader{name: "d/f", typeflag: 0, size: 1}.bytes("x"), rawHeader{name: "l", link: "d/f", typeflag: '1'}.bytes(""), end)},
		"prefix of ustar":      {join(rawHeader{name: "f", typeflag: '0', size: 1, magic: ustar, patch: func(b []byte) { copy(b[345:], strings.Repeat("p/", 50)+"q") }}.bytes("x"), end)},
		"size in base 256":     {join(file(func(b []byte) { base256(b[124:136], 3) }), end)},
		"owners in base 256":   {join(file(func(b []byte) { base256(b[108:116], 1<<31); base256(b[116:124], 3_000_000_000) }), end)},
		"time in base 256":     {join(file(func(b []byte) { base256(b[136:148], -86400) }), end)},
		"far time":             {join(file(func(b []byte) { base256(b[136:148], 1<<33) }), end)},
		"blanks in numbers":    {join(file(func(b []byte) { copy(b[100:], "   644 \x00"); copy(b[108:], "      0 ") }), end)},
		"no end":               {file(nil)},
		"one block of zeros":   {join(file(nil), end[:512])},
		"garbage at the end":   {join(file(nil), end, []byte("garbage that no reader looks at"))},
		"another tar behind":   {join(file(nil), end, rawHeader{name: "hidden", typeflag: '0', size: 1, magic: gnu}.bytes("h"), end)},
		"GNU long names":       {join(rawHeader{name: "././@LongLink", typeflag: 'L', size: len(long) + 5, magic: gnu}.bytes(long+"file\x00"), file(nil), end)},
		"GNU long link":        {join(rawHeader{name: "././@LongLink", typeflag: 'K', size: len(long) + 1, magic: gnu}.bytes(long+"\x00"), rawHeader{name: "s", link: "short", typeflag: '2', magic: gnu}.bytes(""), end)},
		"PAX long name":        {join(rawHeader{name: "pax", typeflag: 'x', size: len(long) + 14, magic: ustar}.bytes(fmt.Sprintf("%d path=%sfile\n", len(long)+14, long)), file(nil), end)},
		"data behind a folder": {join(rawHeader{name: "d/", typeflag: '5', size: 0, magic: ustar}.bytes(""), rawHeader{name: "d/f", typeflag: '0', size: 1, magic: ustar}.bytes("x"), end)},
	}
}
