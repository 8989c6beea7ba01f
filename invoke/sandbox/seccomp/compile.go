// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Offsets in struct seccomp_data, and the size of struct sock_filter.
const (
	offsetNumber     = 0
	offsetArch       = 4
	offsetArgs       = 16
	instructionBytes = 8
)

// instruction is a struct sock_filter.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

const (
	opLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump = unix.BPF_JMP | unix.BPF_JA
	opJeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opJgt  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opJge  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opRet  = unix.BPF_RET | unix.BPF_K
)

// compile makes a binary search over the spans: a call takes about seven
// comparisons, where a list of 300 would take 150.
func (r *ruleSet) compile() (Program, error) {
	tree, err := r.search(r.spans())
	if err != nil {
		return nil, err
	}
	code := []instruction{
		{code: opLoad, k: offsetArch},
		{code: opJeq, k: r.audit, jt: 1},
		{code: opRet, k: actionKill},
		{code: opLoad, k: offsetNumber},
	}
	if r.x32 {
		code = append(code,
			instruction{code: opJge, k: x32Bit, jf: 1},
			instruction{code: opRet, k: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	}
	code = append(code, tree...)
	if len(code) > unix.BPF_MAXINSNS {
		return nil, thaw.Errorf("seccomp: compile", thaw.Internal, "%d instructions, the kernel takes %d", len(code), unix.BPF_MAXINSNS)
	}
	out := make(Program, 0, len(code)*instructionBytes)
	for _, i := range code {
		out = binary.NativeEndian.AppendUint16(out, i.code)
		out = append(out, i.jt, i.jf)
		out = binary.NativeEndian.AppendUint32(out, i.k)
	}
	return out, nil
}

// search returns code that decides among spans; the call's number is loaded.
func (r *ruleSet) search(spans []span) ([]instruction, error) {
	if len(spans) == 1 {
		if spans[0].rules == nil {
			return []instruction{{code: opRet, k: spans[0].fixed}}, nil
		}
		return r.decide(spans[0].rules)
	}
	mid := len(spans) / 2
	low, err := r.search(spans[:mid])
	if err != nil {
		return nil, err
	}
	high, err := r.search(spans[mid:])
	if err != nil {
		return nil, err
	}
	var code []instruction
	if len(low) <= math.MaxUint8 {
		code = append(code, instruction{code: opJge, k: spans[mid].first, jt: uint8(len(low))})
	} else {
		// A conditional jump reaches 255 instructions; an unconditional one any.
		code = append(code,
			instruction{code: opJge, k: spans[mid].first, jf: 1},
			instruction{code: opJump, k: uint32(len(low))})
	}
	return append(append(code, low...), high...), nil
}

// decide returns code that tries rules in order.
func (r *ruleSet) decide(rules []rule) ([]instruction, error) {
	var code []instruction
	for _, rule := range rules {
		var one []instruction
		for _, c := range rule.conditions {
			cond, err := condition(c)
			if err != nil {
				return nil, err
			}
			one = append(one, cond...)
		}
		one = append(one, instruction{code: opRet, k: rule.action})
		if len(one) >= jumpFail {
			return nil, thaw.Errorf("seccomp: compile", thaw.Internal, "a rule of %d instructions", len(one))
		}
		for i := range one { // failed conditions go on after this rule's return
			one[i].jt = aim(one[i].jt, len(one)-1-i)
			one[i].jf = aim(one[i].jf, len(one)-1-i)
		}
		code = append(code, one...)
	}
	return append(code, instruction{code: opRet, k: r.fallback}), nil
}

// jumpFail stands for "the condition does not hold" until the length of the
// rule is known.
const jumpFail = 255

func aim(jump uint8, toEnd int) uint8 {
	if jump == jumpFail {
		return uint8(toEnd)
	}
	return jump
}

// condition returns code that falls through where c holds and jumps jumpFail
// where not. Arguments have 64 bits, the machine 32: high half first.
func condition(c specs.LinuxSeccompArg) ([]instruction, error) {
	if c.Index > 5 {
		return nil, thaw.Errorf("seccomp: compile", thaw.Invalid, "argument %d", c.Index)
	}
	lo := uint32(offsetArgs + 8*c.Index) // both machines that thaw runs on are little-endian
	hi := lo + 4
	vhi, vlo := uint32(c.Value>>32), uint32(c.Value)
	loadHi := instruction{code: opLoad, k: hi}
	loadLo := instruction{code: opLoad, k: lo}
	// ordered compares hi first: above and below say where a differing high
	// half leads, last tests the low half.
	ordered := func(above, below uint8, last instruction) []instruction {
		return []instruction{loadHi, {code: opJgt, k: vhi, jt: above}, {code: opJeq, k: vhi, jf: below}, loadLo, last}
	}
	switch c.Op {
	case specs.OpEqualTo:
		return []instruction{loadHi, {code: opJeq, k: vhi, jf: jumpFail}, loadLo, {code: opJeq, k: vlo, jf: jumpFail}}, nil
	case specs.OpNotEqual:
		return []instruction{loadHi, {code: opJeq, k: vhi, jf: 2}, loadLo, {code: opJeq, k: vlo, jt: jumpFail}}, nil
	case specs.OpMaskedEqual:
		return []instruction{
			loadHi, {code: opAnd, k: vhi}, {code: opJeq, k: uint32(c.ValueTwo >> 32), jf: jumpFail},
			loadLo, {code: opAnd, k: vlo}, {code: opJeq, k: uint32(c.ValueTwo), jf: jumpFail},
		}, nil
	case specs.OpGreaterThan:
		return ordered(3, jumpFail, instruction{code: opJgt, k: vlo, jf: jumpFail}), nil
	case specs.OpGreaterEqual:
		return ordered(3, jumpFail, instruction{code: opJge, k: vlo, jf: jumpFail}), nil
	case specs.OpLessThan:
		return ordered(jumpFail, 2, instruction{code: opJge, k: vlo, jt: jumpFail}), nil
	case specs.OpLessEqual:
		return ordered(jumpFail, 2, instruction{code: opJgt, k: vlo, jt: jumpFail}), nil
	}
	return nil, thaw.Errorf("seccomp: compile", thaw.Invalid, "operator %q", c.Op)
}
