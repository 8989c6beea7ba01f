// SPDX-License-Identifier: Apache-2.0

// Command dedup measures what a family of images costs the store, metadata and
// manifests included, against storing each different file once and against
// fixed pieces of the same trees as mkfs.erofs makes images of them. It also
// prints what each image added: of an update (":2") the changed files, a group
// and the metadata.
package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"path/filepath"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/bench/measure"
)

// family is the one that bench/images builds as "family".
const family = "go-hello:1,go-hello:2,node-api:1,node-api:2,node-api:3,py-hello:1,py-data:1,py-data:2,py-data:3,py-data:4," +
	"ruby-api:1,php-api:1,java-api:1,java-api:3,custb-data:1,custc-node:1"

func main() {
	log.SetFlags(0)
	names := flag.String("images", family, "images of bench/images, separated by commas")
	fixed := flag.Bool("fixed", true, "also unpack each image, make an EROFS image of it and cut that")
	flag.Parse()
	if err := run(context.Background(), strings.Split(*names, ","), *fixed); err != nil {
		log.Fatal("bench/dedup: ", err)
	}
}

// cost is what something takes in the store.
type cost struct {
	chunks       int
	chunkBytes   int64
	objectsBytes int64 // manifests
}

func (c cost) bytes() int64 { return c.chunkBytes + c.objectsBytes }

// bench is what is known of the images so far.
type bench struct {
	*measure.Bench
	layout string
	files  map[[32]byte]int64 // each different content, and its size
	pieces *pieces            // nil without that peer

	fileBytes, uniqueBytes int64 // of all files, and of each content once
	stored                 cost
}

func run(ctx context.Context, tags []string, fixed bool) error {
	server, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	b := &bench{Bench: server, files: map[[32]byte]int64{}}
	if fixed {
		b.pieces = &pieces{known: map[[32]byte]bool{}}
	}
	if b.layout, err = server.Images(ctx, "gzip", tags...); err != nil { // umoci reads no zstd
		return err
	}
	fmt.Printf("%-14s %10s %10s %8s %10s  %s\n", "image", "files MB", "new MB", "chunks", "new files", "of an update: new MB to its files, a group and metadata")
	for _, tag := range tags {
		if err := b.add(ctx, tag); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
	}
	fmt.Printf("%d images, %.0f MB of files\n", len(tags), mb(b.fileBytes))
	fmt.Printf("each file once     %.1f MB in %d files\n", mb(b.uniqueBytes), len(b.files))
	fmt.Printf("thaw               %.1f MB in %d chunks, and %.1f MB of manifests\n", mb(b.stored.chunkBytes), b.stored.chunks, mb(b.stored.objectsBytes))
	fmt.Printf("%-44s %.3f (promised 1.15)\n", "unique bytes, thaw to whole files", float64(b.stored.bytes())/float64(b.uniqueBytes))
	fmt.Printf("%-44s %.0f KiB (promised 150 or more)\n", "mean stored chunk", float64(b.stored.chunkBytes)/float64(b.stored.chunks)/1024)
	if fixed {
		fmt.Printf("mkfs.erofs, cut    %.1f MB in %d pieces of 512 KiB\n", mb(b.pieces.bytes), len(b.pieces.known))
		fmt.Printf("%-44s %.3f\n", "unique bytes, thaw to those", float64(b.stored.bytes())/float64(b.pieces.bytes))
	}
	return nil
}

// add takes one more image in everywhere.
func (b *bench) add(ctx context.Context, tag string) error {
	total, added, err := addFiles(b.files, b.layout, tag)
	if err != nil {
		return err
	}
	function := strings.ReplaceAll(tag, ":", "-")
	if err := b.Create(ctx, b.layout, tag, function); err != nil {
		return err
	}
	now, err := stored(filepath.Join(b.Dir, "data", "origin"))
	if err != nil {
		return err
	}
	fresh := cost{now.chunks - b.stored.chunks, now.chunkBytes - b.stored.chunkBytes, now.objectsBytes - b.stored.objectsBytes}
	b.stored, b.fileBytes, b.uniqueBytes = now, b.fileBytes+total, b.uniqueBytes+added
	fmt.Printf("%-14s %10.1f %10.2f %8d %10.2f", tag, mb(total), mb(fresh.bytes()), fresh.chunks, mb(added))
	if strings.HasSuffix(tag, ":2") {
		var report struct {
			MetaBytes int64 `json:"metaBytes"`
		}
		if err := b.ThawJSON(ctx, &report, "image", "inspect", function); err != nil {
			return err
		}
		allowed := added + thaw.MaxChunkBytes + report.MetaBytes + fresh.objectsBytes
		fmt.Printf("  %.2f to %.2f (promised: no more)", mb(fresh.bytes()), mb(allowed))
	}
	fmt.Println()
	if b.pieces == nil {
		return nil
	}
	return b.pieces.add(ctx, filepath.Join(b.Dir, "plain"), b.layout+":"+tag)
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// addFiles counts an image's files, and those whose content is new.
func addFiles(known map[[32]byte]int64, layout, tag string) (total, added int64, err error) {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return 0, 0, err
	}
	err = measure.Files(img, func(_ *tar.Header, content io.Reader) error {
		hash := sha256.New()
		n, err := io.Copy(hash, content)
		if err != nil {
			return err
		}
		total += n
		sum := [32]byte(hash.Sum(nil))
		if _, ok := known[sum]; !ok {
			known[sum] = n
			added += n
		}
		return nil
	})
	return total, added, err
}

// stored adds up what the origin's folder holds.
func stored(origin string) (cost, error) {
	var c cost
	err := filepath.WalkDir(origin, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch relative, _ := filepath.Rel(origin, path); {
		case strings.HasPrefix(relative, "chunks"):
			c.chunks++
			c.chunkBytes += info.Size()
		case strings.HasPrefix(relative, "objects"):
			c.objectsBytes += info.Size()
		}
		return nil
	})
	return c, err
}
