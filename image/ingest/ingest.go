// SPDX-License-Identifier: Apache-2.0

// Package ingest makes an image of a container image's layers: it reads and
// verifies the layers, has them flattened to one tree, lays the tree out as an
// EROFS image, cuts the image into chunks, seals those that the store lacks,
// and writes the manifest last, so that an image is there whole or not at all.
//
// It knows the order of those steps, their parallelism, and which chunks
// already exist. It knows no registry, no tier and no function.
//
// Every layer is read once, from the top one down, and nothing of it is kept
// but the list of its headers, the sealed chunks of its large files, which
// depend on nothing else, and the bytes of its small files, which can be
// grouped into chunks only when all files of the image are known. The small
// files wait in memory and then in a temporary file; both are bounded, and
// layers with files that found no room are read a second time (see
// [Options.HoldBytes] and [Options.TempBytes]).
//
// The same layers make the same chunks in every store whose master secret and
// root are the same, whatever the number of processors. The lock order is
// trivial: no lock is held while another is taken.
package ingest

import (
	"context"
	"runtime"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/seal"
	"thaw.dev/thaw/image/flatten"
)

const (
	// DefaultHoldBytes is the memory for small files that wait for their
	// chunks: measured, it keeps an ingest of 300,000 files below 512 MiB
	// resident, see docs/image-path.md.
	DefaultHoldBytes = 64 << 20

	// DefaultTempBytes is the temporary disk for small files that wait: with
	// it, images up to a few GB are read once.
	DefaultTempBytes = 1 << 30
)

// Objects is what is used of [thaw.Objects].
type Objects interface {
	PutObject(ctx context.Context, key string, data []byte) error
}

// Wrapper is what is used of [thaw.KeyWrapper].
type Wrapper interface {
	Wrap(ctx context.Context, tenant thaw.TenantID, key, context []byte) ([]byte, error)
}

// Options says where an image goes and what an ingest may use. The zero value
// of a limit means its default.
type Options struct {
	Sink       thaw.ChunkSink // which may be an [Adder]
	Objects    Objects        // gets the manifest
	Keys       Wrapper
	SaltMaster []byte // the secret that salts are derived from; at least seal.MinMasterBytes
	Tenant     thaw.TenantID
	Root       thaw.RootID

	// OneDomain seals every chunk in the public domain, whoever published what
	// it holds: all tenants share all chunks.
	OneDomain bool

	Workers   int    // goroutines that seal and store, half of whom wait for the disk; see DefaultWorkers
	TempDir   string // for the temporary file, which is never visible; default os.TempDir
	MaxBytes  int64  // of the layers uncompressed, and of the files in them; default thaw.MaxImageBytes
	HoldBytes int64  // see DefaultHoldBytes
	TempBytes int64  // see DefaultTempBytes

	// MetaBytes is the memory for names, link targets and extended attributes:
	// see [flatten.Budget]; default flatten.DefaultBudget.
	MetaBytes int64

	// Progress, if set, is called some ten times a second, never by two
	// goroutines at once, and once at the end of an ingest that succeeds.
	Progress func(Progress)
}

// Progress is how far an ingest is. No number ever falls.
type Progress struct {
	ReadBytes    int64 // of the layers as stored
	TotalBytes   int64 // what ReadBytes will come to; it grows if layers must be read a second time
	Chunks       int   // sealed so far, of zeros, new and shared ones
	NewChunks    int   // stored by this ingest
	SharedChunks int   // found in the store, or equal to another of this image
	ZeroChunks   int
	NewBytes     int64 // sealed bytes of NewChunks
}

// Result is what an ingest made.
type Result struct {
	Image      thaw.ImageID
	ImageBytes int64    // size of the image's address space
	LayerBytes int64    // of the layers uncompressed
	Files      int      // regular files, each inode once
	Extensions []string // names of the programs in /opt/extensions, sorted; the first ten, as many as Lambda starts

	Chunks       int // of the image: new, zero and shared
	NewChunks    int // stored by this ingest
	ZeroChunks   int // of zeros, stored nowhere
	SharedChunks int // already in the store, or equal to another of this image
	NewBytes     int64
	SharedBytes  int64
}

// DefaultWorkers is Options.Workers by default.
func DefaultWorkers() int { return 2 * runtime.GOMAXPROCS(0) }

// withDefaults checks o and fills in what is left to us.
func (o Options) withDefaults() (Options, error) {
	const op = "ingest"
	if o.Sink == nil || o.Objects == nil || o.Keys == nil || len(o.SaltMaster) < seal.MinMasterBytes || o.Root == "" {
		return o, thaw.Errorf(op, thaw.Invalid, "the options lack a sink, objects, keys, a master secret of 32 bytes or a root")
	}
	if _, err := thaw.ParseTenantID(string(o.Tenant)); err != nil {
		return o, thaw.Wrap(op, err)
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers()
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = thaw.MaxImageBytes
	}
	if o.HoldBytes <= 0 {
		o.HoldBytes = DefaultHoldBytes
	}
	if o.TempBytes <= 0 {
		o.TempBytes = DefaultTempBytes
	}
	return o, nil
}

// Run makes the image of layers, bottom first. sourceDigest is the digest of
// the OCI manifest that listed them, for the record. When Run returns an image
// it is durable; when it returns an error nothing is visible but, perhaps,
// chunks that no manifest names.
//
// Errors: [thaw.Corrupt] names a layer whose bytes are not what its digests
// say, [thaw.Lost] one that this host keeps; [thaw.Invalid] a layer that is not a tar or says what no image can hold;
// [thaw.TooLarge] an image beyond a limit; the kinds of the layers' readers; and
// those of the sink, the objects and the keys as [thaw.OurFault] leaves them.
//
// Canceling ctx ends Run promptly. Run returns only when every goroutine that
// it started has ended.
func Run(ctx context.Context, layers []Layer, sourceDigest string, o Options) (Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Result{}, err
	}
	if err := checkLayers(layers, o.MaxBytes); err != nil {
		return Result{}, thaw.Wrap("ingest", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := &ingest{options: o, layers: layers, source: sourceDigest, cancel: cancel, counters: new(counters), budget: flatten.NewBudget(o.MetaBytes)}
	for _, l := range layers {
		g.counters.total.Add(max(l.Bytes, 0))
	}
	stop := g.counters.report(o.Progress)
	result, err := g.run(ctx)
	stop(err == nil)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && thaw.KindOf(err) == thaw.Canceled {
			err = cause // what made us stop, if it was not the caller
		}
		return Result{}, thaw.Wrap("ingest", err)
	}
	return result, nil
}

// ingest is the state of one Run.
type ingest struct {
	options  Options
	layers   []Layer
	source   string
	cancel   context.CancelCauseFunc
	counters *counters

	budget    *flatten.Budget
	sealer    *sealer
	hold      *hold     // small files that wait for their chunks
	scanned   []scanned // by layer, and of the made files
	made      made
	plain     int64 // uncompressed bytes of the layers scanned
	files     int64 // bytes of the files in them
	rereading bool  // all layers are scanned
}

// domainPublic and domainTenant are the indexes in a manifest's domains.
const (
	domainPublic = iota
	domainTenant
)

func (g *ingest) domains() []thaw.Domain {
	if g.options.OneDomain {
		return []thaw.Domain{thaw.DomainPublic}
	}
	return []thaw.Domain{thaw.DomainPublic, thaw.TenantDomain(g.options.Tenant)}
}

// layerDomain is the domain of the files of layer i, or of those that were made.
func (g *ingest) layerDomain(i int) uint8 {
	public := g.made.public
	if i < len(g.layers) {
		public = g.layers[i].Public
	}
	if public || g.options.OneDomain {
		return domainPublic
	}
	return domainTenant
}

// metaDomain is the domain of names and attributes: they tell what a tenant put
// together, so they are the tenant's.
func (g *ingest) metaDomain() uint8 {
	if g.options.OneDomain {
		return domainPublic
	}
	return domainTenant
}

// run is Run between its preparations and its error's last words.
func (g *ingest) run(ctx context.Context) (Result, error) {
	g.hold = newHold(g.options)
	defer g.hold.close()
	g.startSealer(ctx)
	a, err := g.seal(ctx)
	if stopped := g.sealer.stop(); stopped != nil {
		err = stopped // the first failure of a worker is why the rest stopped
	}
	if err != nil {
		return Result{}, err
	}
	g.hold.close() // a Sync of the whole file system would write it to the disk
	if err := g.options.Sink.Sync(ctx); err != nil {
		return Result{}, thaw.OurFault("", err)
	}
	return g.publish(ctx, a)
}

// seal takes the image through all steps whose work is the sealer's. What it
// returns is complete once the sealer has stopped.
func (g *ingest) seal(ctx context.Context) (*assembly, error) {
	lists, err := g.scanLayers(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := flatten.Merge(ctx, lists, flatten.MergeOptions{
		Budget: g.budget, MountPoints: true, Edit: func(e flatten.Editor) error { return g.nameUser(ctx, e) },
	})
	if err != nil {
		return nil, err
	}
	a, err := g.assemble(ctx, tree)
	if err != nil {
		return nil, err
	}
	a.tree, a.start, a.order = nil, nil, nil // what publishing needs no more is most of the memory
	return a, nil
}
