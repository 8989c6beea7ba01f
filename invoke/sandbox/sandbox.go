// SPDX-License-Identifier: Apache-2.0

// Package sandbox holds the contract of a sandbox: one isolated environment
// that runs one process tree from a read-only root directory, under limits,
// with a listener on its own loopback. It knows a directory, a command and
// limits; it knows nothing of functions, images or the Runtime API.
//
// Two kinds implement it: jail, our own launcher with a pool of prepared jails,
// and oci, by the command line of an OCI runtime. sandboxtest is the suite that each kind must pass. docs/sandbox.md says what
// each layer protects from what.
package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"syscall"

	"thaw.dev/thaw"
)

// Numbers that every kind shares, so that a function can't tell them apart.
const (
	// UID and GID are the user and group that the function runs as, as seen
	// inside.
	UID = thaw.UserID
	GID = thaw.GroupID

	// APIAddress is where [Sandbox.Listener] listens, inside the sandbox.
	APIAddress = "127.0.0.1:9001"

	// DefaultPids and DefaultFiles are Lambda's limits on processes plus
	// threads and on open files (AWS, "Lambda quotas").
	DefaultPids  = 1024
	DefaultFiles = 1024

	// DefaultTmpBytes is Lambda's smallest, and default, /tmp.
	DefaultTmpBytes = 512 << 20

	// MemoryBytesPerCPU is how much memory buys one CPU: 1,769 MB (AWS,
	// "Configure Lambda function memory").
	MemoryBytesPerCPU = 1769 << 20
)

// Network says what a sandbox can reach.
type Network uint8

// The networks.
const (
	// NetworkNone leaves a sandbox its own loopback and nothing else.
	NetworkNone Network = iota
	// NetworkNAT adds outbound IPv4 behind the host's address; the host
	// itself, other sandboxes and link-local addresses stay unreachable.
	NetworkNAT
)

// Spec describes a sandbox. A zero number means the default or no limit, as
// the field says.
type Spec struct {
	// ID names the sandbox in cgroups and logs: 1 to 48 of [a-z0-9-], unique
	// among the sandboxes of a launcher that are not yet stopped.
	ID string

	// Owner is whom what sandboxes share is accounted to: a tenant.
	Owner string

	// Root is the directory that becomes "/", read-only: usually an EROFS mount. It holds
	// the directories proc, sys, dev and tmp. The launcher holds the mount
	// busy until Stop returns.
	Root string

	Args []string // the command; Args[0] without a slash is looked up in PATH of Env
	Env  []string // the whole environment, "NAME=value"
	Dir  string   // working directory inside; "" is "/"

	MemoryBytes int64   // memory; files in /tmp are none of it; 0 is no limit
	CPUs        float64 // CPU time per time, see [CPUsFor]; 0 is no limit
	BoostInit   bool    // CPUs is enforced only once EndBoost is called
	Pids        int     // processes plus threads; 0 is DefaultPids
	Files       int     // open files of a process; 0 is DefaultFiles
	TmpBytes    int64   // size of /tmp; 0 is DefaultTmpBytes

	// Stdout and Stderr take what the sandbox prints, each from one goroutine
	// that ends before Done closes. A writer that blocks stalls the sandbox's
	// prints, not its end. nil discards. A launcher writes a line of its own to
	// Stderr if /tmp is smaller than was asked for.
	Stdout, Stderr io.Writer

	Network Network

	// LookupFailed is told, once, of the first name that the sandbox looks up
	// and that can't be resolved for want of a network or of a name server that
	// answers. It is not called once Stop returned nil; nil discards.
	LookupFailed func(name string, why error)
}

// Launcher starts sandboxes of one kind. It is safe for concurrent use.
type Launcher interface {
	// Start returns once the command was executed or was found impossible to
	// execute. Its error is the host's trouble ([thaw.Unavailable],
	// [thaw.Throttled], [thaw.Internal]) or a spec that makes no sense
	// ([thaw.Invalid]), and then nothing is left to stop. A command or working
	// directory that the root does not have is no error of Start: the sandbox
	// is then already done, and Exit().Err is an [*ExecError].
	Start(ctx context.Context, spec Spec) (Sandbox, error)

	// Close stops every sandbox and releases what the launcher holds.
	Close(ctx context.Context) error
}

// Sandbox is a started sandbox. It is safe for concurrent use. Every one must
// be stopped, also one that is done.
type Sandbox interface {
	// Listener accepts the connections that are made to [APIAddress] inside.
	// It is open before the command runs; Stop closes it.
	Listener() net.Listener

	// Freeze returns once no process of the sandbox runs any more. Thaw undoes
	// it. Both are idempotent, and do nothing once the sandbox is done.
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error

	// Done is closed when the command has ended, all processes of the sandbox
	// are gone and its output is read.
	Done() <-chan struct{}

	// Exit says how the command ended; it is valid once Done is closed.
	Exit() Exit

	// Stop kills every process, frozen or not, and releases mounts, cgroups,
	// network and listener. It returns when all of it is gone, or with an
	// error when ctx ends before; the release then goes on, and a second Stop
	// waits for it again. The writers get no byte after Stop returned nil.
	Stop(ctx context.Context) error
}

// Meter is what a sandbox can tell of its use. Both kinds implement it.
type Meter interface {
	// MemoryPeak returns the bytes of memory that the sandbox needed at most:
	// anonymous memory, the kernel's own for it, and mapped files of the image,
	// but neither /tmp nor the page cache of files it only read, which the host
	// can take back at any time. Peaks between two calls are seen only as far as the kernel
	// keeps them (per process).
	MemoryPeak(ctx context.Context) (int64, error)

	// OOMKills returns how many processes of the sandbox the kernel has killed
	// for want of memory so far. It is a counter: what has happened in some
	// time is its growth.
	OOMKills() int64

	// Pid returns the process id of the sandbox's first process on the host.
	Pid() int
}

// Booster is a sandbox whose Spec.BoostInit was set. Both kinds implement it.
type Booster interface {
	// EndBoost puts Spec.CPUs in force. A second call does nothing.
	EndBoost(ctx context.Context) error
}

// Drainer is a sandbox whose output can be waited for. The lines of a log stand
// in their true order only with it: a runtime prints, then asks for the next
// invocation, and the two reach the worker by different ways.
type Drainer interface {
	// Drain returns once all that the sandbox had printed when it was called
	// is written to the Spec's writers. It does not wait for more output.
	Drain()
}

// Exit says how a command ended.
type Exit struct {
	Code     int            // exit code; -1 where a signal ended it or it never ran
	Signal   syscall.Signal // what ended it, 0 if nothing did
	OOMKills int64          // [Meter.OOMKills] at the end
	Err      error          // why the command could not be executed: an [*ExecError]
}

// CPUsFor returns the CPUs that go with an amount of memory.
func CPUsFor(memoryBytes int64) float64 {
	return float64(memoryBytes) / MemoryBytesPerCPU
}

// TmpShortError says that the worker's disk has no room for a /tmp of more
// than the default size. Its kind is [thaw.Unavailable].
type TmpShortError struct{ Wanted int64 } // bytes

// Error returns one line for the function's owner, who learns nothing of what
// others hold.
func (e *TmpShortError) Error() string {
	return fmt.Sprintf("the function asks for %d MB of /tmp (EphemeralStorage), for which the worker's disk has no room now", e.Wanted>>20)
}

// MaxProcessors is how many processors a function sees at most.
const MaxProcessors = 6

// moreProcessors are the megabytes of memory up to which a function sees 2, 3,
// 4 and 5 processors (github.com/rwnx/lambda-cpuinfo, measured at Lambda).
var moreProcessors = [...]int64{3008, 5307, 7076, 8845}

// ProcessorsFor returns how many processors a program counts that has an
// amount of memory, 0 being no limit. A host with fewer shows all that it has.
func ProcessorsFor(memoryBytes int64) int {
	for i, mb := range moreProcessors {
		if memoryBytes > 0 && memoryBytes <= mb<<20 {
			return 2 + i
		}
	}
	return MaxProcessors
}
