// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"sync"
	"time"

	thaw "thaw.dev/thaw"
)

// maxTargets bounds the memory of the cache of targets; past it the cache
// starts anew.
const maxTargets = 10_000

// Target is what an invocation needs to know of a function. Its slices and
// maps are shared and must not be modified.
type Target struct {
	Tenant   thaw.TenantID
	Name     string
	ARN      string // as invoked: with the qualifier, if one was given
	Version  string // Latest
	Revision string // new whenever what runs has changed, see Function.Serving

	Image      thaw.ImageID
	ImageBytes int64 // uncompressed
	Entrypoint []string
	Command    []string
	WorkingDir string            // "" if neither function nor image say
	Extensions []string          // names of the programs in the image's /opt/extensions
	ImageEnv   []string          // KEY=VALUE, the image's
	Env        map[string]string // the function's, which win

	MemoryMB int
	TmpMB    int
	Timeout  time.Duration
	Logging  Logging
}

// targets caches what is invoked. It is safe for concurrent use.
type targets struct {
	mu     sync.RWMutex
	byName map[key]*Target
	// changes counts calls of forget, so that a reader of the table can't
	// store what a change has meanwhile made stale.
	changes uint64
}

func (t *targets) get(k key) (target *Target, changes uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byName[k], t.changes
}

func (t *targets) put(k key, target *Target, changes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes != changes {
		return
	}
	if len(t.byName) >= maxTargets {
		clear(t.byName)
	}
	t.byName[k] = target
}

func (t *targets) forget(k key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	delete(t.byName, k)
}

// ResolveInvoke returns what to run for an invocation. It answers from memory
// for a function that was asked for since it last changed, and never with what
// an acknowledged change replaced. Errors: a [Problem] of kind [thaw.NotFound],
// [thaw.Invalid] where the name is none, [thaw.Conflict] where the function
// has no image that could serve, or not yet.
func (c *Control) ResolveInvoke(ctx context.Context, tenant thaw.TenantID, nameOrARN, qualifier string) (Target, error) {
	const op = "invoke"
	n, err := c.parseName(op, tenant, nameOrARN, qualifier)
	if err != nil {
		return Target{}, err
	}
	if n.qualifier != "" && n.qualifier != Latest {
		return Target{}, c.notFound(op, tenant, n)
	}
	k := key{tenant, n.bare}
	target, changes := c.targets.get(k)
	if target == nil {
		f, err := load(ctx, c.options.DB, k)
		if err != nil {
			return Target{}, c.word(op, tenant, n, err)
		}
		if f.Code == nil {
			return Target{}, notInvocable(op, f)
		}
		target = c.target(f)
		c.targets.put(k, target, changes)
	}
	result := *target
	if n.qualifier != "" {
		result.ARN += ":" + n.qualifier
	}
	return result, nil
}

func notInvocable(op string, f *Function) error {
	why := ""
	if f.State == Failed {
		why = " (" + string(f.ReasonCode) + ": " + f.Reason + ")"
	}
	return problem(op, thaw.Conflict, ResourceConflict,
		"The operation cannot be performed at this time. The function is currently in the following state: %s%s", f.State, why)
}

// target applies the function's overrides to the image's configuration, each
// by itself as Lambda does: another entry point keeps the image's command.
func (c *Control) target(f *Function) *Target {
	prepared, s := f.Code.Prepared, f.Settings
	t := &Target{Tenant: f.Tenant, Name: f.Name, ARN: c.ARN(f.Tenant, f.Name, ""), Version: Latest, Revision: f.Serving,
		Image: prepared.Image, ImageBytes: prepared.Bytes,
		Entrypoint: orElse(s.ImageConfig.EntryPoint, prepared.Entrypoint), Command: orElse(s.ImageConfig.Command, prepared.Command),
		WorkingDir: prepared.WorkingDir, Extensions: prepared.Extensions, ImageEnv: prepared.Env, Env: s.Environment, MemoryMB: s.MemoryMB,
		TmpMB: s.EphemeralMB, Timeout: time.Duration(s.TimeoutSeconds) * time.Second, Logging: s.Logging}
	if s.ImageConfig.WorkingDirectory != "" {
		t.WorkingDir = s.ImageConfig.WorkingDirectory
	}
	return t
}
