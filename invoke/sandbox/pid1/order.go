// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// Limits returns the limits of a sandbox's group at its start.
func Limits(spec sandbox.Spec) cgroup.Limits {
	l := cgroup.Limits{MemoryBytes: spec.MemoryBytes, Shares: spec.CPUs, Pids: spec.Pids}
	if !spec.BoostInit {
		l.CPUs = spec.CPUs
	}
	return l
}

// StartOrder returns what init is told of a prepared spec, but for its output.
// names answers its look-ups, or refuses them if nil.
func StartOrder(spec sandbox.Spec, names *lookup.Forwarder, machine wire.Machine) wire.Start {
	return wire.Start{
		Args: spec.Args, Env: spec.Env, Dir: spec.Dir,
		Hosts:  "127.0.0.1 " + wire.Hostname + " sandbox.localdomain\n::1 " + wire.Hostname + " ip6-localhost ip6-loopback\n",
		Resolv: names.ResolvConf(),
		UID:    sandbox.UID, GID: sandbox.GID, Files: int64(spec.Files), Processes: int64(spec.Pids),
		Machine: machine,
	}
}
