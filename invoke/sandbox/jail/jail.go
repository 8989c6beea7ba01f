// SPDX-License-Identifier: Apache-2.0

// Package jail is thaw's own sandbox launcher. It keeps a pool of prepared
// jails: an init in new namespaces (user, pid, mount, ipc, uts, network,
// cgroup), in its control groups, with its loopback up, the Runtime API's port
// open and everything but the root mounted. A start sends a root and a command
// to one of them.
//
// Files: launcher.go starts and closes; prepared.go
// makes one. Package pid1 has the program inside and the life of a started
// sandbox. docs/sandbox.md says what protects from what.
package jail

import (
	"log/slog"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/pid1"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

// Config configures a [Launcher].
type Config struct {
	// Instance names this process's control groups and network table:
	// 1 to 16 of [a-z0-9-]. What an earlier process of the same instance left
	// is removed at the start; two live processes must not share one.
	Instance string

	// Pool is how many jails wait prepared. Each costs about 0.7 MB. With 0
	// every start makes its own.
	Pool int

	// Tmp has the sandboxes' /tmp. It is not closed by the launcher.
	Tmp *tmpdisk.Store

	// NAT configures outbound network; nil allows no [sandbox.NetworkNAT].
	// Where it is set, the jails of the pool are made for NAT.
	NAT *network.Config

	// Names answers what sandboxes behind NAT ask a name server; nil refuses.
	// All others are refused.
	Names *lookup.Forwarder

	// Init is the program that becomes process 1; nil is the one embedded by
	// `make build`. Tests give one that they built from the same sources.
	Init []byte

	// Log takes what goes wrong behind the scenes; nil discards.
	Log *slog.Logger
}

func (c Config) validate() error {
	switch {
	case !network.ValidInstance(c.Instance):
		return thaw.Errorf("jail: config", thaw.Invalid, "instance %q is not 1 to 16 of [a-z0-9-]", c.Instance)
	case c.Tmp == nil:
		return thaw.Errorf("jail: config", thaw.Invalid, "Tmp is required")
	case c.Pool < 0 || c.Pool > pid1.MaxSlots:
		return thaw.Errorf("jail: config", thaw.Invalid, "pool of %d", c.Pool)
	}
	return nil
}

func (c Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}
