// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	thaw "thaw.dev/thaw"
)

// CodeUpdate is a request for another image.
type CodeUpdate struct {
	Name          string
	ImageURI      string
	Architectures []string // empty: as it is
	Revision      string   // if set, the revision that the change is meant for
	DryRun        bool     // check only
}

// UpdateCode resolves a reference and has its image prepared; until that has
// succeeded the function serves as before. It returns the function as it will
// be, and for a dry run stores nothing. Errors: a [Problem] as for Create;
// [thaw.NotFound]; [thaw.Conflict] while another change is under way, and where
// the revision is another one.
func (c *Control) UpdateCode(ctx context.Context, tenant thaw.TenantID, in CodeUpdate) (*Function, error) {
	const op = "update function code"
	n, err := c.changeable(op, tenant, in.Name)
	if err != nil {
		return nil, err
	}
	if err := c.checkArchitecture(op, in.Architectures); err != nil {
		return nil, err
	}
	k := key{tenant, n.bare}
	// Asked before the registry is, which may be slow, and again afterwards.
	current, err := load(ctx, c.options.DB, k)
	if err == nil {
		err = c.checkChange(current, in.Revision)
	}
	if err != nil {
		return nil, c.word(op, tenant, n, err)
	}
	if err := c.checkImageBytes(op, tenant); err != nil {
		return nil, err
	}
	next, err := c.resolve(ctx, op, tenant, in.ImageURI)
	if err != nil {
		return nil, err
	}
	change := func(f *Function) error {
		if err := c.checkChange(f, in.Revision); err != nil {
			return err
		}
		f.Next = next
		f.Update, f.UpdateReason, f.UpdateCode = InProgress, "The function is being created.", ReasonCreating
		if f.Code == nil {
			f.State, f.Reason, f.ReasonCode = Pending, "The function is being created.", ReasonCreating
		}
		f.stamp(time.Now())
		return nil
	}
	if in.DryRun {
		err := change(current)
		return current, c.word(op, tenant, n, err)
	}
	f, err := c.modify(ctx, k, change)
	if err != nil {
		return nil, c.word(op, tenant, n, err)
	}
	c.prepare(f)
	return f, nil
}

// UpdateSettings changes a function's settings, at once for every invocation
// that begins afterwards. revision is as in [CodeUpdate]. Errors as of
// UpdateCode.
func (c *Control) UpdateSettings(ctx context.Context, tenant thaw.TenantID, nameText, revision string, change Change) (*Function, error) {
	const op = "update function configuration"
	n, err := c.changeable(op, tenant, nameText)
	if err != nil {
		return nil, err
	}
	f, err := c.modify(ctx, key{tenant, n.bare}, func(f *Function) error {
		if err := c.checkChange(f, revision); err != nil {
			return err
		}
		change.apply(&f.Settings)
		if err := f.Settings.validate(op); err != nil {
			return err
		}
		f.Update, f.UpdateReason, f.UpdateCode = Successful, "", ""
		f.Serving = uuid.NewString()
		f.stamp(time.Now())
		return nil
	})
	if err != nil {
		return nil, c.word(op, tenant, n, err)
	}
	c.retire(tenant, f.Name)
	return f, nil
}

// Delete removes a function, whatever its state; a preparation under way is
// ended. qualifier must be empty: a single version can't be deleted, and
// [Latest] not without the function.
func (c *Control) Delete(ctx context.Context, tenant thaw.TenantID, nameText, qualifier string) error {
	const op = "delete function"
	n, err := c.parseName(op, tenant, nameText, qualifier)
	if err != nil {
		return err
	}
	if n.qualifier == Latest {
		return invalid(op, "$LATEST version cannot be deleted without deleting the function.")
	}
	if n.qualifier != "" {
		return c.notFound(op, tenant, n)
	}
	f, err := c.remove(ctx, key{tenant, n.bare})
	if err != nil {
		return c.word(op, tenant, n, err)
	}
	if f.Next != nil {
		c.abandon(f.Next.Job)
	}
	c.functions.Give(string(tenant), 1)
	c.countImages(ctx, tenant)
	c.retire(tenant, f.Name)
	return nil
}

// changeable parses the name in a request to change a function: only the
// latest version can be.
func (c *Control) changeable(op string, tenant thaw.TenantID, text string) (name, error) {
	n, err := c.parseName(op, tenant, text, "")
	if err == nil && n.qualifier != "" && n.qualifier != Latest {
		return n, c.notFound(op, tenant, n)
	}
	return n, err
}

// checkChange refuses a change that must wait, or that was meant for another
// revision.
func (c *Control) checkChange(f *Function, revision string) error {
	switch {
	case f.Next != nil && f.State == Pending:
		return problem("", thaw.Conflict, ResourceConflict,
			"The operation cannot be performed at this time. The function is currently in the following state: Pending")
	case f.Next != nil:
		return problem("", thaw.Conflict, ResourceConflict,
			"The operation cannot be performed at this time. An update is in progress for resource: %s", c.ARN(f.Tenant, f.Name, ""))
	case revision != "" && revision != f.Revision:
		return problem("", thaw.Conflict, PreconditionFailed,
			"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	}
	return nil
}

// word says what was attempted, and in Lambda's words that a function is not
// there.
func (c *Control) word(op string, tenant thaw.TenantID, n name, err error) error {
	if errors.Is(err, errAbsent) {
		return c.notFound(op, tenant, n)
	}
	return thaw.Wrap(op, err)
}
