// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Builder makes images whose base, runtime and application layers are shared
// as they are in a registry that real teams push to.
type Builder struct {
	Apt     Apt         // where the packages come from
	Layout  *Layout     // where the images go
	Store   Compression // how the layers are stored
	WorkDir string      // for trees that have to be run to be finished

	layers map[string]Descriptor // layers already made, by what they hold
}

// base is what every image starts from: a shell, the C library, and what
// people expect of a small distribution.
var base = []string{"base-files", "base-passwd", "bash", "coreutils", "ca-certificates", "findutils", "grep", "sed", "tar", "gzip", "tzdata", "libc-bin", "netbase", "openssl"}

// Image says what an image holds.
type Image struct {
	Tag        string
	Release    string            // suite of the packages, "" for the newest of all
	Packages   []string          // of the runtime layer, over the base
	Scratch    bool              // no base: the application is all
	Squash     bool              // one layer of everything, as other pipelines make it
	App        map[string]string // destination to a folder of the host, the application's layer
	Links      map[string]string // symbolic links of the runtime layer
	FillMB     int               // so many MiB of files that nothing else has, in a layer of their own
	FillFileMB int               // size of each, 0 for the usual
	Python     bool              // compile the modules ahead, as the package's scripts do
	Config     Config
}

// Build makes one image.
func (b *Builder) Build(ctx context.Context, img Image) error {
	if b.layers == nil {
		b.layers = map[string]Descriptor{}
	}
	layers, err := b.packageLayers(ctx, img)
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Tag, err)
	}
	if len(img.App) > 0 {
		layers = append(layers, Layer{Dirs: img.App})
	}
	if img.FillMB > 0 {
		layers = append(layers, Layer{FillMB: img.FillMB, FillFileMB: img.FillFileMB})
	}
	if img.Squash {
		layers = []Layer{squash(layers)}
	}
	descriptors := make([]Descriptor, len(layers))
	for i, layer := range layers {
		if descriptors[i], err = b.layer(ctx, layer); err != nil {
			return fmt.Errorf("image %s: %w", img.Tag, err)
		}
	}
	return b.Layout.AddImage(img.Tag, descriptors, img.Config)
}

// packageLayers returns the base's layer and the runtime's.
func (b *Builder) packageLayers(ctx context.Context, img Image) ([]Layer, error) {
	if img.Scratch {
		return nil, nil
	}
	apt := b.Apt
	apt.Release = img.Release
	baseDebs, err := apt.Closure(ctx, base...)
	if err != nil {
		return nil, err
	}
	layers := []Layer{{Packages: baseDebs}}
	if len(img.Packages) == 0 {
		return layers, nil
	}
	all, err := apt.Closure(ctx, append(slices.Clone(base), img.Packages...)...)
	if err != nil {
		return nil, err
	}
	runtime := Layer{Links: img.Links}
	for _, deb := range all {
		if !slices.Contains(baseDebs, deb) {
			runtime.Packages = append(runtime.Packages, deb)
		}
	}
	if img.Python {
		cached, err := b.compilePython(ctx, all)
		if err != nil {
			return nil, err
		}
		runtime.Dirs = map[string]string{"usr": cached}
	}
	return append(layers, runtime), nil
}

// layer makes a layer unless one of the same contents is there already.
func (b *Builder) layer(ctx context.Context, layer Layer) (Descriptor, error) {
	key := fmt.Sprint(layer)
	if d, ok := b.layers[key]; ok && len(layer.Packages) > 0 {
		return d, nil
	}
	d, err := b.Layout.AddLayer(ctx, layer, b.Store)
	if err == nil {
		b.layers[key] = d
	}
	return d, err
}

func squash(layers []Layer) Layer {
	out := Layer{Dirs: map[string]string{}, Links: map[string]string{}}
	for _, l := range layers {
		out.Packages = append(out.Packages, l.Packages...)
		for dest, dir := range l.Dirs {
			out.Dirs[dest] = dir
		}
		for name, target := range l.Links {
			out.Links[name] = target
		}
	}
	return out
}

// compilePython unpacks the packages, lets their own Python compile its
// modules, and returns a folder with the compiled files alone, to be laid over
// /usr. Without them every start would compile what it imports.
func (b *Builder) compilePython(ctx context.Context, debs []string) (string, error) {
	tree, err := os.MkdirTemp(b.WorkDir, "python-tree-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tree)
	archive := filepath.Join(tree, "all.tar")
	file, err := os.Create(archive)
	if err != nil {
		return "", err
	}
	if err := (Layer{Packages: debs}).write(ctx, file); err != nil {
		return "", err
	}
	if err := file.Close(); err != nil {
		return "", err
	}
	root := filepath.Join(tree, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return "", err
	}
	if _, err := output(ctx, "tar", "-C", root, "-xf", archive); err != nil {
		return "", err
	}
	// compileall's status is that of the worst module; some test modules of the
	// standard library are wrong on purpose.
	compile := exec.CommandContext(ctx, "chroot", root, "/usr/bin/python3", "-m", "compileall", "-q", "/usr/lib/python3.11", "/usr/lib/python3")
	_ = compile.Run()
	compiled, err := os.MkdirTemp(b.WorkDir, "python-compiled-")
	if err != nil {
		return "", err
	}
	list, err := output(ctx, "find", filepath.Join(root, "usr"), "-name", "*.pyc", "-printf", "%P\n")
	if err != nil {
		return "", err
	}
	for name := range strings.Lines(list) {
		name = strings.TrimSuffix(name, "\n")
		dest := filepath.Join(compiled, name)
		if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
			return "", err
		}
		if err := os.Rename(filepath.Join(root, "usr", name), dest); err != nil {
			return "", err
		}
		if err := os.Chtimes(dest, time.Time{}, epoch); err != nil {
			return "", err
		}
	}
	return compiled, nil
}
