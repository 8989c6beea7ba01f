// SPDX-License-Identifier: Apache-2.0

package control

import (
	"time"

	thaw "thaw.dev/thaw"
)

// State is whether a function can be invoked.
type State string

// The states that a function here can have; Lambda knows more.
const (
	Pending State = "Pending" // its first image is being prepared
	Active  State = "Active"  // it can be invoked
	Failed  State = "Failed"  // it never had an image that could serve
)

// UpdateStatus is how the last change of a function went.
type UpdateStatus string

// The statuses. A function that was only created has none until it is active.
const (
	InProgress   UpdateStatus = "InProgress" // the old image serves meanwhile
	Successful   UpdateStatus = "Successful"
	UpdateFailed UpdateStatus = "Failed" // the old image serves on
)

// ReasonCode says why a state or status is what it is.
type ReasonCode string

// The reason codes given here; the words are Lambda's.
const (
	ReasonCreating          ReasonCode = "Creating"
	ReasonInvalidImage      ReasonCode = "InvalidImage"
	ReasonImageDeleted      ReasonCode = "ImageDeleted"
	ReasonImageAccessDenied ReasonCode = "ImageAccessDenied"
	ReasonInternalError     ReasonCode = "InternalError"
)

// Latest is the only version there is: the function as it was last changed.
const Latest = "$LATEST"

// Function is the record of one function. Values that callers get are theirs.
type Function struct {
	Tenant       thaw.TenantID
	Name         string // bare
	Architecture string
	Settings     Settings
	Tags         map[string]string `json:",omitempty"`

	Revision string    // a guard for changes: new with every change an owner makes
	Modified time.Time // of the last change an owner made

	State        State
	Reason       string     `json:",omitempty"`
	ReasonCode   ReasonCode `json:",omitempty"`
	Update       UpdateStatus
	UpdateReason string     `json:",omitempty"`
	UpdateCode   ReasonCode `json:",omitempty"`

	// Code is what serves; nil until the first image is ready. Next is what
	// is being prepared, nil otherwise.
	Code *Code `json:",omitempty"`
	Next *Code `json:",omitempty"`

	// Serving is new whenever what an invocation runs has changed: the image
	// that serves, or the settings. Sandboxes of another value are stale.
	Serving string
}

// Code is an image as the function's owner named it, and what became of it.
type Code struct {
	ImageURI string
	Digest   string   // "sha256:...", what the tag named when it was given
	Pinned   string   // the reference to prepare from ([Resolved])
	Job      string   // id of the preparation
	Died     int      `json:",omitempty"` // tries to prepare it that ended with their process, or are under way
	Prepared Prepared // zero until ready
}

// Settings are what a function's owner configures.
type Settings struct {
	Description    string
	Role           string // kept and shown; there is no IAM here
	TimeoutSeconds int
	MemoryMB       int
	EphemeralMB    int // size of /tmp
	Environment    map[string]string
	ImageConfig    ImageConfig
	Logging        Logging
	Tracing        string // kept and shown; nothing is traced
}

// ImageConfig overrides parts of an image's configuration; what is nil or
// empty is left as the image has it.
type ImageConfig struct {
	EntryPoint       []string `json:",omitempty"`
	Command          []string `json:",omitempty"`
	WorkingDirectory string   `json:",omitempty"`
}

// IsZero reports whether nothing is overridden.
func (c ImageConfig) IsZero() bool {
	return len(c.EntryPoint) == 0 && len(c.Command) == 0 && c.WorkingDirectory == ""
}

// Logging is how a function's log is kept.
type Logging struct {
	LogFormat           string
	ApplicationLogLevel string `json:",omitempty"`
	SystemLogLevel      string `json:",omitempty"`
	LogGroup            string
}

// Asked returns the code that the owner asked for last and that has not
// failed: what is being prepared, else what serves; nil if neither exists.
func (f *Function) Asked() *Code {
	if f.Next != nil {
		return f.Next
	}
	return f.Code
}
