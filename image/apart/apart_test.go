// SPDX-License-Identifier: Apache-2.0

package apart_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/apart"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/tenant/keys"
)

// TestMain makes the test binary the process that ingests: it is started as
// "TEST ingest".
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "ingest" {
		if err := apart.Serve(context.Background(), nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "hungry" {
		takeTooMuch()
		return
	}
	os.Exit(m.Run())
}

// takeTooMuch takes twice the memory that a process may have, bit by bit.
func takeTooMuch() {
	if err := apart.Confine(apart.MinMemoryBytes); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var all [][]byte
	for range 2 * apart.MinMemoryBytes >> 20 {
		all = append(all, bytes.Repeat([]byte{1}, 1<<20))
	}
	fmt.Println("taken", len(all))
}

const tenant thaw.TenantID = "111111111111"

// world is a store, with the processes that fill it.
type world struct {
	*apart.Apart
	*store.Mem
	keys *keys.Local
	temp string
	log  *output
}

// output is what processes print.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func needsMemoryLimits(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("the race detector takes more memory than the limits leave")
	}
}

func newWorld(t *testing.T, memory int64) *world {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.OpenLocal(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Mem: store.NewMem(), keys: k, temp: t.TempDir(), log: new(output)}
	w.Apart = apart.New(apart.Config{Command: []string{self, "ingest"}, Output: w.log, MemoryBytes: memory, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := w.Apart.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) options() ingest.Options {
	return ingest.Options{Sink: w.Mem, Objects: w.Mem, Keys: w.keys, SaltMaster: w.keys.SaltMaster(), Tenant: tenant, Root: "r1", TempDir: w.temp}
}

// contents lists the chunks of a store.
func contents(t *testing.T, s *store.Mem) []string {
	t.Helper()
	var all []string
	for info, err := range s.Chunks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name.String())
	}
	slices.Sort(all)
	return all
}

func layers(t *testing.T) []ingest.Layer {
	t.Helper()
	tar := testkit.NewTar(t).Dir("app/", 0o755).File("app/large", ingesttest.Noise(1, 3<<20)).File("app/twin", ingesttest.Noise(1, 3<<20))
	for i := range 500 {
		tar.File(fmt.Sprintf("app/small-%d", i), ingesttest.Noise(uint64(i), 3000))
	}
	upper := testkit.NewTar(t).File("app/small-7", "other").Whiteout("app/small-8")
	return []ingest.Layer{ingesttest.Layer(testkit.GzipLayer(t, tar.Bytes()), true), ingesttest.Layer(testkit.PlainLayer(upper.Bytes()), false)}
}

// TestSameImage: an image that is made apart is the one that is made here, and
// what is told of it is the same, from the first to the last process.
func TestSameImage(t *testing.T) {
	w, here := newWorld(t, 1<<30), store.NewMem()
	o := w.options()
	o.Sink, o.Objects = here, here
	want, err := ingest.Run(t.Context(), layers(t), "sha256:feed", o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		var last ingest.Progress
		o := w.options()
		o.Progress = func(p ingest.Progress) { last = p }
		got, err := w.Run(t.Context(), layers(t), "sha256:feed", o)
		if err != nil {
			t.Fatal(err)
		}
		if got.Image.IsZero() || got.Chunks != want.Chunks || got.Files != want.Files || got.LayerBytes != want.LayerBytes ||
			i == 0 && (got.NewChunks != want.NewChunks || got.SharedChunks != want.SharedChunks || got.NewBytes != want.NewBytes) || i > 0 && got.NewChunks != 0 {
			t.Errorf("round %d: apart %+v, here %+v", i, got, want)
		}
		if last.ReadBytes == 0 || last.ReadBytes != last.TotalBytes || last.Chunks == 0 {
			t.Errorf("round %d: the last progress is %+v", i, last)
		}
	}
	if a, b := contents(t, w.Mem), contents(t, here); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("%d chunks are made apart, %d here", len(a), len(b))
	}
}

// failing is a store that is out of order.
type failing struct {
	*store.Mem
	put, sync, object error
}

func (f *failing) Put(ctx context.Context, c thaw.NamedChunk) error {
	if f.put != nil {
		return f.put
	}
	return f.Mem.Put(ctx, c)
}

func (f *failing) Sync(ctx context.Context) error {
	if f.sync != nil {
		return f.sync
	}
	return f.Mem.Sync(ctx)
}

func (f *failing) PutObject(ctx context.Context, key string, data []byte) error {
	if f.object != nil {
		return f.object
	}
	return f.Mem.PutObject(ctx, key, data)
}

var errOut = errors.New("out of order")

// TestErrorsComeBack: what failed here is the same error here after the process
// has made its own of it, so that who asks for its cause finds it.
func TestErrorsComeBack(t *testing.T) {
	w := newWorld(t, 1<<30)
	full := thaw.Wrap("write", &os.PathError{Op: "write", Path: "/secret/path", Err: syscall.ENOSPC})
	broken := func(l ingest.Layer) ingest.Layer {
		open := l.Open
		l.Open = func(ctx context.Context) (io.ReadCloser, error) {
			in, err := open(ctx)
			return cut{io.LimitReader(in, 1000), in, thaw.Errorf("read", thaw.Denied, "%w", errOut)}, err
		}
		return l
	}
	bad := ingesttest.Layer(testkit.PlainLayer([]byte("this is no tar, and long enough to be taken for the head of one"+string(make([]byte, 1000)))), false)
	missing := layers(t)[0]
	missing.Open = func(context.Context) (io.ReadCloser, error) {
		return nil, thaw.Errorf("open", thaw.NotFound, "%w", errOut)
	}
	for name, c := range map[string]struct {
		layer ingest.Layer
		store failing
		kind  thaw.Kind
		cause error
	}{
		"a full disk":            {layers(t)[0], failing{put: full}, thaw.Unavailable, syscall.ENOSPC},
		"a sync":                 {layers(t)[0], failing{sync: thaw.Errorf("", thaw.NotFound, "%w", errOut)}, thaw.Lost, errOut},
		"an object":              {layers(t)[0], failing{object: thaw.Errorf("", thaw.Unavailable, "%w", errOut)}, thaw.Unavailable, errOut},
		"a layer that is cut":    {broken(layers(t)[0]), failing{}, thaw.Denied, errOut},
		"a layer that is gone":   {missing, failing{}, thaw.NotFound, errOut},
		"a layer that is no tar": {bad, failing{}, thaw.Invalid, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c.store.Mem = store.NewMem()
			o := w.options()
			o.Sink, o.Objects = &c.store, &c.store
			_, err := w.Run(t.Context(), []ingest.Layer{c.layer}, "sha256:feed", o)
			if thaw.KindOf(err) != c.kind || c.cause != nil && !errors.Is(err, c.cause) {
				t.Errorf("%v: %v", thaw.KindOf(err), err)
			}
			if thaw.IsShortage(err) != (c.cause == error(syscall.ENOSPC)) || strings.Contains(thaw.Tell(err), "/secret") {
				t.Errorf("shortage %v, told as %q", thaw.IsShortage(err), thaw.Tell(err))
			}
		})
	}
}

// cut is a layer that breaks off.
type cut struct {
	io.Reader
	io.Closer
	err error
}

func (c cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = c.err
	}
	return n, err
}

// endless is a layer that never ends, and says when it is read.
func endless(reading func()) ingest.Layer {
	sum := fmt.Sprintf("sha256:%x", sha256.Sum256(nil))
	return ingest.Layer{Digest: sum, DiffID: sum, Open: func(ctx context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
		go reading()
		return r, nil
	}}
}

// children are the processes of this one that ingest.
func children(t *testing.T) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		var pid, parent int
		var state string
		head, tail, _ := strings.Cut(string(text), " (")
		_, tail, _ = strings.Cut(tail, ") ")
		_, err1 := fmt.Sscan(head, &pid)
		_, err2 := fmt.Sscan(tail, &state, &parent)
		if err1 == nil && err2 == nil && parent == os.Getpid() && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestDeath: the death of the process is told as such, and the next image is made
// by another.
func TestDeath(t *testing.T) {
	w := newWorld(t, 1<<30)
	var once sync.Once
	_, err := w.Run(t.Context(), []ingest.Layer{endless(func() {
		once.Do(func() {
			for _, pid := range children(t) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	})}, "sha256:feed", w.options())
	if !errors.Is(err, apart.ErrDied) || thaw.KindOf(err) != thaw.Internal {
		t.Fatalf("%v: %v", thaw.KindOf(err), err)
	}
	if _, err := w.Run(t.Context(), layers(t), "sha256:feed", w.options()); err != nil {
		t.Error(err)
	}
}

// TestCancel: an ingest ends with its caller, and with it what it started.
func TestCancel(t *testing.T) {
	w := newWorld(t, 1<<30)
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := w.Run(ctx, []ingest.Layer{endless(func() { cancel(errOut) })}, "sha256:feed", w.options())
	if !errors.Is(err, errOut) {
		t.Errorf("%v: %v", thaw.KindOf(err), err)
	}
	if err := w.Apart.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("the processes %v are left", left)
	}
}

// TestTooManyNames: an image with more names than the memory that is given to its
// process holds is refused, and the process lives to say so.
func TestTooManyNames(t *testing.T) {
	needsMemoryLimits(t)
	w := newWorld(t, apart.MinMemoryBytes)
	layer := ingesttest.Layer(testkit.PoisonNamed(t, "attributes").Layer(t, 2000), false)
	_, err := w.Run(t.Context(), []ingest.Layer{layer}, "sha256:feed", w.options())
	if thaw.KindOf(err) != thaw.TooLarge || !strings.Contains(err.Error(), "128 MiB of memory") {
		t.Errorf("%v: %v", thaw.KindOf(err), err)
	}
	if text := w.log.String(); text != "" {
		t.Errorf("the process printed %s", text)
	}
}

// TestHardLimit: what the budgets overlook ends the process, and nothing else.
func TestHardLimit(t *testing.T) {
	needsMemoryLimits(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), self, "hungry").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "out of memory") {
		t.Errorf("%v: %.200s", err, out)
	}
}
