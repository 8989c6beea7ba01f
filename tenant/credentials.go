// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"crypto/rand"
	"math/big"
	"strconv"

	thaw "thaw.dev/thaw"
)

const (
	// base32 is the alphabet of access key ids at AWS.
	base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

	// letters has no character that a shell, an URL or an INI file reads in a
	// way of its own.
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// newID returns 12 random digits that do not begin with 0: tools take account
// ids for numbers and would drop it.
func newID() thaw.TenantID {
	const first = 100_000_000_000
	return thaw.TenantID(strconv.FormatInt(first+below(9*first), 10))
}

// newAccessKeyID has 80 random bits.
func newAccessKeyID() string { return "AKIA" + randomString(base32, 16) }

// newSecret has 238 random bits.
func newSecret() string { return randomString(letters, 40) }

func randomString(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[below(int64(len(alphabet)))]
	}
	return string(b)
}

// below returns a uniform random number in [0, n). The system's source of
// randomness does not fail on Linux: crypto/rand ends the program if it does.
func below(n int64) int64 {
	v, err := rand.Int(rand.Reader, big.NewInt(n))
	if err != nil {
		panic("tenant: internal error: crypto/rand: " + err.Error())
	}
	return v.Int64()
}
