// Command dedup measures what a family of images costs the store, metadata and
// manifests included, against storing each different file once. It also prints
// what each image added: that of a one-line change is the file, its group and
// the metadata.
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

	"thaw.dev/thaw/bench/measure"
)

// family is the one that bench/images builds as "family".
const family = "go-hello:1,go-hello:2,node-api:1,node-api:2,node-api:3,py-hello:1,py-data:1,py-data:2,py-data:3,py-data:4," +
	"ruby-api:1,php-api:1,java-api:1,java-api:3,custb-data:1,custc-node:1"

func main() {
	log.SetFlags(0)
	names := flag.String("images", family, "images of bench/images, separated by commas")
	flag.Parse()
	if err := run(context.Background(), strings.Split(*names, ",")); err != nil {
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

func run(ctx context.Context, tags []string) error {
	b, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	layout, err := b.Images(ctx, "zstd", tags...)
	if err != nil {
		return err
	}
	files := map[[32]byte]int64{}
	var before cost
	var fileBytes, all int64
	fmt.Printf("%-14s %10s %10s %8s %10s\n", "image", "files MB", "new MB", "chunks", "new files")
	for _, tag := range tags {
		total, added, err := addFiles(files, layout, tag)
		if err != nil {
			return err
		}
		if err := b.Create(ctx, layout, tag, strings.ReplaceAll(tag, ":", "-")); err != nil {
			return err
		}
		now, err := stored(filepath.Join(b.Dir, "data", "origin"))
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %10.1f %10.2f %8d %10.2f\n", tag, mb(total), mb(now.bytes()-before.bytes()), now.chunks-before.chunks, mb(added))
		before, fileBytes, all = now, fileBytes+added, all+total
	}
	fmt.Printf("%d images, %.0f MB of files\n", len(tags), mb(all))
	fmt.Printf("each file once     %.1f MB in %d files\n", mb(fileBytes), len(files))
	fmt.Printf("thaw               %.1f MB in %d chunks, and %.1f MB of manifests\n", mb(before.chunkBytes), before.chunks, mb(before.objectsBytes))
	fmt.Printf("%-44s %.3f (promised 1.15)\n", "unique bytes, thaw to whole files", float64(before.bytes())/float64(fileBytes))
	fmt.Printf("%-44s %.0f KiB (promised 150 or more)\n", "mean stored chunk", float64(before.chunkBytes)/float64(before.chunks)/1024)
	return nil
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
