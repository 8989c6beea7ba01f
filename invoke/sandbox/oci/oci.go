// SPDX-License-Identifier: Apache-2.0

// Package oci is the kind of sandbox that an OCI runtime isolates, crun or runc,
// by its command line. The runtime makes the namespaces but two, the mounts,
// the control groups and the filter; process 1 of the container is our own
// program (package pid1), as in a jail, so that faults, output, limits and ends
// are told alike.
//
// The user and network namespace are made by us and given by path: the root's
// owners are mapped through the one, and the Runtime API listens in the other.
//
// Files: launcher.go starts and closes; container.go is one container's making
// and release; holder.go makes its namespaces; enclave.go is the mount
// namespace that the runtime runs in; bundle.go is its configuration;
// runtime.go is the command line.
package oci

import (
	"log/slog"
	"os"
	"path/filepath"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

// DefaultRuntime is looked for on PATH where the configuration names none.
const DefaultRuntime = "crun"

// runFolder holds the folders of all instances: state and bundles.
const runFolder = "/run/thaw-oci"

// Config configures a [Launcher].
type Config struct {
	// Instance names this process's control groups, network table and folder
	// below /run: 1 to 16 of [a-z0-9-]. What an earlier process of the same
	// instance left is removed at the start; two live processes must not share
	// one.
	Instance string

	// Runtime is the OCI runtime: a name on PATH, or a path; "" is
	// [DefaultRuntime].
	Runtime string

	// Pool is how many sandboxes' namespaces are made ahead of starts. Where NAT
	// is set, they are made for it.
	Pool int

	// Tmp has the sandboxes' /tmp. It is not closed by the launcher.
	Tmp *tmpdisk.Store

	// NAT configures outbound network; nil allows no [sandbox.NetworkNAT].
	NAT *network.Config

	// Names answers what sandboxes behind NAT ask a name server; nil refuses.
	// All others are refused.
	Names *lookup.Forwarder

	// Init is the program that becomes process 1; nil is the one embedded by
	// `make build`.
	Init []byte

	// Log takes what goes wrong behind the scenes; nil discards.
	Log *slog.Logger
}

// Sweep removes the state and bundles that a killed process of an instance
// left. Its control groups, and with them its processes, must be gone: opening
// a launcher of any kind sees to that. Its mounts went with its processes.
func Sweep(instance string) error {
	if !network.ValidInstance(instance) {
		return thaw.Errorf("oci: sweep", thaw.Invalid, "instance %q is not 1 to 16 of [a-z0-9-]", instance)
	}
	err := os.RemoveAll(filepath.Join(runFolder, instance))
	_ = os.Remove(runFolder) // stays where another instance is below it
	return thaw.Wrap("oci: sweep", err)
}
