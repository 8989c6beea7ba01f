// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"thaw.dev/thaw"
)

// magic begins every manifest; its last byte is the version of the format.
const magic = "thawmft\x01"

const (
	preludeBytes  = len(magic) + 4 // magic, then the length of the whole head
	keyCheckBytes = SealOverhead   // ends the head
)

// headNumber is the number under which the head is authenticated with the data
// key; leaf page i uses i+1.
const headNumber = 0

// encodeHead returns the head without its key check.
func encodeHead(h Head, root [sha256.Size]byte) []byte {
	b := append(make([]byte, 0, 512), magic...)
	b = append(b, 0, 0, 0, 0)
	b = appendString(b, string(h.Tenant))
	b = appendString(b, string(h.Root))
	b = append(b, uint8(len(h.Domains)))
	for _, d := range h.Domains {
		b = appendString(b, string(d))
	}
	for _, n := range []int64{h.ImageBytes, h.MetaBytes, h.Files, h.Dirs, h.Links, h.LayerBytes} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = appendString(b, h.SourceDigest)
	b = appendString(b, string(h.WrappedKey))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Chunks))
	b = append(b, root[:]...)
	binary.BigEndian.PutUint32(b[len(magic):], uint32(len(b)+keyCheckBytes))
	return b
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// checkHead reports the first thing in h that no image can have; chunks apart.
func checkHead(h Head) string {
	tenant, err := thaw.ParseTenantID(string(h.Tenant))
	switch {
	case err != nil || tenant != h.Tenant:
		return "the tenant is not an account id"
	case len(h.Root) == 0 || len(h.Root) > maxRootBytes:
		return "the root's id is empty or too long"
	case len(h.Domains) == 0 || len(h.Domains) > maxDomains:
		return "there is no domain or there are too many"
	case h.ImageBytes <= 0 || h.ImageBytes%thaw.BlockBytes != 0 || h.ImageBytes/thaw.BlockBytes > maxImageBlocks:
		return "the image's size is not a possible number of blocks"
	case h.MetaBytes < 0 || h.MetaBytes%thaw.BlockBytes != 0 || h.MetaBytes > h.ImageBytes:
		return "the metadata's size is not a number of blocks within the image"
	case h.Files < 0 || h.Dirs < 0 || h.Links < 0 || h.LayerBytes < 0:
		return "a count is negative"
	case len(h.SourceDigest) > maxDigestBytes:
		return "the source's digest is too long"
	case len(h.WrappedKey) == 0 || len(h.WrappedKey) > maxWrappedBytes:
		return "the wrapped key is empty or too long"
	}
	return checkDomains(h.Domains)
}

func checkDomains(domains []thaw.Domain) string {
	for i, d := range domains {
		if len(d) == 0 || len(d) > maxDomainBytes {
			return "a domain is empty or too long"
		}
		if slices.Contains(domains[:i], d) {
			return "a domain is named twice"
		}
	}
	return ""
}

// parsedHead is a head as stored.
type parsedHead struct {
	Head
	rootHash [sha256.Size]byte
	raw      []byte // the whole head; its last keyCheckBytes are the key check
}

// headLength returns the length that the head at the front of b says it has,
// within bounds.
func headLength(b []byte) (int, error) {
	if len(b) < preludeBytes {
		return 0, corrupt("it ends within its first bytes")
	}
	if !bytes.Equal(b[:len(magic)-1], []byte(magic[:len(magic)-1])) {
		return 0, corrupt("it does not begin with the mark of a manifest")
	}
	if b[len(magic)-1] != magic[len(magic)-1] {
		return 0, corrupt("format version %d is unknown to this program", b[len(magic)-1])
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	if n < uint32(preludeBytes+keyCheckBytes) || n > maxHeadBytes {
		return 0, corrupt("its head can't be %d bytes long", n)
	}
	return int(n), nil
}

// parseHead parses a whole head, whose length was checked by headLength.
func parseHead(raw []byte) (*parsedHead, error) {
	p := &parsedHead{raw: raw}
	f := fields{rest: raw[preludeBytes : len(raw)-keyCheckBytes]}
	p.Tenant = thaw.TenantID(f.string())
	p.Root = thaw.RootID(f.string())
	for range f.next(1)[0] {
		p.Domains = append(p.Domains, thaw.Domain(f.string()))
	}
	for _, dst := range []*int64{&p.ImageBytes, &p.MetaBytes, &p.Files, &p.Dirs, &p.Links, &p.LayerBytes} {
		*dst = int64(binary.BigEndian.Uint64(f.next(8)))
	}
	p.SourceDigest = f.string()
	p.WrappedKey = []byte(f.string())
	chunks := binary.BigEndian.Uint32(f.next(4))
	copy(p.rootHash[:], f.next(len(p.rootHash)))
	switch {
	case f.short:
		return nil, corrupt("its head ends before its last field")
	case len(f.rest) > 0:
		return nil, corrupt("its head goes on after its last field")
	case chunks == 0 || chunks > MaxChunks:
		return nil, corrupt("it can't have %d chunks", chunks)
	}
	p.Chunks = int(chunks)
	if why := checkHead(p.Head); why != "" {
		return nil, corrupt("%s", why)
	}
	if blocks := p.ImageBytes / thaw.BlockBytes; int64(chunks) > blocks || int64(chunks)*maxBlocks < blocks {
		return nil, corrupt("%d chunks can't cover %d blocks", chunks, blocks)
	}
	return p, nil
}

// fields reads the fields of a head in order. After the first that is not
// there, short is set and every field is zero bytes.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) next(n int) []byte {
	if n > len(f.rest) {
		f.short, f.rest = true, nil
		return make([]byte, n)
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) string() string {
	return string(f.next(int(binary.BigEndian.Uint16(f.next(2)))))
}

func corrupt(format string, args ...any) error {
	return thaw.Errorf("manifest", thaw.Corrupt, format, args...)
}
