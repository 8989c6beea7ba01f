package wire

import (
	"reflect"
	"testing"
)

func samples() (Prepare, Start, Report) {
	return Prepare{Cgroups: []Mount{{"memory", "cgroup", "memory"}, {"", "cgroup2", ""}}, Seccomp: "\x00\xff"},
		Start{Args: []string{"/a", ""}, Env: []string{"A=b"}, Dir: "/", Hostname: "h", Hosts: "x\n", UID: 993, GID: 990,
			TmpBytes: 1 << 40, Files: 2, Processes: 3, WritableRoot: true, Stdout: true, SharedOutput: true},
		Report{Kind: Fault, Code: 2, Errno: 13, What: "/a"}
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
		if s.Decode(b) && string(s.Encode()) != string(b) && !s.WritableRoot && !s.Stdout && !s.Stderr && !s.SharedOutput {
			// A flag is true for 1 alone, so other numbers come back as 0.
			var again Start
			if !again.Decode(s.Encode()) {
				t.Fatal("does not decode what it encoded")
			}
		}
		r.Decode(b)
	})
}
