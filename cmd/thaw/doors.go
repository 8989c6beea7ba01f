// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/door"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/internal/spool"
)

const (
	// minConnections is enough for a client of each kind.
	minConnections = 16

	// adminConnections are those of the admin listener and of the admin socket,
	// each: a few monitors, and one for each log that is followed.
	adminConnections = 256

	// bodyBytes bounds the bodies of API requests in files: 290 of the largest.
	bodyBytes = 4 << 30
)

// doorFlags bound the connections of the public listener.
type doorFlags struct {
	Connections int `help:"Connections to the API, the ECR API and the registry at once." default:"4096"`
	AddressConn int `name:"connections-per-address" help:"The same for one address (of IPv6, one /64); by default half of --connections." placeholder:"N"`
}

// perAddress is how many connections one address may have.
func (f doorFlags) perAddress() int {
	if f.AddressConn > 0 {
		return min(f.AddressConn, f.Connections)
	}
	return f.Connections / 2
}

// check refuses what no server can work with.
func (f doorFlags) check() error {
	if f.Connections < minConnections {
		return thaw.Errorf("serve", thaw.Invalid, "--connections %d: at least %d are needed", f.Connections, minConnections)
	}
	if f.AddressConn < 0 {
		return thaw.Errorf("serve", thaw.Invalid, "--connections-per-address %d: it is not a positive number", f.AddressConn)
	}
	return nil
}

// doors are those of the listeners.
type doors struct{ public, monitoring, socket *door.Door }

// openDoors makes what stands before the listeners.
func (n *node) openDoors(context.Context) error {
	n.doors = doors{
		public:     door.New(door.Options{Name: "connections", Connections: n.cmd.Connections, PerAddress: n.cmd.perAddress()}),
		monitoring: door.New(door.Options{Name: "monitoring-connections", Connections: adminConnections, PerAddress: adminConnections}),
		socket:     door.New(door.Options{Name: "socket-connections", Connections: adminConnections, PerAddress: adminConnections}),
	}
	dir := filepath.Join(n.cmd.Data, "run", "bodies")
	n.bodies = spool.New(dir, bodyBytes)
	for _, pools := range [][]*fair.Pool{n.doors.public.Pools(), n.doors.monitoring.Pools(), n.doors.socket.Pools(), n.bodies.Pools()} {
		n.share(pools...)
	}
	return errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700))
}
