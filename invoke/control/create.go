// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	thaw "thaw.dev/thaw"
)

// Change is what a request sets of a function's settings. What is nil stays as
// it is, or has its default in a new function; what is set replaces the old
// value as a whole.
type Change struct {
	Description    *string
	Role           *string
	TimeoutSeconds *int
	MemoryMB       *int
	EphemeralMB    *int
	Environment    *map[string]string
	ImageConfig    *ImageConfig
	Logging        *Logging // members that are "" stay as they are
	Tracing        *string
}

func (c *Change) apply(s *Settings) {
	set(&s.Description, c.Description)
	set(&s.Role, c.Role)
	set(&s.TimeoutSeconds, c.TimeoutSeconds)
	set(&s.MemoryMB, c.MemoryMB)
	set(&s.EphemeralMB, c.EphemeralMB)
	set(&s.Environment, c.Environment)
	set(&s.ImageConfig, c.ImageConfig)
	set(&s.Tracing, c.Tracing)
	if c.Logging != nil {
		s.Logging = c.Logging.over(s.Logging)
	}
}

// over returns what these members make of the old ones: those that are "" stay,
// and JSON has levels where Text has none, as at Lambda.
func (l Logging) over(old Logging) Logging {
	l.LogFormat = cmp.Or(l.LogFormat, old.LogFormat)
	l.LogGroup = cmp.Or(l.LogGroup, old.LogGroup)
	if l.LogFormat == logFormatJSON {
		l.ApplicationLogLevel = cmp.Or(l.ApplicationLogLevel, old.ApplicationLogLevel, defaultLogLevel)
		l.SystemLogLevel = cmp.Or(l.SystemLogLevel, old.SystemLogLevel, defaultLogLevel)
	}
	return l
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// NewFunction is what Create makes a function of.
type NewFunction struct {
	Name          string // in any form, of the tenant's own account
	ImageURI      string
	Architectures []string // empty: the host's
	Change        Change
	Tags          map[string]string
}

// Create makes a function. It returns once the function is durable and its
// reference is resolved to a digest; the function is [Pending] until its image
// is prepared, which goes on by itself. Errors: a [Problem] of kind
// [thaw.Invalid], also where the tenant has as much as it may, [thaw.Conflict]
// where the name is taken, [thaw.Denied] where the registry refuses the tenant;
// [thaw.Unavailable].
func (c *Control) Create(ctx context.Context, tenant thaw.TenantID, in NewFunction) (*Function, error) {
	const op = "create function"
	n, err := c.parseName(op, tenant, in.Name, "")
	if err != nil {
		return nil, err
	}
	if n.qualifier != "" && n.qualifier != Latest {
		return nil, invalid(op, "A function is created without a version: leave out ':%s'.", n.qualifier)
	}
	f := &Function{Tenant: tenant, Name: n.bare, Architecture: c.options.Architecture, Tags: in.Tags,
		Settings: defaultSettings(n.bare), State: Pending, Reason: "The function is being created.", ReasonCode: ReasonCreating}
	in.Change.apply(&f.Settings)
	if err := errors.Join(f.Settings.validate(op), validateTags(op, in.Tags), c.checkArchitecture(op, in.Architectures)); err != nil {
		return nil, firstOf(err)
	}
	// Asked before the registry is, which may be slow; insert asks again.
	if _, err := load(ctx, c.options.DB, key{tenant, n.bare}); err == nil {
		return nil, thaw.Wrap(op, alreadyExists(n.bare))
	}
	if _, known := c.imageBytes.Used(string(tenant)); !known {
		c.countImages(ctx, tenant)
	}
	if err := c.checkImageBytes(op, tenant); err != nil {
		return nil, err
	}
	if err := c.takeFunction(op, tenant); err != nil {
		return nil, err
	}
	if f.Next, err = c.resolve(ctx, op, tenant, in.ImageURI); err == nil {
		f.stamp(time.Now())
		err = thaw.Wrap(op, c.insert(ctx, f))
	}
	if err != nil {
		c.functions.Give(string(tenant), 1)
		return nil, err
	}
	c.prepare(f)
	return f, nil
}

// firstOf returns the first of joined errors: a client is told of one problem
// at a time, as Lambda does.
func firstOf(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}

// stamp marks a change by the owner.
func (f *Function) stamp(now time.Time) {
	f.Revision = uuid.NewString()
	f.Modified = now.UTC()
}

func alreadyExists(name string) error {
	return problem("", thaw.Conflict, ResourceConflict, "Function already exist: %s", name)
}

func (c *Control) checkArchitecture(op string, asked []string) error {
	switch {
	case len(asked) == 0 || len(asked) == 1 && asked[0] == c.options.Architecture:
		return nil
	case len(asked) == 1 && (asked[0] == "x86_64" || asked[0] == "arm64"):
		return invalid(op, "The architecture '%s' can't run here: the hosts of this server are '%s'.", asked[0], c.options.Architecture)
	case len(asked) > 1:
		return validationError(op, violation("["+asked[0]+", ...]", "architectures", "Member must have length less than or equal to 1"))
	}
	return validationError(op, violation("["+asked[0]+"]", "architectures",
		"Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]"))
}

// resolve turns a reference into code to be prepared.
func (c *Control) resolve(ctx context.Context, op string, tenant thaw.TenantID, ref string) (*Code, error) {
	if ref == "" {
		return nil, invalid(op, "Please provide a source for function code: the member ImageUri.")
	}
	release, err := c.asking.Acquire(ctx, string(tenant), 1)
	if err != nil {
		return nil, problem(op, thaw.Unavailable, Unavailable, "Source image %s can't be read now: %s", ref, thaw.Tell(err))
	}
	defer release()
	resolved, err := c.options.Images.Resolve(ctx, tenant, ref)
	if err == nil {
		return &Code{ImageURI: ref, Digest: resolved.Digest, Pinned: resolved.Pinned, Job: uuid.NewString()}, nil
	}
	switch kind := thaw.KindOf(err); kind {
	case thaw.NotFound:
		return nil, problem(op, thaw.Invalid, InvalidParameter, "Source image %s does not exist. Provide a valid source image.", ref)
	case thaw.Invalid, thaw.TooLarge, thaw.Corrupt:
		return nil, problem(op, thaw.Invalid, InvalidParameter, "Source image %s is not valid. Provide a valid source image. (%s)", ref, thaw.Tell(err))
	case thaw.Denied:
		return nil, problem(op, thaw.Denied, AccessDenied, "Lambda does not have permission to access the image %s. (%s)", ref, thaw.Tell(err))
	case thaw.Unavailable, thaw.Throttled:
		return nil, problem(op, thaw.Unavailable, Unavailable, "Source image %s can't be read now: %s", ref, thaw.Tell(err))
	}
	return nil, thaw.Wrap(op, err)
}
