// SPDX-License-Identifier: Apache-2.0

// Command channel measures whether a tenant of the registry can tell by time
// what others store. The prober does the same thing to blobs that another tenant
// has and to blobs that nobody has, in random order, by HTTP on loopback. For
// each thing it prints how often the time tells the two apart, in per cent of
// pairs: 50 is a guess. The control does the same with two halves that nobody
// has; what it prints is what chance looks like.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

const (
	victim thaw.TenantID = "111111111111"
	prober thaw.TenantID = "222222222222"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "", "folder on the disk to measure (a temporary one by default)")
	pairs := flag.Int("pairs", 300, "blobs that the victim has, and as many that nobody has")
	flag.Parse()
	if err := run(*dir, *pairs); err != nil {
		log.Fatal("bench/channel: ", err)
	}
}

func run(dir string, pairs int) error {
	dir, err := os.MkdirTemp(dir, "thaw-channel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing more can be done
	fmt.Printf("told apart in %% of pairs (50 is a guess, +-%.0f is chance), and the medians\n", 100*1.96/math.Sqrt(6*float64(pairs)))
	fmt.Printf("%-34s %8s %8s %12s %12s\n", "", "told", "control", "victim has", "nobody has")
	for _, p := range probes() {
		if err := p.measure(filepath.Join(dir, "store"), pairs); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// probe is one thing whose time may tell.
type probe struct {
	name  string
	bytes int
	ready func(s *server, data []byte) error // before it is timed
	timed func(s *server, data []byte) error
}

func probes() []probe {
	push := func(s *server, data []byte) error { return s.push(prober, data) }
	get := func(s *server, data []byte) error {
		return s.send(prober, "GET", "/v2/app/blobs/"+digest(data), nil, http.StatusOK)
	}
	remove := func(s *server, data []byte) error {
		return s.send(prober, "DELETE", "/v2/app/blobs/"+digest(data), nil, http.StatusAccepted)
	}
	return []probe{
		{"DELETE of 2 KiB", 2 << 10, push, remove},
		{"DELETE of 8 MiB", 8 << 20, push, remove},
		{"push of 4 KiB", 4 << 10, nil, push},
		{"push of 1 MiB", 1 << 20, nil, push},
		{"second push of 4 KiB", 4 << 10, push, push},
		{"GET after a push of 1 MiB", 1 << 20, push, get},
		{"mount of what is not one's own", 4 << 10, nil, func(s *server, data []byte) error {
			return s.send(prober, "POST", "/v2/app/blobs/uploads/?mount="+digest(data), nil, http.StatusAccepted)
		}},
		{"HEAD of what is not one's own", 4 << 10, nil, func(s *server, data []byte) error {
			return s.send(prober, "HEAD", "/v2/app/blobs/"+digest(data), nil, http.StatusNotFound)
		}},
	}
}

// sample is one blob: of the control, or else what the victim has or not.
type sample struct {
	control, first bool
	data           []byte
	took           time.Duration
}

func (p probe) measure(dir string, pairs int) error {
	s, err := start(dir)
	if err != nil {
		return err
	}
	defer s.stop()
	if p.bytes > 1<<20 {
		pairs /= 10
	}
	samples := make([]*sample, 0, 4*pairs)
	for i := range 4 * pairs {
		samples = append(samples, &sample{control: i%4 > 1, first: i%2 == 0})
	}
	// Groups keep what waits in the page cache the same for all of them.
	const group = 40
	rand.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
	for of := range slices.Chunk(samples, group) {
		if err := p.measureGroup(s, of); err != nil {
			return err
		}
	}
	has, hasNot := times(samples, false, true), times(samples, false, false)
	fmt.Printf("%-34s %7.0f%% %7.0f%% %12v %12v\n", p.name, 100*told(has, hasNot), 100*told(times(samples, true, true), times(samples, true, false)),
		median(has), median(hasNot))
	return nil
}

func (p probe) measureGroup(s *server, samples []*sample) error {
	for _, of := range samples {
		of.data = make([]byte, p.bytes)
		fill(of.data)
		if of.first && !of.control {
			if err := s.push(victim, of.data); err != nil {
				return err
			}
		}
	}
	if err := s.forget(); err != nil {
		return err
	}
	for _, of := range samples {
		if p.ready != nil {
			if err := p.ready(s, of.data); err != nil {
				return err
			}
		}
	}
	for _, of := range samples {
		began := time.Now()
		if err := p.timed(s, of.data); err != nil {
			return err
		}
		of.took = time.Since(began)
		of.data = nil
	}
	return nil
}

func times(samples []*sample, control, first bool) (all []time.Duration) {
	for _, s := range samples {
		if s.control == control && s.first == first {
			all = append(all, s.took)
		}
	}
	return all
}

// told is the share of pairs of a and b in which the better of the two rules,
// "less time means a" and "more time means a", is right.
func told(a, b []time.Duration) float64 {
	less := 0.0
	for _, x := range a {
		for _, y := range b {
			less += 0.5 * float64(1+cmp.Compare(y, x))
		}
	}
	less /= float64(len(a) * len(b))
	return max(less, 1-less)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2].Round(time.Microsecond)
}

// server is a registry on loopback.
type server struct {
	dir   string
	store *registry.Store
	http  *httptest.Server
}

func start(dir string) (*server, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	o := registry.DefaultOptions(dir)
	o.Log, o.Limits = slog.New(slog.DiscardHandler), registry.Limits{} // uploads that a mount begins are left
	store, err := registry.Open(o)
	if err != nil {
		return nil, err
	}
	tokens, err := registry.NewTokenIssuer(bytes.Repeat([]byte{7}, 32), currentKey)
	if err != nil {
		return nil, err
	}
	s := &server{dir, store, httptest.NewServer(registry.NewHandler(store, registry.BasicAuth(tokens, lookup), tokens))}
	for _, t := range []thaw.TenantID{victim, prober} {
		if err := s.push(t, []byte("the repository is there")); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *server) stop() {
	s.http.Close()
	_ = s.store.Close() // nothing more is asked of it
}

// lookup knows each tenant by its id.
func lookup(_ context.Context, key string) (string, thaw.TenantID, error) {
	return "secret", thaw.TenantID(key), nil
}

func currentKey(_ context.Context, t thaw.TenantID) (string, error) { return string(t), nil }

func (s *server) push(as thaw.TenantID, data []byte) error {
	return s.send(as, "POST", "/v2/app/blobs/uploads/?digest="+digest(data), data, http.StatusCreated)
}

func (s *server) send(as thaw.TenantID, method, path string, body []byte, want int) error {
	req, err := http.NewRequestWithContext(context.Background(), method, s.http.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(string(as), "secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s, not %d", method, path, resp.Status, want)
	}
	return nil
}

// forget drops the store's files from the page cache, as time and other work do.
func (s *server) forget() error {
	unix.Sync()
	return filepath.WalkDir(filepath.Join(s.dir, "repos"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func fill(data []byte) {
	for i := 0; i+8 <= len(data); i += 8 {
		v := rand.Uint64()
		for j := range 8 {
			data[i+j] = byte(v >> (8 * j))
		}
	}
}
