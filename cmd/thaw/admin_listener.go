// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"thaw.dev/thaw"
)

// socketPause is how often it is looked whether the admin socket is still there.
const socketPause = time.Second

// listenAdmin opens the admin socket, for this machine's operator.
func (n *node) listenAdmin(context.Context) (err error) {
	if n.socket, err = openSocket(adminSocket(n.cmd.Data)); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return ignoreClosed(n.socket.Close()) })
	return nil
}

func openSocket(path string) (net.Listener, error) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), ignoreAbsent(os.Remove(path))); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, thaw.Errorf("serve", thaw.Invalid, "the admin socket (a path of at most 107 bytes): %w", err)
	}
	return l, os.Chmod(path, 0o600)
}

// keepSocket opens the admin socket again where somebody has removed it, until ctx
// ends: without it most commands, and so the remedies, would not reach the server.
func (n *node) keepSocket(ctx context.Context, serve func(net.Listener)) error {
	path := adminSocket(n.cmd.Data)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(socketPause):
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			continue
		}
		l, err := openSocket(path)
		if err != nil {
			n.log.Error("the admin socket was removed and can't be made again", "error", err)
			continue
		}
		n.log.Warn("the admin socket was removed: it was made again", "path", path)
		serve(l)
	}
}

// listenMonitoring opens the listener for monitoring, if there is one.
func (n *node) listenMonitoring(context.Context) error {
	if n.cmd.AdminListen == "" {
		return nil
	}
	var err error
	if n.admin, err = net.Listen("tcp", n.cmd.AdminListen); err != nil {
		return listenError("--admin-listen", n.cmd.AdminListen, err)
	}
	n.onClose(func(context.Context) error { return ignoreClosed(n.admin.Close()) })
	n.adminAddress = n.admin.Addr().String()
	return nil
}

// adminHandler is for monitoring: it changes nothing and names no tenant's
// secret.
func (n *node) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metricsHandler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", n.readyz)
	return mux
}
