// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/apart"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/invoke/control"
)

// imageMaker joins the image path to the control plane: references are
// resolved by image/source, images made by image/ingest in a process of its own.
type imageMaker struct {
	resolver *source.Resolver
	ingest   func(context.Context, []ingest.Layer, string, ingest.Options) (ingest.Result, error) // as [ingest.Run]
	options  ingest.Options                                                                       // Tenant and Progress are set for each ingest
	origin   *bucketOrigin
	log      *slog.Logger
}

// Resolve returns what ref names now.
func (m *imageMaker) Resolve(ctx context.Context, tenant thaw.TenantID, ref string) (control.Resolved, error) {
	img, err := m.resolver.Resolve(ctx, tenant, ref)
	if err != nil {
		return control.Resolved{}, err
	}
	return control.Resolved{Digest: img.Digest, Pinned: img.Pinned}, nil
}

// Prepare makes the image that a pinned reference names.
func (m *imageMaker) Prepare(ctx context.Context, tenant thaw.TenantID, pinned string, report func(control.Progress)) (control.Prepared, error) {
	img, err := m.resolver.Resolve(ctx, tenant, pinned)
	if err != nil {
		return control.Prepared{}, err
	}
	o := m.options
	o.Tenant = tenant
	o.Progress = func(p ingest.Progress) {
		report(control.Progress{
			Stage: "ingest", DoneBytes: p.ReadBytes, TotalBytes: p.TotalBytes,
			Chunks: int64(p.Chunks), NewChunks: int64(p.NewChunks), SharedChunks: int64(p.SharedChunks),
		})
	}
	var result ingest.Result
	err = m.origin.outlast(ctx, func(err error) {
		stage := "waiting for the origin"
		if thaw.IsShortage(err) {
			stage = "waiting for the host, which is short of disk, memory or descriptors"
		}
		m.log.Error("an image waits: it is tried again", "tenant", tenant, "ref", strings.TrimPrefix(pinned, "/"), "stage", stage, "error", err)
		report(control.Progress{Stage: stage, Waits: true})
	}, func() (err error) {
		report(control.Progress{Stage: "ingest"})
		result, err = m.ingest(ctx, img.Layers, img.Digest, o)
		return err
	})
	if errors.Is(err, apart.ErrDied) {
		err = fmt.Errorf("%w: %w", control.ErrDied, err)
	}
	if err != nil {
		return control.Prepared{}, err
	}
	m.log.Info("image ready", "tenant", tenant, "ref", strings.TrimPrefix(pinned, "/"), "image", result.Image, "layerBytes", result.LayerBytes,
		"chunks", result.Chunks, "new", result.NewChunks, "newBytes", result.NewBytes)
	config := img.Config.Config
	return control.Prepared{
		Image: result.Image, Entrypoint: config.Entrypoint, Command: config.Cmd,
		Env: config.Env, WorkingDir: config.WorkingDir, Extensions: result.Extensions, Bytes: result.LayerBytes,
	}, nil
}
