// SPDX-License-Identifier: Apache-2.0

// Package debimage makes real container images out of Debian packages, without
// an engine, a registry to pull from, or a root file system to install into:
// the files of the packages become layers as they are. The images run, and are
// as large, as small and as repetitive as what people deploy; tests, the demo
// and the benchmarks use them.
package debimage

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"thaw.dev/thaw"
)

// Apt resolves and fetches packages with the machine's own apt, but against an
// empty package database, so that what comes out does not depend on what the
// machine has installed.
type Apt struct {
	// Dir keeps the fetched packages between runs.
	Dir string

	// Release restricts packages to one suite ("bookworm" leaves the security
	// updates out, which makes the older version of an image); empty takes the
	// newest of all suites.
	Release string
}

// Closure returns the file names of the packages that installing names needs,
// without recommendations, in the order in which they would be unpacked, and
// fetches those that [Apt.Dir] lacks.
func (a Apt) Closure(ctx context.Context, names ...string) ([]string, error) {
	if err := os.MkdirAll(filepath.Join(a.Dir, "partial"), 0o755); err != nil {
		return nil, err
	}
	status := filepath.Join(a.Dir, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	options := []string{"-qq", "-y", "--no-install-recommends",
		"-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache::archives=" + a.Dir,
		"-o", "Debug::NoLocking=1",
		"-o", "APT::Sandbox::User=root",
	}
	if a.Release != "" {
		options = append(options, "-o", "APT::Default-Release="+a.Release)
	}
	install := append(options, append([]string{"install"}, names...)...)
	listing, err := output(ctx, "apt-get", append([]string{"--simulate"}, install...)...)
	if err != nil {
		return nil, err
	}
	if _, err := output(ctx, "apt-get", append([]string{"--download-only"}, install...)...); err != nil {
		return nil, err
	}
	return a.archives(listing)
}

// archives maps the "Inst NAME (VERSION ... [ARCH])" lines of a simulation to
// the files that apt keeps for them.
func (a Apt) archives(listing string) ([]string, error) {
	var files []string
	for line := range strings.Lines(listing) {
		rest, ok := strings.CutPrefix(line, "Inst ")
		if !ok {
			continue
		}
		name, rest, _ := strings.Cut(rest, " (")
		version, rest, _ := strings.Cut(rest, " ")
		_, arch, _ := strings.Cut(rest, "[")
		arch, _, _ = strings.Cut(arch, "]")
		name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
		file := filepath.Join(a.Dir, fmt.Sprintf("%s_%s_%s.deb", name, strings.ReplaceAll(version, ":", "%3a"), arch))
		if _, err := os.Stat(file); err != nil {
			return nil, thaw.Errorf("fetch "+name, thaw.NotFound, "apt kept no archive for it: %w", err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, thaw.Errorf("resolve packages", thaw.NotFound, "apt would install nothing; it said %q", listing)
	}
	return files, nil
}

// contents streams the files of one package as a tar.
func contents(ctx context.Context, deb string, visit func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := visit(pipe); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	// dpkg-deb pads its tar; it fails if nobody reads the padding.
	_, _ = io.Copy(io.Discard, pipe)
	return cmd.Wait()
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.Output()
	if err != nil {
		return "", thaw.Errorf(name+" "+strings.Join(args, " "), thaw.Unavailable, "%w: %s", err, stderr.String())
	}
	return string(out), nil
}
