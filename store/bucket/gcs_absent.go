// SPDX-License-Identifier: Apache-2.0

//go:build !gcs

package bucket

import (
	"context"
	"errors"
)

// openGCS says how to have what this build lacks: Google's library brings gRPC
// with it, which everyone's thaw would carry (docs/decisions/0003-object-store.md).
func openGCS(context.Context, location, Options) (service, error) {
	return service{}, errors.New("this thaw was built without Google Cloud Storage: build it with \"make build TAGS=gcs\"")
}
