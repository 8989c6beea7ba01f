// SPDX-License-Identifier: Apache-2.0

// Command seq measures a large file read from begin to end through the mount of
// an image, page caches dropped: beside the same file in a plain EROFS image on
// the same disk where the worker's own cache has every chunk, and beside what
// memcached gives and one processor verifies and deciphers where only the zone's
// cache has them.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l2"
)

const (
	function    = "seq"
	serverCount = 6
	// fillPasses bounds the reads until a cache has everything: it is filled
	// behind, and sheds what it can't keep up with.
	fillPasses = 8
)

func main() {
	log.SetFlags(0)
	runs := flag.Int("n", 5, "reads of each kind")
	megabytes := flag.Int("mb", 1024, "size of the file, in MiB")
	keep := flag.String("images", "", "folder that keeps the image; a temporary one without")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *runs, *megabytes, *keep)
	stop()
	if err != nil {
		log.Fatal("bench/seq: ", err)
	}
}

// bench is the running server, and the file in two places.
type bench struct {
	*measure.Bench
	bytes       int64
	sum         [sha256.Size]byte // of the file, as the image has it
	image, peer string            // the file in the mounted image, and in the plain EROFS
	loader      int               // process id
}

func run(ctx context.Context, runs, megabytes int, keep string) error {
	servers, err := memcachedtest.StartAll(ctx, serverCount, "-m", fmt.Sprint(megabytes/2))
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.Kill()
		}
	}()
	addresses := memcachedtest.Addresses(servers)
	b := &bench{bytes: int64(megabytes) << 20}
	if b.Bench, err = measure.Open(ctx, "--l2", strings.Join(addresses, ",")); err != nil {
		return err
	}
	defer b.Close()
	if err := b.prepare(ctx, keep, fmt.Sprintf("one:%d", megabytes)); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(filepath.Dir(b.peer), 0) }()
	if err := b.full(ctx, runs); err != nil {
		return err
	}
	return b.cold(ctx, runs, addresses)
}

// prepare makes the plain image, and a function whose image is mounted as long
// as its sandbox lives.
func (b *bench) prepare(ctx context.Context, keep, tag string) error {
	if keep == "" {
		keep = b.Dir
	}
	layout, err := measure.BuildImages(ctx, keep, "plain", tag)
	if err != nil {
		return err
	}
	if err := b.plain(ctx, layout, tag); err != nil {
		return err
	}
	if err := b.Create(ctx, layout, tag, function); err != nil {
		return err
	}
	if _, err := b.Invoke(ctx, function); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(b.Data, "run", "read", "mnt", "*", fileName))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("the mounted image is not to be found: %q, %w", found, err)
	}
	b.image = found[0]
	b.loader, err = measure.ReadPathPID(b.Data, "loader")
	return err
}

// fileName is the one file of the filling of an image "one".
const fileName = "fill/000/00.bin"

// plain makes an EROFS image of the file and mounts it.
func (b *bench) plain(ctx context.Context, layout, tag string) error {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return err
	}
	tree, root, packed := filepath.Join(b.Dir, "tree"), filepath.Join(b.Dir, "root"), filepath.Join(b.Dir, "plain.erofs")
	for _, dir := range []string{tree, root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	b.peer = filepath.Join(root, "file")
	err = measure.Files(img, func(header *tar.Header, content io.Reader) error {
		if header.Name != fileName {
			return nil
		}
		file, err := os.Create(filepath.Join(tree, "file"))
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.Copy(io.MultiWriter(file, hash), content)
		b.sum = [sha256.Size]byte(hash.Sum(nil))
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mkfs.erofs", "-Enoinline_data", packed, tree},
		{"mount", "-t", "erofs", "-o", "ro,loop", packed, root},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return os.RemoveAll(tree)
}

// full compares with the plain image where L1 has every chunk. The reads are
// interleaved, so that both meet the same machine.
func (b *bench) full(ctx context.Context, runs int) error {
	if err := b.fill(ctx); err != nil {
		return err
	}
	var ours, plain measure.Samples
	var processor time.Duration
	for range runs {
		took, used, err := b.read(ctx, b.image)
		if err != nil {
			return err
		}
		ours, processor = append(ours, took), processor+used
		if took, _, err = b.read(ctx, b.peer); err != nil {
			return err
		}
		plain = append(plain, took)
	}
	fmt.Printf("through the mount, L1 full   %s  the loader's processor time %.2f s\n", b.rate(ours), processor.Seconds()/float64(runs))
	fmt.Printf("plain EROFS, loop            %s\n", b.rate(plain))
	measure.Share("as fast as the plain image (promised 0.35)", ours, plain)
	return nil
}

// cold reads from the zone's cache alone, beside its two bounds.
func (b *bench) cold(ctx context.Context, runs int, addresses []string) error {
	for range fillPasses {
		if err := b.DropL1(ctx); err != nil {
			return err
		}
		n, err := b.served(ctx, tier.OriginName)
		if err != nil {
			return err
		}
		if n == 0 {
			return b.coldFilled(ctx, runs, addresses)
		}
	}
	return fmt.Errorf("the zone's cache was not full after %d reads", fillPasses)
}

func (b *bench) coldFilled(ctx context.Context, runs int, addresses []string) error {
	values, err := newValues(addresses, b.bytes)
	if err != nil {
		return err
	}
	var ours, gets, one measure.Samples
	var processor time.Duration
	before, err := b.OriginBytes(ctx)
	if err != nil {
		return err
	}
	for range runs {
		if err := b.DropL1(ctx); err != nil {
			return err
		}
		took, used, err := b.read(ctx, b.image)
		if err != nil {
			return err
		}
		ours, processor = append(ours, took), processor+used
		if took, err = values.gets(); err != nil {
			return err
		}
		gets, one = append(gets, took), append(one, values.open())
	}
	after, err := b.OriginBytes(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("%d bytes came from the origin", after-before)
	}
	fmt.Printf("through the mount, from L2   %s  the loader's processor time %.2f s\n", b.rate(ours), processor.Seconds()/float64(runs))
	fmt.Printf("gets from memcached          %s\n", b.rate(gets))
	fmt.Printf("SHA-256, AES-CTR, one core   %s\n", b.rate(one))
	measure.Share("as fast as memcached gives", ours, gets)
	measure.Share("as fast as one core verifies and deciphers", ours, one)
	return nil
}

// fill reads the file until L1 serves all of it, and checks once what is read.
func (b *bench) fill(ctx context.Context) error {
	if err := b.check(); err != nil {
		return err
	}
	for range fillPasses {
		n, err := b.served(ctx, tier.OriginName, l2.Name)
		if err != nil || n == 0 {
			return err
		}
	}
	return fmt.Errorf("L1 was not full after %d reads", fillPasses)
}

// served reads the file once and returns how many bytes these tiers have served
// meanwhile.
func (b *bench) served(ctx context.Context, names ...string) (n int64, err error) {
	before, err := b.Tiers(ctx)
	if err != nil {
		return 0, err
	}
	if _, _, err := b.read(ctx, b.image); err != nil {
		return 0, err
	}
	after, err := b.Tiers(ctx)
	for _, name := range names {
		n += after[name].Bytes - before[name].Bytes
	}
	return n, err
}

// check compares what the mount shows with what was packed.
func (b *bench) check() error {
	file, err := os.Open(b.image)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	if !bytes.Equal(hash.Sum(nil), b.sum[:]) {
		return errors.New("the mount shows other bytes than the image has")
	}
	return nil
}

// read drops the page caches and reads a file once, as a program does that
// reads in pieces of 1 MiB. It returns how long that took, and the loader's
// processor time in it.
func (b *bench) read(ctx context.Context, path string) (took, processor time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	if err := measure.DropPageCache(); err != nil {
		return 0, 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	before, err := measure.ProcessorTime(b.loader)
	if err != nil {
		return 0, 0, err
	}
	buffer := make([]byte, 1<<20)
	begin := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, buffer) // by itself, not by a method that has pieces of its own
	took = time.Since(begin)
	if err != nil || n != b.bytes {
		return 0, 0, fmt.Errorf("%d of %d bytes read: %w", n, b.bytes, err)
	}
	after, err := measure.ProcessorTime(b.loader)
	return took, after - before, err
}

// rate gives quantiles in MB/s.
func (b *bench) rate(s measure.Samples) string {
	mbs := func(q float64) float64 { return float64(b.bytes) / 1e6 / s.Quantile(q).Seconds() }
	return fmt.Sprintf("p50 %5.0f  best %5.0f  worst %5.0f MB/s (n=%d)", mbs(0.5), mbs(0), mbs(1), len(s))
}
