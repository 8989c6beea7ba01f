// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/sha1" // a checksum that clients may choose, no signature
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// nvmePolynomial is CRC-64/NVME's, reversed as hash/crc64 wants it (NVM Express
// base specification 2.0, 5.2.1.3.4).
const nvmePolynomial = 0x9a6c9329ac4bc9b5

// checksum is the sum that a trailer of aws-chunked promises.
type checksum struct {
	header string
	hash   hash.Hash
}

// newChecksum returns the checksum that the trailer of that name holds. Names
// that it does not know are covered by the signature only.
func newChecksum(header string) (checksum, bool) {
	switch header {
	case "x-amz-checksum-crc32":
		return checksum{header, crc32.NewIEEE()}, true
	case "x-amz-checksum-crc32c":
		return checksum{header, crc32.New(crc32.MakeTable(crc32.Castagnoli))}, true
	case "x-amz-checksum-crc64nvme":
		return checksum{header, crc64.New(crc64.MakeTable(nvmePolynomial))}, true
	case "x-amz-checksum-sha1":
		return checksum{header, sha1.New()}, true
	case "x-amz-checksum-sha256":
		return checksum{header, sha256.New()}, true
	}
	return checksum{}, false
}

func (c checksum) matches(value string) bool {
	want, err := base64.StdEncoding.Strict().DecodeString(value)
	return err == nil && subtle.ConstantTimeCompare(c.hash.Sum(nil), want) == 1
}
