// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"thaw.dev/thaw/format/chunk"
)

// pieceBytes is the length that flat images are usually cut at.
const pieceBytes = 512 << 10

// pieces are the different pieces of flat images; zeros are not counted.
type pieces struct {
	known map[[32]byte]bool
	bytes int64
}

// add unpacks an image, makes one of EROFS of it, and cuts that. Identity and
// times are fixed, so that they make no difference.
func (p *pieces) add(ctx context.Context, dir, image string) error {
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	flat := filepath.Join(dir, "image.erofs")
	for _, args := range [][]string{
		{"umoci", "unpack", "--image", image, filepath.Join(dir, "bundle")},
		{"mkfs.erofs", "-T1", "-U", "00000000-0000-4000-8000-000000000000", flat, filepath.Join(dir, "bundle", "rootfs")},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	file, err := os.Open(flat)
	if err != nil {
		return err
	}
	defer file.Close()
	piece := make([]byte, pieceBytes)
	for {
		n, err := io.ReadFull(file, piece)
		if sum := sha256.Sum256(piece[:n]); !chunk.IsZero(piece[:n]) && !p.known[sum] {
			p.known[sum] = true
			p.bytes += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
