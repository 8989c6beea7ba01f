// SPDX-License-Identifier: Apache-2.0

// Package seccomp compiles the containers' default seccomp profile to a BPF
// program, once, in pure Go: libseccomp needs cgo, and compiling the profile
// is a quarter of what an OCI runtime spends on a start. It knows the
// profile's rules and the machine's system call numbers, nothing of sandboxes.
//
// The program is stricter than the profile in two places: system calls of any
// but the machine's own ABI (32-bit ones, x32) are not let through, and a few
// that reach beyond a container are answered without being made. Calls that
// are newer than the tables fail with ENOSYS, so that programs fall back; all
// others that the profile does not allow fail with EPERM.
package seccomp

import (
	"maps"
	"runtime"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Program is a compiled filter: struct sock_filter, one after the other, in
// the machine's byte order. That is what seccomp(2) takes and what
// seccomp_export_bpf(3) writes.
type Program []byte

// Instructions returns how many instructions the program has.
func (p Program) Instructions() int { return len(p) / instructionBytes }

// Default compiles the default profile for a process without capabilities on
// this machine. The error is [thaw.Unavailable] on a machine whose system
// calls are not known.
func Default() (Program, error) {
	rules, err := defaultRules()
	if err != nil {
		return nil, err
	}
	return rules.compile()
}

// Profile returns the default profile for a process without capabilities, but
// for a few calls that are answered without being made, for those who compile it
// themselves.
func Profile() (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	p, err := profile.GetDefaultProfile(spec)
	if err != nil {
		return nil, thaw.Wrap("seccomp: default profile", err)
	}
	for i := range p.Syscalls {
		call := &p.Syscalls[i]
		call.Names = slices.DeleteFunc(call.Names, func(name string) bool { _, ours := answers[name]; return ours })
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		errno := uint(answers[name])
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &errno})
	}
	return p, nil
}

// answers are what calls return without being made, which the profile allows
// but which reach beyond a container.
var answers = map[string]unix.Errno{
	"io_setup": unix.ENOSYS, // all users of the host share a number of events (fs.aio-max-nr); libraries use threads then
	"sync":     0,           // writes back every file system of the host; syncfs and fsync do what a program needs
}

// x32Bit marks system calls of the x32 ABI, which share x86-64's audit number.
const x32Bit = 0x40000000

// actionKill ends the process: nothing falls back from a foreign ABI.
const actionKill = uint32(unix.SECCOMP_RET_KILL_PROCESS)

// ruleSet is a profile brought into the form that compile needs.
type ruleSet struct {
	audit    uint32
	x32      bool
	fallback uint32            // action for known calls without a matching rule
	last     uint32            // greatest known call; ENOSYS above it
	calls    map[uint32][]rule // by system call number
}

// rule is one way for a call to get an action: all conditions hold.
type rule struct {
	action     uint32
	conditions []specs.LinuxSeccompArg
}

func defaultRules() (*ruleSet, error) {
	const op = "seccomp: default profile"
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Unavailable, "%w", err)
	}
	p, err := Profile()
	if err != nil {
		return nil, err
	}
	fallback, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	rules := &ruleSet{audit: uint32(info.ID), x32: runtime.GOARCH == "amd64", fallback: fallback, calls: map[uint32][]rule{}}
	for n := range info.SyscallNumbers {
		rules.last = max(rules.last, uint32(n))
	}
	for _, call := range p.Syscalls {
		a, err := action(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, thaw.Wrap(op, err)
		}
		for _, name := range call.Names {
			n, known := info.SyscallNames[name]
			if !known {
				continue // a call of another architecture
			}
			rules.calls[uint32(n)] = append(rules.calls[uint32(n)], rule{action: a, conditions: call.Args})
		}
	}
	return rules, nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		if errno == nil {
			return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), nil
		}
		return unix.SECCOMP_RET_ERRNO | uint32(*errno)&unix.SECCOMP_RET_DATA, nil
	case specs.ActKill, specs.ActKillThread, specs.ActKillProcess:
		return actionKill, nil
	}
	return 0, thaw.Errorf("seccomp: action", thaw.Invalid, "%q is not supported", a)
}

// span is a run of system calls, up to the next span's first, that are
// answered alike.
type span struct {
	first uint32
	rules []rule // nil: fallback
	fixed uint32 // the action where a call needs no look at its arguments
}

// spans cuts the number space into as few runs as possible.
func (r *ruleSet) spans() []span {
	numbers := make([]uint32, 0, len(r.calls))
	for n := range r.calls {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	list := []span{{first: 0, fixed: r.fallback}}
	add := func(s span) {
		last := &list[len(list)-1]
		switch {
		case s.rules == nil && last.rules == nil && s.fixed == last.fixed:
		case last.first == s.first:
			*last = s
		default:
			list = append(list, s)
		}
	}
	next := uint32(0)
	for _, n := range numbers {
		if n > next {
			add(span{first: next, fixed: r.fallback})
		}
		rules := r.calls[n]
		// The first rule without conditions decides; those after it are dead.
		if len(rules[0].conditions) == 0 {
			add(span{first: n, fixed: rules[0].action})
		} else {
			add(span{first: n, rules: rules})
		}
		next = n + 1
	}
	if next <= r.last {
		add(span{first: next, fixed: r.fallback})
		next = r.last + 1
	}
	add(span{first: next, fixed: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	return list
}
