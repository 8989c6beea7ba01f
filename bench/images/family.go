// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"thaw.dev/thaw/internal/debimage"
)

//go:embed handlers
var handlers embed.FS

// family is what deduplication is measured on: applications of seven kinds,
// one-line changes (:2), the same rebuilt on a base and runtime with security
// updates (:3), rebuilt with no change (:4), and two customers with pipelines
// of their own that make one layer of everything.
var family = []string{
	"go-hello:1", "go-hello:2", "node-api:1", "node-api:2", "node-api:3", "py-hello:1",
	"py-data:1", "py-data:2", "py-data:3", "py-data:4", "ruby-api:1", "php-api:1", "java-api:1", "java-api:3",
	"custb-data:1", "custc-node:1",
}

// kinds is how each application is made: its packages and how it is run.
var kinds = map[string]debimage.Image{
	"node-api": {Packages: []string{"nodejs"}, Config: debimage.Config{Entrypoint: []string{"/usr/bin/node", "bootstrap.mjs"}, Cmd: []string{"app.handler"}}},
	"py-hello": {Packages: []string{"python3"}, Python: true, Config: debimage.Config{Entrypoint: []string{"/usr/bin/python3", "bootstrap.py"}, Cmd: []string{"app.handler"}}},
	"py-data":  {Packages: []string{"python3", "python3-numpy", "python3-pandas"}, Python: true, Links: blas, Config: debimage.Config{Entrypoint: []string{"/usr/bin/python3", "bootstrap.py"}, Cmd: []string{"data.handler"}}},
	"py-sci":   {Packages: []string{"python3", "python3-numpy", "python3-pandas", "python3-sklearn"}, Python: true, Links: blas, Config: debimage.Config{Entrypoint: []string{"/usr/bin/python3", "bootstrap.py"}, Cmd: []string{"sci.handler"}}},
	"ruby-api": {Packages: []string{"ruby"}, Config: debimage.Config{Entrypoint: []string{"/usr/bin/ruby", "bootstrap.rb"}}},
	"php-api":  {Packages: []string{"php8.2-cli"}, Config: debimage.Config{Entrypoint: []string{"/usr/bin/php8.2", "bootstrap.php"}}},
	"java-api": {Packages: []string{"openjdk-17-jre-headless"}, Config: debimage.Config{Entrypoint: []string{"/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", "/var/task", "Bootstrap"}}},
	"web":      {Packages: []string{"python3"}, Python: true, Config: debimage.Config{Entrypoint: []string{"/var/task/adapter", "/usr/bin/python3", "server.py"}}},
	// Handlers of three languages on one image of two of them and a graphics stack.
	"go-medium":   {Packages: medium, Python: true, Links: blas, Config: debimage.Config{Entrypoint: []string{"/var/task/handler"}}},
	"py-medium":   {Packages: medium, Python: true, Links: blas, Config: debimage.Config{Entrypoint: []string{"/usr/bin/python3", "bootstrap.py"}, Cmd: []string{"app.handler"}}},
	"node-medium": {Packages: medium, Python: true, Links: blas, Config: debimage.Config{Entrypoint: []string{"/usr/bin/node", "bootstrap.mjs"}, Cmd: []string{"app.handler"}}},
	"big":         {Packages: []string{"python3", "kicad-packages3d"}, Python: true, Config: debimage.Config{Entrypoint: []string{"/usr/bin/python3", "bootstrap.py"}, Cmd: []string{"app.handler"}}},
}

var medium = []string{"nodejs", "python3", "python3-numpy", "libgl1"}

// blas are the links that Debian's alternatives would make.
var blas = map[string]string{
	"usr/lib/x86_64-linux-gnu/libblas.so.3":   "blas/libblas.so.3",
	"usr/lib/x86_64-linux-gnu/liblapack.so.3": "lapack/liblapack.so.3",
}

func pick(names []string, a apps) ([]debimage.Image, error) {
	if slices.Equal(names, []string{"family"}) {
		names = family
	}
	var images []debimage.Image
	for _, name := range names {
		img, err := describe(name, a)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// describe turns APP:VERSION into what the image holds.
func describe(tag string, a apps) (debimage.Image, error) {
	app, version, _ := strings.Cut(tag, ":")
	switch app {
	case "go-hello":
		return a.scratch(tag, "handler", "./examples/go", "-buildid="+version)
	case "fill", "one":
		return a.filled(tag, app, version, "./examples/go")
	case "probe-one":
		return a.filled(tag, "one", version, "./bench/images/probe")
	case "probe":
		return a.scratch(tag, "handler", "./bench/images/probe")
	}
	app, probed := strings.CutSuffix(app, "-probe")
	kind, squash := app, false
	switch app {
	case "custb-data":
		kind, squash = "py-data", true
	case "custc-node":
		kind, squash = "node-api", true
	}
	img, ok := kinds[kind]
	if !ok {
		return img, fmt.Errorf("there is no image called %q", app)
	}
	img.Tag, img.Squash = tag, squash
	img.Config.WorkingDir = "/var/task"
	if version == "1" || version == "2" {
		img.Release = "bookworm"
	}
	dir, err := a.application(kind, version)
	img.App = map[string]string{"var/task": dir}
	if probed && err == nil {
		img.App["opt/probe"], err = a.goProgram("probe-"+version, "probe", "./bench/images/probe")
		img.Config.Entrypoint, img.Config.Cmd = []string{"/opt/probe/probe"}, nil
	}
	return img, err
}

// filled is a Go function in an image of the size that the version names, in
// MiB: "fill:10240" is an image of 10 GiB, "one:1024" has a file of 1 GiB.
func (a apps) filled(tag, app, version, program string) (debimage.Image, error) {
	megabytes, err := strconv.Atoi(version)
	if err != nil {
		return debimage.Image{}, fmt.Errorf("image %s: the version is a size in MiB", tag)
	}
	img, err := a.scratch(tag, "handler", program)
	img.FillMB = megabytes
	if app == "one" {
		img.FillFileMB = megabytes
	}
	return img, err
}

// scratch is an image of one static program.
func (a apps) scratch(tag, file, pkg string, ldflags ...string) (debimage.Image, error) {
	dir, err := a.goProgram(strings.ReplaceAll(tag, ":", "-"), file, pkg, ldflags...)
	return debimage.Image{Tag: tag, Scratch: true, App: map[string]string{".": dir}, Config: debimage.Config{Entrypoint: []string{"/" + file}}}, err
}

// application writes the files of one version of an application.
func (a apps) application(kind, version string) (string, error) {
	if version == "4" {
		version = "3"
	}
	files := map[string]string{}
	switch kind {
	case "go-medium":
		return a.goProgram(kind+"-"+version, "handler", "./examples/go")
	case "node-api", "node-medium":
		files["bootstrap.mjs"], files["app.mjs"] = example("node/bootstrap.mjs"), example("node/app.mjs")+"// version "+version+"\n"
	case "py-hello", "py-data", "py-sci", "py-medium", "big":
		files["bootstrap.py"], files["app.py"] = example("python/bootstrap.py"), example("python/app.py")+"# version "+version+"\n"
		files["data.py"] = handler("data.py")
		if kind == "py-sci" {
			files["sci.py"] = handler("sci.py")
		}
	case "ruby-api":
		files["bootstrap.rb"] = handler("bootstrap.rb")
	case "php-api":
		files["bootstrap.php"] = handler("bootstrap.php")
	case "java-api":
		return a.java("java-"+version, version)
	case "web":
		dir, err := a.goProgram("web-"+version, "adapter", "./examples/web/adapter")
		if err != nil {
			return "", err
		}
		return dir, os.WriteFile(filepath.Join(dir, "server.py"), []byte(example("web/server.py")), 0o644)
	}
	return a.files(kind+"-"+version, files)
}

// example reads a file of the project's examples; the command is run from the
// project's root.
func example(name string) string {
	text, err := os.ReadFile("examples/" + name)
	if err != nil {
		panic("images must be run from the root of the project: " + err.Error())
	}
	return string(text)
}

func handler(name string) string {
	text, err := handlers.ReadFile("handlers/" + name)
	if err != nil {
		panic("internal error: not embedded: " + err.Error())
	}
	return string(text)
}
