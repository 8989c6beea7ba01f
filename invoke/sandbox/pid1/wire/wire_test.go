// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func samples() (Prepare, Start, Report) {
	return Prepare{Cgroups: []Mount{{"memory", "cgroup", "memory", []string{"a=b"}}, {"", "cgroup2", "", []string{}}}, Seccomp: "\x00\xff", Machine: Machine{CPUs: []string{"0"}, Online: "0\n"}},
		Start{Args: []string{"/a", ""}, Env: []string{"A=b"}, Dir: "/", Hosts: "x\n", UID: 993, GID: 990,
			Files: 1 << 40, Processes: 3, Stdout: true, SharedOutput: true, Machine: Machine{[]string{"1", "9"}, "1,9\n", "c", "s", "m"}},
		Report{Kind: Fault, Code: 2, Errno: 13, What: "/a", Hint: "b"}
}

func TestRoundTrip(t *testing.T) {
	p, s, r := samples()
	var p2 Prepare
	var s2 Start
	var r2 Report
	if !p2.Decode(p.Encode()) || !reflect.DeepEqual(p, p2) {
		t.Errorf("prepare: %+v", p2)
	}
	if !s2.Decode(s.Encode()) || !reflect.DeepEqual(s, s2) {
		t.Errorf("start: %+v", s2)
	}
	if !r2.Decode(r.Encode()) || r != r2 {
		t.Errorf("report: %+v", r2)
	}
}

func TestCutAndLongMessagesAreRefused(t *testing.T) {
	p, s, r := samples()
	for name, c := range map[string]struct {
		data   []byte
		decode func([]byte) bool
	}{
		"prepare": {p.Encode(), func(b []byte) bool { var m Prepare; return m.Decode(b) }},
		"start":   {s.Encode(), func(b []byte) bool { var m Start; return m.Decode(b) }},
		"report":  {r.Encode(), func(b []byte) bool { var m Report; return m.Decode(b) }},
	} {
		for n := range c.data {
			if c.decode(c.data[:n]) {
				t.Errorf("%s: the first %d bytes of %d pass", name, n, len(c.data))
			}
		}
		if c.decode(append(c.data, 0)) {
			t.Errorf("%s: a byte too many passes", name)
		}
	}
}

// FuzzDecode: what the border takes in must not break the other side.
func FuzzDecode(f *testing.F) {
	p, s, r := samples()
	f.Add(p.Encode())
	f.Add(s.Encode())
	f.Add(r.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Prepare
		var s Start
		var r Report
		p.Decode(b)
		if s.Decode(b) && string(s.Encode()) != string(b) && !s.Stdout && !s.Stderr && !s.SharedOutput {
			// A flag is true for 1 alone, so other numbers come back as 0.
			var again Start
			if !again.Decode(s.Encode()) {
				t.Fatal("does not decode what it encoded")
			}
		}
		r.Decode(b)
	})
}

// TestPackets: a message of any size arrives whole, or not at all.
func TestPackets(t *testing.T) {
	for _, n := range []int{0, 1, PacketBytes - headBytes - 1, PacketBytes - headBytes, PacketBytes - headBytes + 1, 3*PacketBytes + 5, MaxBytes} {
		message := bytes.Repeat([]byte("x"), n)
		packets := Packets(message)
		from := func(list [][]byte) func() []byte {
			return func() []byte {
				if len(list) == 0 {
					return nil
				}
				packet := list[0]
				list = list[1:]
				if len(packet) == 0 || len(packet) > PacketBytes {
					t.Fatalf("%d: a packet of %d bytes", n, len(packet))
				}
				return packet
			}
		}
		if got, ok := Assemble(from(packets)); !ok || !bytes.Equal(got, message) {
			t.Errorf("%d bytes: %v, %d bytes", n, ok, len(got))
		}
		if n == 0 {
			continue
		}
		last := len(packets) - 1
		cut := append(packets[:last:last], packets[last][:len(packets[last])-1])
		if len(cut[last]) == 0 {
			cut = cut[:last]
		}
		if _, ok := Assemble(from(cut)); ok {
			t.Errorf("%d bytes without the last pass", n)
		}
		if _, ok := Assemble(from(append(packets[:last:last], append(bytes.Clone(packets[last]), 0)[:min(len(packets[last])+1, PacketBytes)]))); ok && len(packets[last]) < PacketBytes {
			t.Errorf("%d bytes and one more pass", n)
		}
	}
	if _, ok := Assemble(func() []byte { return []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f} }); ok {
		t.Error("a message of any length is taken")
	}
}

// TestReportsFit: whatever an image names its entry point, a report is one packet.
func TestReportsFit(t *testing.T) {
	r := Report{Kind: Fault, What: strings.Repeat("w", 1<<20), Hint: strings.Repeat("h", 1<<20)}
	if n := len(r.Encode()); n > MaxReport {
		t.Fatalf("%d bytes", n)
	}
}
