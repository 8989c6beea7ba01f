// SPDX-License-Identifier: Apache-2.0

// Command images builds container images out of Debian packages into an OCI
// layout, for the demo and the benchmarks.
//
//	images -o DIR [-cache DIR] [-store gzip|zstd|plain] NAME ...
//
// The names are those of the list in family.go; "family" stands for the whole
// family that deduplication is measured on.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"thaw.dev/thaw/internal/debimage"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "", "folder of the OCI layout")
	cache := flag.String("cache", ".cache/debs", "folder that keeps fetched packages")
	store := flag.String("store", "gzip", "how layers are stored: gzip, zstd or plain")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		log.Fatal("usage: images -o DIR [-cache DIR] [-store gzip|zstd|plain] NAME ...")
	}
	if err := build(context.Background(), *out, *cache, *store, flag.Args()); err != nil {
		log.Fatal("images: ", err)
	}
}

func build(ctx context.Context, out, cache, store string, names []string) error {
	compression, ok := map[string]debimage.Compression{"gzip": debimage.Gzip, "zstd": debimage.Zstd, "plain": debimage.Plain}[store]
	if !ok {
		return fmt.Errorf("there is no way to store layers called %q", store)
	}
	work, err := os.MkdirTemp("", "thaw-images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	layout, err := debimage.NewLayout(out)
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(cache)
	if err != nil {
		return err
	}
	b := &debimage.Builder{Apt: debimage.Apt{Dir: absolute}, Layout: layout, Store: compression, WorkDir: work}
	images, err := pick(names, apps{work: work})
	if err != nil {
		return err
	}
	for _, img := range images {
		start := time.Now()
		if err := b.Build(ctx, img); err != nil {
			return err
		}
		log.Printf("%-14s built in %.1f s", img.Tag, time.Since(start).Seconds())
	}
	return nil
}

// apps makes the folders of applications.
type apps struct{ work string }

// goProgram compiles one of the project's programs to the name file in a folder.
func (a apps) goProgram(name, file, pkg string, ldflags ...string) (string, error) {
	dir := filepath.Join(a.work, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	flags := "-s -w"
	for _, f := range ldflags {
		flags += " " + f
	}
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", flags, "-o", filepath.Join(dir, file), pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return dir, cmd.Run()
}

// files writes files by name.
func (a apps) files(name string, contents map[string]string) (string, error) {
	dir := filepath.Join(a.work, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for file, text := range contents {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}
