// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// data is a struct seccomp_data.
type data struct {
	number, arch uint32
	args         [6]uint64
}

// run interprets a program as the kernel does.
func run(t interface{ Fatalf(string, ...any) }, p Program, d data) uint32 {
	var raw [64]byte
	binary.NativeEndian.PutUint32(raw[0:], d.number)
	binary.NativeEndian.PutUint32(raw[4:], d.arch)
	for i, a := range d.args {
		binary.NativeEndian.PutUint64(raw[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < p.Instructions(); {
		at := p[pc*instructionBytes:]
		code, jt, jf, k := binary.NativeEndian.Uint16(at), int(at[2]), int(at[3]), binary.NativeEndian.Uint32(at[4:])
		pc++
		branch := func(hit bool) {
			if hit {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case opLoad:
			acc = binary.NativeEndian.Uint32(raw[k:])
		case opAnd:
			acc &= k
		case opJump:
			pc += int(k)
		case opJeq:
			branch(acc == k)
		case opJgt:
			branch(acc > k)
		case opJge:
			branch(acc >= k)
		case opRet:
			return k
		default:
			t.Fatalf("instruction %d has code %#x", pc-1, code)
		}
	}
	t.Fatalf("ran off the end")
	return 0
}

// evaluate is the profile's meaning, straight.
func (r *ruleSet) evaluate(d data) uint32 {
	if d.number > r.last {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	for _, rule := range r.calls[d.number] {
		ok := true
		for _, c := range rule.conditions {
			a := d.args[c.Index]
			ok = ok && map[specs.LinuxSeccompOperator]bool{
				specs.OpEqualTo: a == c.Value, specs.OpNotEqual: a != c.Value,
				specs.OpLessThan: a < c.Value, specs.OpLessEqual: a <= c.Value,
				specs.OpGreaterThan: a > c.Value, specs.OpGreaterEqual: a >= c.Value,
				specs.OpMaskedEqual: a&c.Value == c.ValueTwo,
			}[c.Op]
		}
		if ok {
			return rule.action
		}
	}
	return r.fallback
}

func TestDefaultMeansTheProfile(t *testing.T) {
	rules, err := defaultRules()
	if err != nil {
		t.Fatal(err)
	}
	program, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions, %d calls named", program.Instructions(), len(rules.calls))
	for n := range rules.last + 50 {
		values := []uint64{0, 1, 8, 0x20000, 0x20008, 0xffffffff, 1 << 32, unix.CLONE_NEWUSER, unix.CLONE_NEWNS | 17, unix.CLONE_VM, 38, 40}
		for _, v := range values {
			d := data{number: n, arch: rules.audit, args: [6]uint64{v, v}}
			if got, want := run(t, program, d), rules.evaluate(d); got != want {
				t.Errorf("call %d(%#x): %#x, want %#x", n, v, got, want)
			}
		}
	}
}

// TestKnownAnswers names calls by hand, so that a mistake in reading the
// profile can't hide in both sides of the comparison above.
func TestKnownAnswers(t *testing.T) {
	program, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	const allow = uint32(unix.SECCOMP_RET_ALLOW)
	eperm := unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	enosys := unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	for _, c := range []struct {
		call string
		arg  uint64
		want uint32
	}{
		{"read", 0, allow}, {"execve", 0, allow}, {"futex", 0, allow}, {"openat2", 0, allow},
		{"clone", 17, allow}, {"clone", unix.CLONE_NEWUSER | 17, eperm}, {"clone3", 0, enosys},
		{"unshare", unix.CLONE_NEWUSER, eperm}, {"setns", 0, eperm}, {"mount", 0, eperm}, {"pivot_root", 0, eperm},
		{"bpf", 0, eperm}, {"keyctl", 0, eperm}, {"add_key", 0, eperm}, {"io_uring_setup", 0, eperm}, {"userfaultfd", 0, eperm},
		{"io_setup", 1, enosys}, {"sync", 0, unix.SECCOMP_RET_ERRNO}, {"fsync", 0, allow}, {"syncfs", 0, allow},
		{"perf_event_open", 0, eperm}, {"kexec_load", 0, eperm}, {"init_module", 0, eperm}, {"reboot", 0, eperm},
		{"personality", 0, allow}, {"personality", 0x20008, allow}, {"personality", 0x40000, eperm},
		{"socket", unix.AF_INET, allow}, {"socket", unix.AF_UNIX, allow}, {"socket", unix.AF_VSOCK, eperm}, {"socket", unix.AF_ALG, eperm},
	} {
		n, ok := info.SyscallNames[c.call]
		if !ok {
			t.Errorf("no number for %s", c.call)
			continue
		}
		if got := run(t, program, data{number: uint32(n), arch: uint32(info.ID), args: [6]uint64{c.arg}}); got != c.want {
			t.Errorf("%s(%#x): %#x, want %#x", c.call, c.arg, got, c.want)
		}
	}
	if got := run(t, program, data{number: 1, arch: unix.AUDIT_ARCH_I386}); got != actionKill {
		t.Errorf("a 32-bit call: %#x", got)
	}
	if info.ID == unix.AUDIT_ARCH_X86_64 {
		if got := run(t, program, data{number: x32Bit | 1, arch: uint32(info.ID)}); got != enosys {
			t.Errorf("an x32 call: %#x", got)
		}
	}
	if got := run(t, program, data{number: 100_000, arch: uint32(info.ID)}); got != enosys {
		t.Errorf("a call of the future: %#x", got)
	}
}

// TestEveryOperator compares compiled and straight meaning on made-up rules.
func TestEveryOperator(t *testing.T) {
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
		specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual}
	value := rapid.SampledFrom([]uint64{0, 1, 2, 0xfffffffe, 0xffffffff, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0)})
	rapid.Check(t, func(t *rapid.T) {
		rules := &ruleSet{audit: 7, fallback: unix.SECCOMP_RET_ERRNO | 1, last: 40, calls: map[uint32][]rule{}}
		for range rapid.IntRange(0, 60).Draw(t, "rules") {
			n := rapid.Uint32Range(0, 40).Draw(t, "call")
			r := rule{action: rapid.SampledFrom([]uint32{unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | 38}).Draw(t, "action")}
			for range rapid.IntRange(0, 3).Draw(t, "conditions") {
				r.conditions = append(r.conditions, specs.LinuxSeccompArg{Index: rapid.UintRange(0, 5).Draw(t, "index"),
					Value: value.Draw(t, "value"), ValueTwo: value.Draw(t, "value two"), Op: rapid.SampledFrom(ops).Draw(t, "op")})
			}
			rules.calls[n] = append(rules.calls[n], r)
		}
		program, err := rules.compile()
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint32(45) {
			d := data{number: n, arch: 7}
			for i := range d.args {
				d.args[i] = value.Draw(t, "argument")
			}
			if got, want := run(t, program, d), rules.evaluate(d); got != want {
				t.Fatalf("call %d %#x: %#x, want %#x", n, d.args, got, want)
			}
		}
	})
}
