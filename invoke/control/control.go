// SPDX-License-Identifier: Apache-2.0

// Package control keeps the functions: their configuration, the image that
// serves each, and the states in between, as Lambda's API describes them. It
// promises that what it acknowledged is durable; that a name of another tenant
// can't be told from one that does not exist; that an image being prepared
// does not disturb the one that serves; and that preparation which a crash cut
// off goes on at the next start. It knows neither HTTP nor sandboxes nor how
// an image is prepared.
//
// Lock order: Control.mu and targets.mu are leaves; none is held across a
// query or a call outside of this package.
package control

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/internal/quota"
	"thaw.dev/thaw/internal/sqlitedb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Images turns references into images. Implementations are safe for concurrent
// use.
type Images interface {
	// Resolve returns what ref names now. Errors: [thaw.NotFound],
	// [thaw.Denied] (the registry refuses this tenant), [thaw.Invalid] (no
	// reference, or nothing that can run), [thaw.Unavailable].
	Resolve(ctx context.Context, tenant thaw.TenantID, ref string) (Resolved, error)

	// Prepare makes a resolved image ready to serve: afterwards the registry
	// is not needed any more. It may take minutes; it may run again after a
	// crash, from the beginning. It calls report now and then, never after it
	// returned. Errors as Resolve's; besides [thaw.TooLarge] and
	// [thaw.Corrupt] for what is wrong with the image, and one that wraps
	// [ErrDied]. The text of these errors is shown to the tenant.
	Prepare(ctx context.Context, tenant thaw.TenantID, pinned string, report func(Progress)) (Prepared, error)
}

// ErrDied is why a preparation failed whose process died, of too much memory or
// by a fault: the same may happen to the next.
var ErrDied = errors.New("the process that prepared the image died")

// Resolved is what a reference named at one moment.
type Resolved struct {
	Digest string // of the image's manifest, "sha256:..."

	// Pinned names the same image later too: when the tag has moved, and when
	// this server, whose own registry it may be in, has got another address.
	Pinned string
}

// Progress says how far the preparation of an image is. Bytes are uncompressed
// bytes of layers. As JSON it is for the tenant, and without what tells that
// others stored the same before.
type Progress struct {
	Stage        string // what is being done, for people
	DoneBytes    int64
	TotalBytes   int64 // 0 while unknown
	Chunks       int64 // cut so far
	NewChunks    int64 `json:"-"` // of these, stored now
	SharedChunks int64 `json:"-"` // of these, stored before

	// Waits says that nothing is done for want of something that this host lacks
	// now. Such time is not the image's.
	Waits bool `json:"-"`
}

// Prepared is an image that can serve, and what its configuration says of how
// to start it.
type Prepared struct {
	Image      thaw.ImageID
	Entrypoint []string
	Command    []string
	Env        []string // KEY=VALUE
	WorkingDir string
	Extensions []string `json:",omitempty"` // names of the programs in its /opt/extensions
	Bytes      int64    // uncompressed, all layers
}

// Options say what a Control works with.
type Options struct {
	DB     *sql.DB // not owned
	Images Images

	// Region stands in ARNs; "" means us-east-1.
	Region string

	// Architecture is the one this host runs, in Lambda's words; "" means
	// that of this program.
	Architecture string

	// Retire, if set, is called after what serves a function has changed or
	// gone, so that its sandboxes can be given up. It runs apart from the
	// request that caused it and may run when the name is in use again.
	Retire func(ctx context.Context, tenant thaw.TenantID, name string)

	// Prepares bounds the images prepared at once, by turns of tenants; 0 means
	// 4. One tenant has at most half of them, as many as keep two cores busy.
	Prepares int

	// PrepareTime is how long the preparation of one image may take, without the
	// time that it waits; 0 means an hour.
	PrepareTime time.Duration

	// Turn is how long a preparation goes on while another tenant's waits. Then
	// it begins again, with twice as long a turn: what it stored is there. 0 means
	// a minute.
	Turn time.Duration

	// Functions bounds the functions of a tenant, and ImageBytes the uncompressed
	// bytes of the different images that serve them; 0 is no bound.
	Functions, ImageBytes int64

	// RetryDelay is the wait before the first repetition of a preparation
	// that failed because something was unavailable; it doubles each time. 0
	// means one second.
	RetryDelay time.Duration

	Log *slog.Logger // nil means slog.Default()
}

func (o *Options) setDefaults() {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Architecture == "" {
		o.Architecture = map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	}
	if o.Prepares == 0 {
		o.Prepares = 4
	}
	if o.PrepareTime == 0 {
		o.PrepareTime = time.Hour
	}
	if o.Turn == 0 {
		o.Turn = time.Minute
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = time.Second
	}
	if o.Retire == nil {
		o.Retire = func(context.Context, thaw.TenantID, string) {}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// maxAsking bounds how many references are resolved at once: each may hold a
// connection to a registry for as long as that keeps to its lowest rate.
const maxAsking = 64

// Control is the control plane. It is safe for concurrent use.
type Control struct {
	options Options
	targets targets
	slots   *fair.Pool // bounds preparations
	asking  *fair.Pool // bounds requests that ask a registry what a reference names

	functions, imageBytes *quota.Quota // by tenant

	work   context.Context //nolint:containedctx // the life of the preparations, which no call owns; ends with Close
	cancel context.CancelCauseFunc
	group  sync.WaitGroup // preparations and calls of Retire

	mu   sync.Mutex
	jobs map[string]*job // by job id, while they run
}

// Open brings the tables up to date and takes up the preparations that were
// cut off. The caller ends it with Close.
func Open(ctx context.Context, options Options) (*Control, error) {
	const op = "open control"
	options.setDefaults()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	if err := sqlitedb.Migrate(ctx, options.DB, "control", files); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	c := &Control{options: options, jobs: make(map[string]*job),
		slots:  fair.New(fair.Options{Name: "preparations", Size: int64(options.Prepares), KeepFree: true}),
		asking: fair.New(fair.Options{Name: "references", Size: maxAsking, KeepFree: true, OwnerWaiters: maxAsking})}
	c.functions, c.imageBytes = quota.New("functions", options.Functions), quota.New("image-bytes", options.ImageBytes)
	c.targets.byName = make(map[key]*Target)
	if err := c.countAll(ctx); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	c.work, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	unfinished, err := c.unfinished(ctx)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	for _, f := range unfinished {
		options.Log.Info("function: preparation resumed", "tenant", f.Tenant, "function", f.Name, "image", f.Next.ImageURI)
		c.prepare(f)
	}
	return c, nil
}

// errClosed is the cause with which Close ends preparations.
var errClosed = errors.New("control is closing")

// Close ends the preparations, which the next Open takes up again, and waits
// for them until ctx ends. The database stays open. A Control must not be used
// after Close.
func (c *Control) Close(ctx context.Context) error {
	c.cancel(errClosed)
	done := make(chan struct{})
	go func() { // ends with the group, whose members end with c.work
		c.group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return thaw.Wrap("close control", ctx.Err())
	}
}

// Pools returns what tenants share here.
func (c *Control) Pools() []*fair.Pool { return []*fair.Pool{c.slots, c.asking} }

// Region returns the region that stands in ARNs.
func (c *Control) Region() string { return c.options.Region }

// ARN returns the name of a function as an ARN, with a qualifier unless that
// is empty.
func (c *Control) ARN(tenant thaw.TenantID, name, qualifier string) string {
	arn := "arn:aws:lambda:" + c.options.Region + ":" + string(tenant) + ":function:" + name
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// retire tells the hook, apart from the caller, who should not wait for
// sandboxes to end.
func (c *Control) retire(tenant thaw.TenantID, name string) {
	c.group.Go(func() { c.options.Retire(c.work, tenant, name) })
}
