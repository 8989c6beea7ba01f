// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/program"
	"thaw.dev/thaw/invoke/sandbox"
)

// Function is what an invocation runs: one revision of one version. The worker
// keeps it as long as a sandbox of it lives and modifies nothing in it.
type Function struct {
	Tenant   thaw.TenantID
	Name     string // bare
	ARN      string
	Version  string // "$LATEST" or a number
	Revision string // a sandbox of another revision does not serve

	Image thaw.ImageID

	Entrypoint, Command []string
	WorkingDir          string // "" is "/"

	Extensions []string // of the image, in /opt/extensions: the owner is told that they are not started

	ImageEnv []string          // "NAME=value"; below
	Env      map[string]string // the function's own; below what Lambda reserves

	LogGroup  string // "" is /aws/lambda/NAME
	LogFormat string // the program is told of it, and of the level; "" is not told
	LogLevel  string

	MemoryMB int // MiB
	Timeout  time.Duration
	TmpMB    int // MiB; 0 is Lambda's 512
}

func (f *Function) validate() error {
	const op = "worker: function"
	if _, err := thaw.ParseTenantID(string(f.Tenant)); err != nil {
		return thaw.Wrap(op, err)
	}
	switch {
	case f.Name == "" || f.Version == "":
		return thaw.Errorf(op, thaw.Invalid, "it has no name or no version")
	case f.MemoryMB < 1 || f.Timeout <= 0 || f.TmpMB < 0:
		return thaw.Errorf(op, thaw.Invalid, "%s: memory %d MB, timeout %v, tmp %d MB", f.Name, f.MemoryMB, f.Timeout, f.TmpMB)
	}
	return nil
}

func (f *Function) memoryBytes() int64 { return int64(f.MemoryMB) << 20 }

// key says which sandboxes serve which invocations.
type key struct {
	tenant                  thaw.TenantID
	name, version, revision string
}

// function is a function in all its versions.
type function struct {
	tenant thaw.TenantID
	name   string
}

func (k key) function() function { return function{k.tenant, k.name} }

func (f *Function) key() key { return key{f.Tenant, f.Name, f.Version, f.Revision} }

// recordKey names the starts that read alike: those of a version, whatever its
// revision, since a change of a setting reads the same files.
func (f *Function) recordKey() string {
	sum := sha256.Sum256([]byte(string(f.Tenant) + "\x00" + f.Name + "\x00" + f.Version))
	return hex.EncodeToString(sum[:8])
}

// args is the whole command, or nothing where none is named.
func (f *Function) args() []string {
	return append(append([]string(nil), f.Entrypoint...), f.Command...)
}

// environ is the environment of the function's program. Credentials are not
// among it: there are no roles here.
func (f *Function) environ(region, stream string) []string {
	group := f.LogGroup
	if group == "" {
		group = "/aws/lambda/" + f.Name
	}
	return program.Environ(program.Facts{
		Region: region, RuntimeAPI: sandbox.APIAddress, Name: f.Name, Version: f.Version, MemoryMB: f.MemoryMB,
		LogGroup: group, LogStream: stream, LogFormat: f.LogFormat, LogLevel: f.LogLevel, Command: f.Command,
	}, f.ImageEnv, f.Env)
}

func (f *Function) dir() string {
	return cmp.Or(f.WorkingDir, "/")
}

// Request is one invocation. Empty strings are made up or left out.
type Request struct {
	ID            string // a UUID
	Payload       []byte // "{}" if empty; read only, also after Invoke: it may still be on its way to the runtime
	ClientContext string // JSON, not base64
	TraceID       string // as in X-Amzn-Trace-Id
	FunctionARN   string // as invoked, with its qualifier; Function.ARN if empty
	LogTail       bool   // wait for the invocation's last log line, and return the tail
}

func (r *Request) complete(f *Function) {
	if r.ID == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
		r.ID = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	}
	if r.TraceID == "" {
		var b [20]byte
		_, _ = rand.Read(b[:]) // likewise
		r.TraceID = fmt.Sprintf("Root=1-%08x-%x;Parent=%x;Sampled=0", time.Now().Unix(), b[:12], b[12:])
	}
	if r.FunctionARN == "" {
		r.FunctionARN = f.ARN
	}
}

// Result is an invocation's outcome. It is the caller's.
type Result struct {
	RequestID     string
	Payload       []byte // what the function answered, or the error as JSON
	ContentType   string
	FunctionError string // "Unhandled" or ""
	ErrorType     string // Lambda's error type; "" where FunctionError is
	Version       string
	LogTail       []byte // at most 4 KB, where the request asked for it
	ColdStart     bool
	Timings       Timings
}

// Timings says where an invocation's time went. The phases follow one another;
// those of a cold start are zero in a warm one.
type Timings struct {
	Queue   time.Duration // until a slot was chosen, a frozen one thawed included
	Attach  time.Duration // until the image was a directory
	Sandbox time.Duration // until the command was executed
	Init    time.Duration // until the runtime asked for an invocation, failed tries included
	Handler time.Duration // until the runtime had answered
}

// Observation is one invocation as metrics and traces see it.
type Observation struct {
	Tenant    thaw.TenantID
	Function  string
	Version   string
	RequestID string
	TraceID   string // as in X-Amzn-Trace-Id
	Sandbox   string // its id; "" where none was started or leased
	Begin     time.Time
	ColdStart bool
	ErrorType string // of a function error
	Err       error  // where there was no result
	Timings   Timings
}
