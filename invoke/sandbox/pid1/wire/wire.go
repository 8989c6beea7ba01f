// SPDX-License-Identifier: Apache-2.0

// Package wire holds the messages between a jail's launcher and its init: what
// they mean and how they are encoded. It imports nothing, so that init stays
// small.
//
// Both ends are built from one tree and talk over a socket pair of packets, so
// there is no version. In order: Prepare to init, a Report of kind Prepared
// with the sockets of the loopback back (the Runtime API's listener, and a name
// server's by UDP and by TCP); then, whenever the jail is used, Start
// with the descriptors root, /tmp (both mounts, to a jail only), stdout, stderr
// (the latter two as the message says) to init; Started or Fault back; Ended at last. Failed may come instead
// of any.
//
// A message to init is its length and then its bytes, in as many packets as
// that takes: arguments and environment may be larger than a packet. The
// descriptors come with the first. A report to the launcher is one packet.
package wire

const (
	// MaxBytes bounds a message to init: twice what a kernel gives to arguments
	// and environment, which then says by itself that they are too many.
	MaxBytes = 4 << 20

	// PacketBytes bounds a packet: less than a socket's default buffer of 208 KiB.
	PacketBytes = 128 << 10

	// MaxReport bounds a report, whose texts are cut to MaxText.
	MaxReport = 16 << 10
	MaxText   = 4 << 10

	headBytes = 8
)

// Packets returns what is sent of a message.
func Packets(message []byte) [][]byte {
	var c coder
	n := int64(len(message))
	c.number(&n)
	rest := append(c.out, message...)
	var packets [][]byte
	for len(rest) > PacketBytes {
		packets, rest = append(packets, rest[:PacketBytes]), rest[PacketBytes:]
	}
	return append(packets, rest)
}

// Assemble returns the message whose packets next returns one after the other.
// It reports false where they are none.
func Assemble(next func() []byte) ([]byte, bool) {
	first := next()
	c := coder{in: first, reading: true}
	var n int64
	if c.number(&n); c.bad || n < 0 || n > MaxBytes {
		return nil, false
	}
	message := append(make([]byte, 0, n), first[headBytes:]...)
	for int64(len(message)) < n {
		packet := next()
		if len(packet) == 0 {
			return nil, false
		}
		message = append(message, packet...)
	}
	return message, int64(len(message)) == n
}

// APIPort is where a sandbox's listener listens on its loopback.
const APIPort = 9001

// DNSPort is where a sandbox's name server answers on its loopback: resolvers ask
// there also where no resolv.conf says so.
const DNSPort = 53

// Mount is a cgroup hierarchy that the sandbox sees, read-only, in
// /sys/fs/cgroup.
type Mount struct {
	Name    string // directory below /sys/fs/cgroup; "" is that directory itself
	Type    string // cgroup or cgroup2
	Options string
	Masks   []string // "name=text": files in it that are shown with that text
}

// Machine is what a program finds out of processors and memory.
type Machine struct {
	CPUs    []string // the processors that it runs on, by their numbers on the host
	Online  string   // the same, as sysfs lists them
	CPUInfo string   // /proc/cpuinfo
	Stat    string   // /proc/stat
	Meminfo string   // /proc/meminfo
}

// Texts returns what the files of [MachineFiles] hold, in their order.
func (m *Machine) Texts() [len(MachineFiles)]string {
	return [...]string{m.Online, m.CPUInfo, m.Stat, m.Meminfo}
}

// Prepare is what can be done before it is known what will run.
type Prepare struct {
	Cgroups []Mount
	Seccomp string // compiled filter
	Machine Machine
}

// Hostname is the name of every sandbox to itself.
const Hostname = "localhost"

// Start says what to run.
type Start struct {
	Args, Env        []string
	Dir              string
	Hosts, Resolv    string // contents of /etc/hosts and /etc/resolv.conf
	UID, GID         int64
	Files, Processes int64   // resource limits
	Stdout, Stderr   bool    // a descriptor is passed; /dev/null otherwise
	SharedOutput     bool    // stdout's descriptor serves stderr too
	Machine          Machine // in a jail: what differs from that of Prepare, the rest being empty
}

// Kind is the kind of a report.
type Kind int64

// The kinds of report.
const (
	Prepared Kind = 1 // ready; carries the sockets
	Started  Kind = 2 // the command was executed
	Fault    Kind = 3 // it can't be: Code is a sandbox.Fault, What its path
	Failed   Kind = 4 // the host's trouble: What was attempted
	Ended    Kind = 5 // the command ended: Code is its wait status
)

// Report is what init says.
type Report struct {
	Kind  Kind
	Code  int64
	Errno int64
	What  string
	Hint  string // of a Fault: what is really missing, for people; may be ""
}

// Encode returns the message.
func (m *Prepare) Encode() []byte { var c coder; m.code(&c); return c.out }

// Decode fills the message and reports whether b is one.
func (m *Prepare) Decode(b []byte) bool {
	c := coder{in: b, reading: true}
	m.code(&c)
	return c.whole()
}

// Encode returns the message.
func (m *Start) Encode() []byte { var c coder; m.code(&c); return c.out }

// Decode fills the message and reports whether b is one.
func (m *Start) Decode(b []byte) bool { c := coder{in: b, reading: true}; m.code(&c); return c.whole() }

// Encode returns the message.
func (m *Report) Encode() []byte { var c coder; m.code(&c); return c.out }

// Decode fills the message and reports whether b is one.
func (m *Report) Decode(b []byte) bool {
	c := coder{in: b, reading: true}
	m.code(&c)
	return c.whole()
}

func (m *Prepare) code(c *coder) {
	n := int64(len(m.Cgroups))
	c.number(&n)
	if c.reading && !c.bad && n >= 0 && n <= int64(len(c.in)) {
		m.Cgroups = make([]Mount, n)
	}
	for i := range m.Cgroups {
		c.text(&m.Cgroups[i].Name)
		c.text(&m.Cgroups[i].Type)
		c.text(&m.Cgroups[i].Options)
		c.list(&m.Cgroups[i].Masks)
	}
	c.text(&m.Seccomp)
	m.Machine.code(c)
}

func (m *Start) code(c *coder) {
	c.list(&m.Args)
	c.list(&m.Env)
	for _, s := range []*string{&m.Dir, &m.Hosts, &m.Resolv} {
		c.text(s)
	}
	for _, n := range []*int64{&m.UID, &m.GID, &m.Files, &m.Processes} {
		c.number(n)
	}
	for _, b := range []*bool{&m.Stdout, &m.Stderr, &m.SharedOutput} {
		c.flag(b)
	}
	m.Machine.code(c)
}

func (m *Machine) code(c *coder) {
	c.list(&m.CPUs)
	for _, s := range []*string{&m.Online, &m.CPUInfo, &m.Stat, &m.Meminfo} {
		c.text(s)
	}
}

func (m *Report) code(c *coder) {
	if !c.reading {
		m.What, m.Hint = m.What[:min(len(m.What), MaxText)], m.Hint[:min(len(m.Hint), MaxText)]
	}
	c.number((*int64)(&m.Kind))
	c.number(&m.Code)
	c.number(&m.Errno)
	c.text(&m.What)
	c.text(&m.Hint)
}

// coder walks a message's fields in one order for both directions, so that the
// two can't disagree. Numbers are 8 bytes, little-endian; a text is its length
// and its bytes.
type coder struct {
	out     []byte
	in      []byte
	reading bool
	bad     bool
}

func (c *coder) whole() bool { return !c.bad && len(c.in) == 0 }

func (c *coder) number(n *int64) {
	if !c.reading {
		for shift := 0; shift < 64; shift += 8 {
			c.out = append(c.out, byte(uint64(*n)>>shift))
		}
		return
	}
	if len(c.in) < 8 {
		c.bad, c.in = true, nil
		return
	}
	var v uint64
	for i := range 8 {
		v |= uint64(c.in[i]) << (8 * i)
	}
	*n, c.in = int64(v), c.in[8:]
}

func (c *coder) flag(b *bool) {
	var n int64
	if *b {
		n = 1
	}
	c.number(&n)
	*b = n == 1
}

func (c *coder) text(s *string) {
	n := int64(len(*s))
	c.number(&n)
	if !c.reading {
		c.out = append(c.out, *s...)
		return
	}
	if c.bad || n < 0 || n > int64(len(c.in)) {
		c.bad, c.in = true, nil
		return
	}
	*s, c.in = string(c.in[:n]), c.in[n:]
}

func (c *coder) list(l *[]string) {
	n := int64(len(*l))
	c.number(&n)
	if c.reading {
		if c.bad || n < 0 || n > int64(len(c.in)) {
			c.bad, c.in = true, nil
			return
		}
		*l = make([]string, n)
	}
	for i := range *l {
		c.text(&(*l)[i])
	}
}
