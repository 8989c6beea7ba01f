// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"log/slog"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/logs"
	"thaw.dev/thaw/invoke/sandbox"
)

// Rootfs brings images to this host as directories.
type Rootfs interface {
	// Attach returns the image as a root directory, which may still be
	// streaming in.
	Attach(ctx context.Context, s Start) (Root, error)
}

// Start says what an image is attached for.
type Start struct {
	Tenant thaw.TenantID
	Image  thaw.ImageID
	// RecordKey ([0-9a-f]{16}) names whose start this is: what the start reads
	// until Root.Started is recorded under it, and what was recorded is fetched
	// ahead.
	RecordKey string
	RequestID string // of the invocation that starts it
}

// Root is an attached image. Started and Release are called at most once,
// Release last. All but Dir and Release may be nil.
type Root struct {
	Dir     string
	Started func() // the first invocation is answered: the start is over
	Release func() // no sandbox uses Dir any more

	// Lost is closed once Dir can't be read any more, whoever tries. Its
	// sandboxes are stopped, and what runs in them is told as the host's
	// trouble. Sound asks, after a failure, whether that is so.
	Lost  <-chan struct{}
	Sound func(context.Context) bool
}

// Config is what a worker needs. [Default] gives the numbers.
type Config struct {
	Launcher sandbox.Launcher // not closed by the worker
	Rootfs   Rootfs
	Logs     *logs.Store
	Log      *slog.Logger      // for the operator, not for functions
	Observe  func(Observation) // called at the end of each invocation, must be quick; may be nil

	Region  string
	Network sandbox.Network

	MaxSandboxes int   // alive at once, idle ones included
	MemoryBytes  int64 // sum of their functions' memory sizes; 0 is no bound
	MaxStarts    int   // cold starts at once: more of them only slow one another down
	MaxQueue     int   // invocations that wait for a sandbox; more are throttled

	// The same for one function in all its versions, so that a burst of it
	// leaves starts and room to wait to the others.
	MaxFunctionStarts int
	MaxFunctionQueue  int

	// Reserve is the percentage of sandboxes, memory, starts and the queue that is
	// left free for tenants that use little of it, in parts by their weights. The
	// functions are called often and under a lock.
	Reserve int
	Weights func() int              // the sum of all tenants' weights; nil is one tenant
	Weight  func(thaw.TenantID) int // of one; nil is 1

	Patience time.Duration // how long a start that does not fit is passed by those that do

	AttachTimeout time.Duration // to bring an image to this host

	QueueWait   time.Duration // then an invocation that waits is throttled
	FinishWait  time.Duration // how long to wait for an answered sandbox before another is started
	FreezeAfter time.Duration // idle time before the freezer, so that a busy sandbox never meets it
	IdleTimeout time.Duration // idle time before a sandbox is stopped
	InitTimeout time.Duration // of the first try; the second has the function's own
	StopTimeout time.Duration // to stop a sandbox; then the release is left to the launcher
}

// Default returns a Config of good numbers; the caller sets the rest.
func Default() Config {
	return Config{
		Log:          slog.New(slog.DiscardHandler),
		Region:       "us-east-1",
		MaxSandboxes: 256,
		MaxStarts:    16,
		MaxQueue:     1000,

		MaxFunctionStarts: 8,
		MaxFunctionQueue:  500,

		Reserve:  25,
		Patience: time.Second,

		AttachTimeout: 30 * time.Second,
		QueueWait:     3 * time.Second,
		FinishWait:    20 * time.Millisecond,
		FreezeAfter:   50 * time.Millisecond,
		IdleTimeout:   10 * time.Minute, // Lambda keeps them 5 to 10
		InitTimeout:   10 * time.Second, // Lambda's
		StopTimeout:   10 * time.Second,
	}
}

// Validate reports the first thing that is missing or senseless, as
// [thaw.Invalid].
func (c Config) Validate() error {
	const op = "worker: config"
	switch {
	case c.Launcher == nil || c.Rootfs == nil || c.Logs == nil || c.Log == nil:
		return thaw.Errorf(op, thaw.Invalid, "Launcher, Rootfs, Logs and Log are required")
	case c.MaxSandboxes < 1 || c.MaxStarts < 1 || c.MaxQueue < 0 || c.MemoryBytes < 0,
		c.MaxFunctionStarts < 1 || c.MaxFunctionQueue < 0:
		return thaw.Errorf(op, thaw.Invalid, "a bound is out of range")
	case c.Reserve < 0 || c.Reserve > 50:
		return thaw.Errorf(op, thaw.Invalid, "a reserve of %d percent: it is from 0 to 50", c.Reserve)
	case c.QueueWait < 0 || c.Patience < 0 || c.FinishWait < 0 || c.FreezeAfter < 0:
		return thaw.Errorf(op, thaw.Invalid, "a wait is negative")
	case c.AttachTimeout <= 0 || c.IdleTimeout <= 0 || c.InitTimeout <= 0 || c.StopTimeout <= 0:
		return thaw.Errorf(op, thaw.Invalid, "a timeout is not positive")
	}
	return nil
}
