// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"thaw.dev/thaw/bench/measure"
)

// unpackers write a layer's uncompressed bytes to the standard output.
var unpackers = map[string]string{"plain": "cat", "gzip": "gzip -dc", "zstd": "zstd -dcq"}

// tarScript unpacks one layer into a tree and checks both its digests, the work
// spread over as many processes as there are steps.
const tarScript = `set -o pipefail
cd "$1" && mkfifo stored plain || exit
openssl dgst -sha256 -r < stored > stored.sum &
openssl dgst -sha256 -r < plain > plain.sum &
tee stored < "$2" | $3 | tee plain | tar -x -C tree --numeric-owner && wait && cat stored.sum plain.sum && rm stored plain`

// unpackWithTar unpacks the layers, bottom first, and syncs them to the disk.
func unpackWithTar(ctx context.Context, dir, layout, tag, form string) (cost, error) {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return cost{}, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return cost{}, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return cost{}, err
	}
	work := filepath.Join(dir, "tar")
	defer os.RemoveAll(work)
	if err := os.MkdirAll(filepath.Join(work, "tree"), 0o755); err != nil {
		return cost{}, err
	}
	var sum cost
	start := time.Now()
	for i, layer := range manifest.Layers {
		cmd := exec.CommandContext(ctx, "bash", "-c", tarScript, "bash", work, blob(layout, layer.Digest), unpackers[form])
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return cost{}, fmt.Errorf("tar: %w", err)
		}
		for _, want := range []v1.Hash{layer.Digest, config.RootFS.DiffIDs[i]} {
			if !strings.Contains(string(out), want.Hex) {
				return cost{}, fmt.Errorf("the layer is not %s: %s", want, out)
			}
		}
		sum.processor += processor(cmd)
	}
	err = sync(ctx, work, &sum)
	sum.took = time.Since(start)
	return sum, err
}

// decompress decompresses the layers to nowhere, which no ingest of one layer
// after the other can beat.
func decompress(ctx context.Context, layout, tag, form string) (cost, error) {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return cost{}, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return cost{}, err
	}
	var sum cost
	start := time.Now()
	for _, layer := range manifest.Layers {
		cmd := exec.CommandContext(ctx, "sh", "-c", unpackers[form]+` < "$0" > /dev/null`, blob(layout, layer.Digest))
		if out, err := cmd.CombinedOutput(); err != nil {
			return cost{}, fmt.Errorf("%s: %w: %s", unpackers[form], err, out)
		}
		sum.processor += processor(cmd)
	}
	sum.took = time.Since(start)
	return sum, nil
}

// unpackWithUmoci unpacks the image and syncs it to the disk.
func unpackWithUmoci(ctx context.Context, dir, layout, tag string) (cost, error) {
	bundle := filepath.Join(dir, "umoci")
	defer os.RemoveAll(bundle)
	var sum cost
	start := time.Now()
	cmd := exec.CommandContext(ctx, "umoci", "unpack", "--image", layout+":"+tag, bundle)
	if out, err := cmd.CombinedOutput(); err != nil {
		return cost{}, fmt.Errorf("umoci unpack: %w: %s", err, out)
	}
	sum.processor = processor(cmd)
	err := sync(ctx, bundle, &sum)
	sum.took = time.Since(start)
	return sum, err
}

func sync(ctx context.Context, dir string, sum *cost) error {
	cmd := exec.CommandContext(ctx, "sync", "-f", dir)
	err := cmd.Run()
	sum.processor += processor(cmd)
	return err
}

// processor is what a command that has ended, and those that it waited for,
// have used.
func processor(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func blob(layout string, digest v1.Hash) string {
	return filepath.Join(layout, "blobs", digest.Algorithm, digest.Hex)
}
