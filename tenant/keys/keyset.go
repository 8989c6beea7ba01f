// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"encoding/binary"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"thaw.dev/thaw"
)

// associatedData binds a wrapped key to its tenant and its use. Lengths come
// first, so that no two pairs have the same encoding.
func associatedData(tenant thaw.TenantID, context []byte) []byte {
	b := []byte("thaw/keys/v1")
	b = binary.BigEndian.AppendUint32(b, uint32(len(tenant)))
	b = append(b, tenant...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(context)))
	return append(b, context...)
}

func parseKeyset(path string, data []byte) (tink.AEAD, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err == nil {
		var a tink.AEAD
		if a, err = aead.New(handle); err == nil {
			return a, nil
		}
	}
	return nil, thaw.Errorf("keys: read "+path, thaw.Corrupt, "it is not a key set: %w", err)
}

func writeNewKeyset(path string) error { return writeWithNewPrimary(path, keyset.NewManager()) }

func writeRotatedKeyset(path string, old []byte) error {
	if _, err := parseKeyset(path, old); err != nil {
		return err
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(old)))
	if err != nil {
		return err
	}
	return writeWithNewPrimary(path, keyset.NewManagerFromHandle(handle))
}

func writeWithNewPrimary(path string, m *keyset.Manager) error {
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	if err := m.SetPrimary(id); err != nil {
		return err
	}
	handle, err := m.Handle()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return err
	}
	return writePrivate(path, b.Bytes())
}
