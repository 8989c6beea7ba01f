// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
)

// maxKeys bounds the memory of the cache of derived keys. A key lives for a
// day; past the bound the cache starts anew, which costs four HMACs each.
const maxKeys = 4096

// signingKey is derived from a secret for one day, region and service.
type signingKey [sha256.Size]byte

func deriveKey(secret string, s scope) signingKey {
	key := mac([]byte("AWS4"+secret), s.day)
	key = mac(key, s.region)
	key = mac(key, s.service)
	return signingKey(mac(key, s.terminator))
}

func (k signingKey) sign(text []byte) []byte {
	h := hmac.New(sha256.New, k[:])
	h.Write(text)
	return h.Sum(nil)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

type keyScope struct {
	accessKeyID string
	scope       scope
}

type derivedKey struct {
	secretSum [sha256.Size]byte // of the secret it was derived from: a rotated one must not hit
	key       signingKey
}

// keyCache remembers derived keys. It is safe for concurrent use.
type keyCache struct {
	mu      sync.RWMutex
	byScope map[keyScope]derivedKey
}

// get returns the key for secret and whether it was remembered.
func (c *keyCache) get(accessKeyID, secret string, s scope) (signingKey, bool) {
	sum := sha256.Sum256([]byte(secret))
	c.mu.RLock()
	hit, ok := c.byScope[keyScope{accessKeyID, s}]
	c.mu.RUnlock()
	if ok && subtle.ConstantTimeCompare(hit.secretSum[:], sum[:]) == 1 {
		return hit.key, true
	}
	return deriveKey(secret, s), false
}

func (c *keyCache) put(accessKeyID, secret string, s scope, key signingKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byScope) >= maxKeys {
		clear(c.byScope)
	}
	c.byScope[keyScope{accessKeyID, s}] = derivedKey{sha256.Sum256([]byte(secret)), key}
}
