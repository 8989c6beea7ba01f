// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"fmt"

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
		Args: spec.Args, Env: spec.Env, Dir: spec.Dir, Hostname: spec.Hostname,
		Hosts:  fmt.Sprintf("127.0.0.1 localhost %s sandbox.localdomain\n::1 localhost ip6-localhost ip6-loopback\n", spec.Hostname),
		Resolv: names.ResolvConf(),
		UID:    sandbox.UID, GID: sandbox.GID, UpperBytes: spec.TmpBytes, Files: int64(spec.Files), Processes: int64(spec.Pids),
		WritableRoot: spec.WritableRoot, Machine: machine,
	}
}
