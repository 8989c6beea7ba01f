package pid1

import (
	"fmt"
	"strings"

	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/network"
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
// nat may be nil where the spec has no NAT.
func StartOrder(spec sandbox.Spec, nat *network.NAT) wire.Start {
	o := wire.Start{
		Args: spec.Args, Env: spec.Env, Dir: spec.Dir, Hostname: spec.Hostname,
		Hosts: fmt.Sprintf("127.0.0.1 localhost %s sandbox.localdomain\n::1 localhost ip6-localhost ip6-loopback\n", spec.Hostname),
		UID:   sandbox.UID, GID: sandbox.GID, UpperBytes: spec.TmpBytes, Files: int64(spec.Files), Processes: int64(spec.Pids),
		WritableRoot: spec.WritableRoot,
	}
	if spec.Network == sandbox.NetworkNAT {
		var b strings.Builder
		for _, server := range nat.Nameservers() {
			fmt.Fprintf(&b, "nameserver %s\n", server)
		}
		o.Resolv = b.String()
	}
	return o
}
