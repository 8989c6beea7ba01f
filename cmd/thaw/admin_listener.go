// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"os"

	"thaw.dev/thaw"
)

// listenAdmin opens the admin socket, for this machine's operator.
func (n *node) listenAdmin(context.Context) error {
	path := adminSocket(n.cmd.Data)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var err error
	if n.socket, err = net.Listen("unix", path); err != nil {
		return thaw.Errorf("serve", thaw.Invalid, "the admin socket (a path of at most 107 bytes): %w", err)
	}
	n.onClose(func(context.Context) error { return ignoreClosed(n.socket.Close()) })
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return nil
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
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return mux
}
