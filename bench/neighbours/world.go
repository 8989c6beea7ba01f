// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/internal/livetest"
)

// mostAbusers is how many tenants there are beside the victim.
const mostAbusers = 8

// serveFlags are flags of older programs too. All bounds are the defaults.
var serveFlags = []string{"--drain-time", "1s"}

// serverFiles is how many descriptors a server has: fewer than abusers, so that
// they can try to take all.
const serverFiles = 14_000

// world is a data folder with a victim's functions, and its server.
type world struct {
	program program
	binary  string // starts the program, with a bound on descriptors
	dir     string
	work    string   // of all worlds: images and programs
	layouts string   // keeps the victim's images for the next run; may be empty
	remotes []string // registries elsewhere, of the abusers: host and port

	folders int
	server  *livetest.Server
	victim  *measure.Bench
	creds   livetest.Credentials // the victim's
	tenants []livetest.Credentials
	broken  bool // the data folder must not be used again
}

func openWorld(ctx context.Context, dir, layouts string, p program) (*world, error) {
	w := &world{program: p, dir: dir, work: filepath.Dir(dir), layouts: layouts, broken: true}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Go gives children the limit that it found itself, so a shell sets it.
	w.binary = filepath.Join(dir, "thaw")
	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d && exec '%s' \"$@\"\n", serverFiles, p.path)
	if err := os.WriteFile(w.binary, []byte(script), 0o755); err != nil {
		return nil, err
	}
	for range mostAbusers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		w.remotes = append(w.remotes, l.Addr().String())
		if err := l.Close(); err != nil { // an abuser listens there later
			return nil, err
		}
	}
	// The images are made while nothing is measured.
	if _, err := w.images(ctx); err != nil {
		return nil, err
	}
	_, err := w.abuserProgram(ctx)
	return w, err
}

// images is a layout with the victim's images.
func (w *world) images(ctx context.Context) (string, error) {
	return measure.BuildImages(ctx, cmp.Or(w.layouts, w.work), "gzip", warmTag, coldTag)
}

// abuserProgram is the function of the abusers.
func (w *world) abuserProgram(ctx context.Context) (string, error) {
	file := filepath.Join(w.work, "program")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	root, err := livetest.Root()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", file, "./bench/neighbours/program")
	cmd.Dir, cmd.Env, cmd.Stderr = root, append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return file, cmd.Run()
}

// start starts the server, and makes what it needs in a new data folder.
func (w *world) start(ctx context.Context, s *scenario) error {
	if w.server == nil || w.broken {
		if err := w.found(ctx, s); err != nil {
			return err
		}
	} else if err := w.server.Run(ctx); err != nil {
		return err
	}
	return w.warmUp(ctx, s)
}

// found begins with a new data folder.
func (w *world) found(ctx context.Context, s *scenario) error {
	w.folders++
	flags := serveFlags
	for _, r := range w.remotes {
		flags = append(flags, "--allow-registry", "http://"+r)
	}
	var err error
	w.server, err = livetest.StartProgram(ctx, w.binary, filepath.Join(w.dir, fmt.Sprint("data-", w.folders)), append(flags, s.flags...)...)
	if err != nil {
		return err
	}
	// One with flags of its own is for that scenario alone.
	w.broken = len(s.flags) > 0
	if w.creds, err = w.server.CreateTenant(ctx, "victim"); err != nil {
		return err
	}
	w.victim, w.tenants = measure.As(w.server, w.creds, w.dir), nil
	for i := range mostAbusers {
		creds, err := w.server.CreateTenant(ctx, fmt.Sprint("abuser-", i))
		if err != nil {
			return err
		}
		w.tenants = append(w.tenants, creds)
	}
	return w.createVictims(ctx)
}

// restart is stop and start: a server as new, on the same folder unless that is
// broken.
func (w *world) restart(ctx context.Context, s *scenario) error {
	if err := w.stop(); err != nil {
		return err
	}
	return w.start(ctx, s)
}

// stop ends the server. One that does not end by itself is killed: its folder is
// not used again, as of one that ended before.
func (w *world) stop() error {
	if w.server == nil {
		return nil
	}
	if err := w.server.Stop(); err != nil {
		w.broken = true
	}
	if w.broken {
		err := os.RemoveAll(w.server.Data)
		if err != nil {
			return fmt.Errorf("the server left something behind: %w", err)
		}
	}
	return nil
}

// giveUp ends the server, whose data folder is not used again.
func (w *world) giveUp() {
	w.broken = true
	_ = w.stop() // a new one has another folder
}

// close ends the server and removes all of its folders.
func (w *world) close() {
	if w.server != nil && w.alive() {
		_ = w.server.Stop()
	}
	_ = os.RemoveAll(w.dir)
}

// alive reports whether the server's process is there.
func (w *world) alive() bool { return syscall.Kill(w.server.PID(), 0) == nil }

// lastWords is the end of what the server printed, if it ended.
func (w *world) lastWords() string {
	lines := strings.Split(strings.TrimSpace(w.server.Log.String()), "\n")
	return lines[len(lines)-1]
}

// warmUp has each victim answer, so that what is measured has no first time in it.
func (w *world) warmUp(ctx context.Context, s *scenario) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for range 20 {
		if _, err := w.warm(ctx); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	for range 2 {
		if _, err := w.cold(ctx); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	if s.deploy != nil {
		if _, err := s.deploy(ctx, w); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	return nil
}
