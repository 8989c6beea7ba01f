// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"context"
	"errors"
	"net"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// socketCount is how many sockets init opens.
const socketCount = 3

// Inside are the sockets on a sandbox's own loopback.
type Inside struct {
	API net.Listener
	DNS lookup.Sockets
}

// Prepared waits until an init is prepared, and returns the sockets that it
// has opened.
func (c Control) Prepared(ctx context.Context) (inside Inside, err error) {
	report, files, err := c.Receive(ctx)
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close()) // the sockets are duplicates
		}
		if err != nil {
			inside.Close()
		}
	}()
	if err != nil {
		return inside, err
	}
	if report.Kind != wire.Prepared || len(files) != socketCount {
		return inside, thaw.Errorf("pid1: init", thaw.Internal, "it sent report %d with %d sockets", report.Kind, len(files))
	}
	if inside.API, err = net.FileListener(files[0]); err != nil {
		return inside, err
	}
	if inside.DNS.UDP, err = net.FilePacketConn(files[1]); err != nil {
		return inside, err
	}
	inside.DNS.TCP, err = net.FileListener(files[2])
	return inside, err
}

// Close closes the sockets. Closing none, or again, is no error.
func (i Inside) Close() {
	if i.API != nil {
		_ = i.API.Close()
	}
	i.DNS.Close()
}
