// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/api"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/jail"
	"thaw.dev/thaw/invoke/sandbox/oci"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
	"thaw.dev/thaw/invoke/worker"
	"thaw.dev/thaw/read/loader"
)

// openSandboxes removes what a crashed predecessor left, then starts the
// loader and what launches sandboxes.
func (n *node) openSandboxes(ctx context.Context) error {
	var err error
	if err = n.startLoader(ctx); err != nil {
		return err
	}
	n.tmp, err = tmpdisk.Open(tmpdisk.Config{
		Dir: filepath.Join(n.cmd.Data, "run", "tmp"), Bytes: n.cmd.TmpDisk << 20, Ahead: n.cmd.Starts, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.onClose(n.tmp.Close)
	if n.launcher, err = n.newLauncher(ctx); err != nil {
		return err
	}
	n.onClose(n.launcher.Close)
	if n.nat != nil {
		n.servers = n.closeServers(ctx, nil)
	}
	return nil
}

// newLauncher opens the kind of sandbox that was asked for. Whichever it is, it
// kills what a predecessor of either kind left running.
func (n *node) newLauncher(ctx context.Context) (sandbox.Launcher, error) {
	id := instance(n.cmd.Data)
	nat, names, err := n.cmd.outbound(n.log)
	if err != nil {
		return nil, err
	}
	if nat != nil {
		nat.Sandboxes = n.cmd.Sandboxes + n.cmd.Pool
		n.share(names.Pools()...)
	}
	if n.cmd.Sandbox == "oci" {
		launcher, err := oci.New(ctx, oci.Config{Instance: id, Tmp: n.tmp, Pool: n.cmd.Pool, Runtime: n.cmd.OCIRuntime, NAT: nat, Names: names, Log: n.log})
		if err != nil {
			return nil, err
		}
		n.openedNAT(launcher.NAT())
		return launcher, nil
	}
	launcher, err := jail.New(ctx, jail.Config{Instance: id, Tmp: n.tmp, Pool: n.cmd.Pool, NAT: nat, Names: names, Log: n.log})
	if err != nil {
		return nil, err
	}
	if err := oci.Sweep(id); err != nil {
		return nil, errors.Join(err, launcher.Close(ctx))
	}
	n.openedNAT(launcher.NAT())
	return launcher, nil
}

// instance names what this server makes outside of its folder: control groups
// and network tables. It follows from the folder, so that the next server on
// the folder finds what this one leaves.
func instance(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:6])
}

func (n *node) openWorker(context.Context) error {
	config := worker.Default()
	config.Launcher, config.Rootfs, config.Logs, config.Log = n.launcher, rootfs{n.loader, n.traces}, n.logs, n.log
	config.Region, config.IdleTimeout = n.cmd.Region, n.cmd.Idle
	config.MaxSandboxes, config.MaxStarts, config.MaxFunctionStarts = n.cmd.Sandboxes, n.cmd.Starts, n.cmd.FnStarts
	config.MaxQueue, config.MaxFunctionQueue, config.QueueWait = n.cmd.Queue, n.cmd.FnQueue, n.cmd.QueueWait
	config.MemoryBytes = int64(n.cmd.memoryMB()) << 20
	config.Reserve = n.cmd.Reserve
	config.Weights = func() int { return int(n.tenants.weights.Load()) }
	config.Weight = func(t thaw.TenantID) int { return n.tenants.named[t] }
	config.Observe = func(o worker.Observation) {
		n.metrics.observe(o)
		n.traces.observe(o)
		if o.ColdStart {
			t := o.Timings
			n.log.Debug("start", "function", o.Function, "tenant", o.Tenant, "request", o.RequestID, "sandbox", o.Sandbox,
				"placement", t.Queue, "attach", t.Attach, "launch", t.Sandbox, "init", t.Init, "handler", t.Handler,
				"error_type", o.ErrorType, "error", o.Err)
		}
	}
	if n.cmd.Network == "nat" {
		config.Network = sandbox.NetworkNAT
	}
	var err error
	if n.worker, err = worker.Open(config); err != nil {
		return err
	}
	n.share(n.worker.Pools()...)
	n.shareAll(n.worker.Usages)
	n.shareAll(n.loaderPools)
	n.onClose(func(ctx context.Context) error {
		drain, cancel := context.WithTimeout(ctx, n.cmd.DrainTime)
		defer cancel()
		return n.worker.Close(drain)
	})
	return nil
}

// rootfs joins the read path to the worker: an image becomes a directory.
type rootfs struct {
	loader *loader.Client
	traces *traces
}

// Attach mounts the image, begins to fetch what earlier starts have read, and
// records what this one reads.
func (r rootfs) Attach(ctx context.Context, s worker.Start) (worker.Root, error) {
	report := func(seen loader.Report) { r.traces.read(s.RequestID, seen) }
	root, err := r.loader.Attach(ctx, s.Tenant, s.Image, s.RecordKey, report)
	if err != nil {
		return worker.Root{}, err
	}
	return worker.Root{Dir: root.Dir, Started: root.Started, Release: root.Release, Lost: root.Lost, Sound: root.Sound}, nil
}

// invoker joins the API to the worker.
type invoker struct{ worker *worker.Worker }

// Invoke runs an invocation of what the API resolved.
func (i invoker) Invoke(ctx context.Context, t control.Target, r api.Request) (*api.Response, error) {
	result, err := i.worker.Invoke(ctx, worker.Function{
		Tenant: t.Tenant, Name: t.Name, ARN: t.ARN, Version: t.Version, Revision: t.Revision, Image: t.Image,
		Entrypoint: t.Entrypoint, Command: t.Command, WorkingDir: t.WorkingDir, Extensions: t.Extensions,
		ImageEnv: t.ImageEnv, Env: t.Env, MemoryMB: t.MemoryMB, Timeout: t.Timeout, TmpMB: t.TmpMB,
		LogGroup: t.Logging.LogGroup, LogFormat: t.Logging.LogFormat, LogLevel: t.Logging.ApplicationLogLevel,
	}, worker.Request{
		ID: r.ID, Payload: r.Payload, ClientContext: r.ClientContext, TraceID: r.TraceID, LogTail: r.LogTail, FunctionARN: t.ARN,
	})
	if short, ok := errors.AsType[*sandbox.TmpShortError](err); ok {
		// The owner can mend it: ask for less, or have the operator make room.
		err = errors.Join(&control.Problem{Type: control.Unavailable, Message: short.Error()}, err)
	}
	if refused, ok := errors.AsType[*worker.Refusal](err); ok {
		err = errors.Join(&control.Problem{Type: control.TooManyRequests, Message: "Rate Exceeded. " + refused.Why}, err)
	}
	if err != nil {
		return nil, err
	}
	return &api.Response{Payload: result.Payload, FunctionError: result.FunctionError, LogTail: result.LogTail}, nil
}
