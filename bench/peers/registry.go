// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// registry is a plain registry that keeps blobs in memory, so that pulls don't
// wait for a disk that the worker's own reads share; what L2 holds is in memory
// too.
type registry struct {
	*jailed
	address string
}

const registryConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, cache: {blobdescriptor: inmemory}}
http: {addr: %q}
`

// startRegistry returns when the registry answers. Stop it.
func (p programs) startRegistry(ctx context.Context, dir string) (*registry, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close() // only its port was wanted
	blobs, config := filepath.Join(dir, "registry"), filepath.Join(dir, "registry.yml")
	if err := os.Mkdir(blobs, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, registryConfig, blobs, address), 0o600); err != nil {
		return nil, err
	}
	j, err := p.startJailed(fmt.Sprintf("mount -t tmpfs tmpfs '%s'\nexec docker-registry serve '%s'\n", blobs, config))
	if err != nil {
		return nil, err
	}
	err = j.until(ctx, func() error {
		answer, err := http.Get("http://" + address + "/v2/")
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
	return &registry{j, address}, err
}

// readyTimeout is a guard against servers that never answer.
const readyTimeout = 30 * time.Second

// until waits for a process to be ready, and stops it where it never is.
func (j *jailed) until(ctx context.Context, ready func() error) error {
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := ready()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Since(begin) > readyTimeout {
			j.stop()
			return errors.Join(ctx.Err(), fmt.Errorf("%s: %w\n%s", j.cmd.Args, err, j.log))
		}
	}
}

// push copies an image of a layout.
func (r *registry) push(ctx context.Context, layout, tag string) error {
	return try(exec.CommandContext(ctx, "skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false",
		"oci:"+layout+":"+tag, "docker://"+r.reference(tag)))
}

// reference is the name of an image of a layout here.
func (r *registry) reference(tag string) string { return r.address + "/" + tag }
