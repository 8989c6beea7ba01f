// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/read/mount"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l1"
	"thaw.dev/thaw/read/tier/l2"
	"thaw.dev/thaw/read/view"
)

// The control protocol: POST of JSON on the control socket. Whoever can open
// the socket is trusted; only its owner can.

// imageRequest names an image and its owner.
type imageRequest struct {
	Tenant thaw.TenantID `json:"tenant"`
	Image  thaw.ImageID  `json:"image"`
	// Record is the key under which a start is recorded, and from which it is
	// fetched ahead; empty for neither.
	Record string `json:"record,omitempty"`
	// Drop has the file of an image that is closed given up; nobody may be
	// opening it.
	Drop bool `json:"drop,omitempty"`
}

// openAnswer is what the client needs to know of an open image.
type openAnswer struct {
	Token      int   `json:"token"` // under which the start is recorded; 0 if it is not
	MetaBytes  int64 `json:"meta_bytes"`
	ImageBytes int64 `json:"image_bytes"`
	// Ahead is the working set that is being fetched, without its pack; empty
	// where nothing is known.
	Ahead []byte `json:"ahead,omitempty"`
}

// endRequest says that a start is over, or will never be.
type endRequest struct {
	Token   int  `json:"token"`
	Abandon bool `json:"abandon,omitempty"`
}

// Stats is what the loader has done since it was started.
type Stats struct {
	tier.Stats
	Mount mount.Stats `json:"mount"`
	L1    l1.Stats    `json:"l1"`
	L2    *l2.Stats   `json:"l2,omitempty"` // nil without a zone's cache
	PID   int         `json:"pid"`
	// Pools are what tenants share in this process.
	Pools []fair.Usage `json:"pools"`
	// Origin is what [Config.OriginStats] said.
	Origin json.RawMessage `json:"origin,omitempty"`
}

type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	starts := &recordings{}
	handle(mux, "open", func(ctx context.Context, in imageRequest) (openAnswer, error) {
		known := s.readSet(ctx, in) // beside the manifest: a store may be far
		v, err := s.show(ctx, in)
		if err != nil {
			return openAnswer{}, err
		}
		answer := openAnswer{MetaBytes: v.MetaBytes(), ImageBytes: v.Size()}
		if in.Record == "" {
			return answer, nil
		}
		watch := s.images.watch(in.Image, v.MetaBytes())
		if answer.Token = starts.begin(v, in.Record, watch); answer.Token == 0 {
			s.images.unwatch(in.Image, watch)
		}
		answer.Ahead, err = s.ahead(v, in.Record, known, watch)
		if err != nil {
			s.config.Log.WarnContext(ctx, "a start is not fetched ahead", "image", in.Image, "err", err)
		}
		return answer, nil
	})
	handle(mux, "started", func(ctx context.Context, in endRequest) (Report, error) {
		rec := starts.take(in.Token)
		if rec == nil { // of a predecessor
			return Report{}, nil
		}
		s.images.unwatch(rec.view.ID(), rec.watch)
		select {
		case s.ended <- struct{}{}:
		default:
		}
		report := rec.watch.report()
		if in.Abandon {
			rec.record.Stop()
			return report, nil
		}
		if err := s.finish(ctx, rec); err != nil {
			s.config.Log.WarnContext(ctx, "a start was not recorded", "image", rec.view.ID(), "err", err)
		}
		return report, nil
	})
	handle(mux, "ping", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, s.well() })
	handle(mux, "close", func(_ context.Context, in imageRequest) (struct{}, error) { return struct{}{}, s.close(in) })
	handle(mux, "touched", func(ctx context.Context, in imageRequest) ([]int, error) {
		v, err := view.Open(ctx, in.Tenant, in.Image, s.images.options)
		if err != nil {
			return nil, err
		}
		return s.touched(ctx, v)
	})
	handle(mux, "stats", func(ctx context.Context, _ struct{}) (Stats, error) {
		stats := Stats{Stats: s.stack.Stats(), Mount: s.mount.Stats(), L1: s.cache.Stats(), PID: os.Getpid(), Pools: s.images.pace.pools()}
		if s.config.L2 != nil {
			zone := s.config.L2.Stats(ctx)
			stats.L2 = &zone
		}
		if s.config.OriginStats == nil {
			return stats, nil
		}
		var err error
		stats.Origin, err = json.Marshal(s.config.OriginStats())
		return stats, err
	})
	handle(mux, "drop-l2", func(ctx context.Context, _ struct{}) (int64, error) {
		if s.config.L2 == nil {
			return 0, thaw.Errorf("drop L2", thaw.NotFound, "there is none: see thaw serve --l2")
		}
		held := s.config.L2.Stats(ctx).HeldBytes
		return held, s.config.L2.Drop(ctx)
	})
	handle(mux, "drop", func(ctx context.Context, _ struct{}) (int64, error) { return s.drop(ctx), nil })
	return mux
}

// well is an error where this process answers and yet makes no progress: a
// request of the kernel is older than any may get.
func (s *server) well() error {
	s.images.mu.Lock() // whoever keeps it for ever keeps this one waiting, too
	defer s.images.mu.Unlock()
	if age := s.mount.Oldest(); age > 2*mount.DefaultTimeout {
		return thaw.Errorf("loader", thaw.Internal, "a request of the kernel is %v old", age)
	}
	return nil
}

// close gives up what an image that was unmounted holds in memory, and its file if
// nobody is opening it.
func (s *server) close(in imageRequest) error {
	s.images.rest(in.Image)
	if !in.Drop {
		return nil
	}
	s.mount.Remove(in.Image.String())
	s.images.remove(in.Image)
	return ignoreMissing(os.Remove(s.openFile(in.Image)))
}

// drop empties the worker's own cache and returns the bytes it held. What is being
// packed goes through the cache and would be in it again, so that is waited for.
func (s *server) drop(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, packingBound)
	defer cancel()
	if s.beginPacking(ctx) == nil {
		defer s.endPacking()
	}
	held := s.cache.Stats()
	s.images.options.Plain.Drop()
	s.cache.Drop()
	s.config.Forget()
	return max(held.MemoryBytes, held.DiskBytes) // the disk holds what memory holds
}

// packingBound is how long the cache is not dropped while sets are being packed,
// below the bound of a call.
const packingBound = callTimeout / 2

// handle serves a request of the control protocol.
func handle[In, Out any](mux *http.ServeMux, name string, do func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
		var in In
		err := json.NewDecoder(r.Body).Decode(&in)
		var out Out
		if err == nil {
			out, err = do(r.Context(), in)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			_ = json.NewEncoder(w).Encode(failure{Kind: thaw.KindOf(err).String(), Message: err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
}

func (s *server) openFile(id thaw.ImageID) string {
	return filepath.Join(openDir(s.config.RunDir), id.String())
}

// shown reports whether that owner of the image is on record.
func (s *server) shown(in imageRequest) bool {
	owner, err := os.Readlink(s.openFile(in.Image))
	return err == nil && owner == string(in.Tenant)
}

// show opens an image and shows its file. That its owner is on record before
// makes it safe to die in between.
func (s *server) show(ctx context.Context, in imageRequest) (*view.View, error) {
	if f, ok := s.images.get(in.Image); ok && f.tenant == in.Tenant {
		return f.open(ctx)
	}
	// The file is made only for who may open the image.
	v, err := view.Open(ctx, in.Tenant, in.Image, s.images.options)
	if err != nil && thaw.KindOf(err) == thaw.Corrupt {
		s.config.Forget() // it may be what is kept here
		v, err = view.Open(ctx, in.Tenant, in.Image, s.images.options)
	}
	if err != nil {
		return nil, err
	}
	path := s.openFile(in.Image)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(string(in.Tenant), path); err != nil && !s.shown(in) {
		return nil, err
	}
	f := s.images.add(in.Tenant, in.Image)
	f.mu.Lock()
	if f.view == nil {
		f.view = v
	}
	v = f.view
	f.mu.Unlock()
	if err := s.mount.Add(in.Image.String(), f); err != nil && thaw.KindOf(err) != thaw.Conflict {
		return nil, err
	}
	return v, nil
}
