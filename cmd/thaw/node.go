// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/apart"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/internal/door"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/internal/guard"
	"thaw.dev/thaw/internal/quota"
	"thaw.dev/thaw/internal/spool"
	"thaw.dev/thaw/internal/sqlitedb"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/logs"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
	"thaw.dev/thaw/invoke/worker"
	"thaw.dev/thaw/read/loader"
	"thaw.dev/thaw/tenant"
	"thaw.dev/thaw/tenant/keys"
)

// currentRoot is the generation of the chunk store that new images go to.
const currentRoot thaw.RootID = "r1"

// node is a whole server: what is opened first is closed last.
type node struct {
	cmd *serveCmd
	log *slog.Logger

	address      *address // of the API and the registry
	adminAddress string   // of the admin listener, if any

	origin   origin
	bucket   bucketOrigin
	keys     *keys.Local
	db       *sql.DB
	dbFile   os.FileInfo // of the file that db was opened from
	checked  checked
	accounts *tenant.Accounts
	logins   *tenant.Logins
	resolver *source.Resolver
	ingest   *apart.Apart
	registry *registry.Store
	tokens   *registry.TokenIssuer
	loader   *loader.Client
	tmp      *tmpdisk.Store
	launcher sandbox.Launcher
	nat      *network.NAT     // nil where functions have no network
	servers  []netip.AddrPort // of the zone, which are closed to functions
	logs     *logs.Store
	worker   *worker.Worker
	control  *control.Control
	metrics  *metrics
	traces   *traces
	tenants  tenants
	pools    []*fair.Pool          // that tenants share, complete before anything is served
	usages   []func() []fair.Usage // likewise
	quotas   []*quota.Quota

	doors  doors
	bodies *spool.Store // of requests, until they have come

	public net.Listener // the API and the registry
	admin  net.Listener // metrics and health; nil without
	socket net.Listener // the admin socket

	drained chan struct{} // closed when the server stops and has answered its clients
	closers []func(context.Context) error
}

// openNode opens everything and begins to listen; it serves nothing yet. When
// it fails, what it opened is closed.
func openNode(ctx context.Context, c *serveCmd, log *slog.Logger) (_ *node, err error) {
	n := &node{cmd: c, log: log, metrics: newMetrics(), drained: make(chan struct{})}
	defer func() {
		if err != nil {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			err = errors.Join(err, n.close(closing))
		}
	}()
	for _, step := range []func(context.Context) error{
		n.listen, n.listenMonitoring, n.giveUpRights, n.openDoors, n.openStores, n.openRegistry, n.openTraces, n.openSandboxes, n.openWorker, n.openControl, n.listenAdmin,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// onClose has f called when the node closes, before what was opened earlier.
func (n *node) onClose(f func(context.Context) error) { n.closers = append(n.closers, f) }

// close closes everything, and goes on after a failure.
func (n *node) close(ctx context.Context) error {
	var failed []error
	for len(n.closers) > 0 {
		last := len(n.closers) - 1
		failed = append(failed, n.closers[last](ctx))
		n.closers = n.closers[:last]
	}
	return errors.Join(failed...)
}

// listen opens the public listener first: what clients are told depends on its
// port.
func (n *node) listen(context.Context) error {
	var err error
	if n.public, err = net.Listen("tcp", n.cmd.Listen); err != nil {
		return listenError("--listen", n.cmd.Listen, err)
	}
	n.onClose(func(context.Context) error { return ignoreClosed(n.public.Close()) })
	n.address, err = newAddress(n.public, n.cmd.Endpoint)
	return err
}

// giveUpRights comes before anything is read and anything is started.
func (n *node) giveUpRights(context.Context) error {
	confine(guard.Server, n.log)
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// databaseLost refuses to begin anew where there are keys of tenants whose
// database is gone: every function and every login would seem never to have been.
func (n *node) databaseLost() error {
	if _, err := os.Stat(n.databasePath()); !errors.Is(err, os.ErrNotExist) {
		return nil // sqlitedb.Open says what else may be wrong
	}
	owned, err := filepath.Glob(filepath.Join(n.cmd.Data, "keys", "tenant-*.json"))
	if err != nil || len(owned) == 0 {
		return thaw.Wrap("serve", err)
	}
	return thaw.Errorf("serve", thaw.Lost, "%s is gone, but keys/ has the keys of %d tenants: is a disk not mounted? Restore thaw.db from a backup; to begin anew, move keys/ away",
		n.databasePath(), len(owned))
}

func (n *node) databasePath() string { return filepath.Join(n.cmd.Data, "thaw.db") }

func (n *node) openStores(ctx context.Context) error {
	var err error
	if err = n.openOrigin(ctx); err != nil {
		return err
	}
	if n.keys, err = keys.OpenLocal(filepath.Join(n.cmd.Data, "keys")); err != nil {
		return err
	}
	if err = n.databaseLost(); err != nil {
		return err
	}
	if n.db, err = sqlitedb.Open(ctx, n.databasePath()); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return n.db.Close() })
	if n.dbFile, err = os.Stat(n.databasePath()); err != nil {
		return thaw.Wrap("serve", err)
	}
	if err := n.keepRegion(ctx); err != nil {
		return err
	}
	if n.accounts, err = tenant.Open(ctx, n.db); err != nil {
		return err
	}
	n.logins = n.accounts.Logins(n.keys)
	_, err = n.accounts.ByName(ctx, "default")
	if err != nil && thaw.KindOf(err) == thaw.NotFound {
		_, err = n.accounts.Create(ctx, "default")
	}
	if err != nil {
		return err
	}
	if err := n.weighTenants(ctx); err != nil {
		return err
	}
	limits := logs.DefaultLimits()
	limits.TenantBytes = n.cmd.MaxLogMB << 20
	if n.logs, err = logs.Open(filepath.Join(n.cmd.Data, "logs"), limits); err != nil {
		return err
	}
	n.bound(n.logs.Quota())
	return nil
}

// lookup finds the secret of an access key, for signatures and logins.
func (n *node) lookup(ctx context.Context, accessKey string) (string, thaw.TenantID, error) {
	return n.accounts.Credential(ctx, accessKey)
}

func (n *node) openRegistry(ctx context.Context) error {
	o := registry.DefaultOptions(filepath.Join(n.cmd.Data, "registry"))
	o.Log, o.Spool = n.log, n.bodies
	for _, name := range n.cmd.Publishers {
		account, err := n.accounts.ByName(ctx, name)
		if err != nil {
			return thaw.Wrap("--publishers "+name, err)
		}
		o.Publishers = append(o.Publishers, account.ID)
	}
	var err error
	if o.Limits, err = n.cmd.registryLimits(n.cmd.Data); err != nil {
		return err
	}
	if n.registry, err = registry.Open(o); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return n.registry.Close() })
	n.share(n.registry.Pools()...)
	n.bound(n.registry.Quotas()...)
	// Tokens must stay good over a restart, so their secret is derived from one
	// that is kept.
	mac := hmac.New(sha256.New, n.keys.SaltMaster())
	mac.Write([]byte("thaw registry token secret"))
	n.tokens, err = registry.NewTokenIssuer(mac.Sum(nil), n.accounts.CurrentKey)
	return err
}

// openControl comes after the worker, which it tells what has changed.
func (n *node) openControl(ctx context.Context) error {
	egress, err := source.ParseEgress(n.cmd.AllowRegistry)
	if err != nil {
		return thaw.Wrap("--allow-registry", err)
	}
	n.resolver = source.New(source.Options{
		Store: n.registry, Hosts: n.address.hosts(),
		Credentials: n.logins.Get, Egress: egress,
	})
	temp := filepath.Join(n.cmd.Data, "run", "ingest")
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o700)); err != nil {
		return err
	}
	if n.ingest, err = n.startIngest(); err != nil {
		return err
	}
	n.onClose(n.ingest.Close)
	images := &imageMaker{resolver: n.resolver, origin: &n.bucket, log: n.log, ingest: n.ingest.Run, options: ingest.Options{
		Sink: n.origin, Objects: n.origin, Keys: n.keys, SaltMaster: n.keys.SaltMaster(),
		Root: currentRoot, OneDomain: n.cmd.OneDomain, TempDir: temp,
	}}
	imageBytes, err := n.cmd.imageBytes()
	if err != nil {
		return err
	}
	n.control, err = control.Open(ctx, control.Options{
		DB: n.db, Images: images, Region: n.cmd.Region, Log: n.log, PrepareTime: n.cmd.PrepareTime,
		Functions: n.cmd.MaxFunctions, ImageBytes: imageBytes,
		Retire: func(_ context.Context, t thaw.TenantID, function string) { n.worker.Retire(t, function) },
	})
	if err != nil {
		return err
	}
	n.onClose(n.control.Close)
	n.share(n.control.Pools()...)
	n.bound(n.control.Quotas()...)
	return nil
}

// serve answers until ctx ends or a listener fails; the requests that are
// running then may finish.
func (n *node) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	serve := func(l net.Listener, by *door.Door, h http.Handler, ended func()) {
		if l == nil {
			return
		}
		server := &http.Server{
			Handler:     h,
			ErrorLog:    slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
			BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		}
		by.Guard(server)
		l = by.Listener(l)
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			defer ended()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cmd.DrainTime)
			defer cancel()
			if err := server.Shutdown(drain); err != nil {
				n.log.Warn("requests were cut off", "after", n.cmd.DrainTime.String())
				return server.Close()
			}
			return nil
		})
	}
	group.Go(func() error { return n.registry.Run(ctx) })
	group.Go(func() error { return n.logs.Run(ctx, n.log) })
	group.Go(func() error { return n.watchOrigin(ctx) })
	if n.nat != nil {
		group.Go(func() error {
			n.followServers(ctx, n.servers)
			return nil
		})
	}
	serve(n.public, n.doors.public, n.publicHandler(), func() { close(n.drained) })
	serve(n.admin, n.doors.monitoring, n.adminHandler(), func() {})
	serve(n.socket, n.doors.socket, n.socketHandler(), func() {})
	group.Go(func() error {
		return n.keepSocket(ctx, func(l net.Listener) { serve(l, n.doors.socket, n.socketHandler(), func() {}) })
	})
	return group.Wait()
}
