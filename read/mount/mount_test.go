// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/read/mount"
)

// memFile is a file in memory whose reads can be held up or failed.
type memFile struct {
	data  []byte
	reads atomic.Int64
	hook  func(ctx context.Context, off int64) error
}

func (f *memFile) Size(context.Context) (int64, error) { return int64(len(f.data)), nil }

func (f *memFile) Read(ctx context.Context, off int64, n int) ([][]byte, error) {
	f.reads.Add(1)
	if f.hook != nil {
		if err := f.hook(ctx, off); err != nil {
			return nil, err
		}
	}
	if off >= int64(len(f.data)) {
		return nil, nil
	}
	p := f.data[off:min(off+int64(n), int64(len(f.data)))]
	half := len(p) / 2
	return [][]byte{p[:half], p[half:]}, nil
}

func randomFile(n int) *memFile {
	f := &memFile{data: make([]byte, n)}
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(f.data)
	return f
}

// served is a mount with a server in this process.
type served struct {
	dir  string
	dev  mount.Descriptor
	s    *mount.Server
	stop func() error
}

func serve(t testing.TB, o mount.Options, files map[string]mount.File) *served {
	t.Helper()
	testkit.RequireFUSE(t)
	dir := t.TempDir()
	dev, err := mount.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &served{dir: dir, dev: dev}
	m.start(t, o, files)
	t.Cleanup(func() {
		if err := mount.Detach(dir); err != nil {
			t.Error(err)
		}
		if err := m.stop(); err != nil {
			t.Error(err)
		}
		_ = dev.Close()
	})
	return m
}

func (m *served) start(t testing.TB, o mount.Options, files map[string]mount.File) {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	m.s = mount.NewServer(m.dev, o)
	for name, f := range files {
		if err := m.s.Add(name, f); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.s.Serve(ctx) }()
	m.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

func TestFilesAreListedAndRead(t *testing.T) {
	f := randomFile(3<<20 + 12345)
	m := serve(t, mount.Options{}, map[string]mount.File{"a": f, "empty": &memFile{}})
	got, err := os.ReadFile(filepath.Join(m.dir, "a"))
	if err != nil || !bytes.Equal(got, f.data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(m.dir, "empty")); err != nil || len(got) != 0 {
		t.Errorf("%d bytes of the empty file, %v", len(got), err)
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != "a" || entries[1].Name() != "empty" {
		t.Errorf("listed %v, %v", entries, err)
	}
	if info, err := os.Stat(filepath.Join(m.dir, "a")); err != nil || info.Size() != int64(len(f.data)) || info.Mode() != 0o400 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "a"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write: %v", err)
	}
	if err := m.s.Add("b", f); err != nil {
		t.Fatal(err)
	}
	if err := m.s.Add("b", f); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("added twice: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "b")); err != nil {
		t.Errorf("after Add: %v", err)
	}
	m.s.Remove("b")
	if _, err := os.Stat(filepath.Join(m.dir, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(m.dir, &fs); err != nil || fs.Namelen != 255 {
		t.Errorf("statfs: %+v, %v", fs, err)
	}
}

func TestListingOfManyFiles(t *testing.T) {
	files := map[string]mount.File{}
	for i := range 1000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		files[thaw.ImageID(sum).String()] = &memFile{}
	}
	m := serve(t, mount.Options{}, files)
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) != len(files) {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if files[e.Name()] == nil {
			t.Fatalf("a name that was not added: %q", e.Name())
		}
	}
}

// readDirect reads the first block of a file past the kernel's cache, so that
// one read is one request; otherwise a readahead that failed is tried again.
func readDirect(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	p := make([]byte, 2*4096)
	p = p[-uintptr(unsafe.Pointer(&p[0]))%4096:][:4096]
	n, err := unix.Pread(fd, p, 0)
	return p[:max(n, 0)], err
}

// A failed read's kind holds to the table that the kernel is told by.
func TestFailuresAreErrnos(t *testing.T) {
	f := randomFile(4096)
	m := serve(t, mount.Options{}, map[string]mount.File{"a": f})
	for kind, want := range map[thaw.Kind]error{
		thaw.Internal: syscall.EIO, thaw.Invalid: syscall.EINVAL, thaw.NotFound: syscall.ENOENT,
		thaw.Conflict: syscall.EIO, thaw.Corrupt: syscall.EIO, thaw.Denied: syscall.EACCES,
		thaw.TooLarge: syscall.EIO, thaw.Throttled: syscall.EIO, thaw.Unavailable: syscall.EIO,
		thaw.Canceled: syscall.EIO, // nobody was killed
	} {
		f.hook = func(context.Context, int64) error { return thaw.Errorf("test", kind, "failed") }
		if _, err := readDirect(filepath.Join(m.dir, "a")); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", kind, err, want)
		}
	}
	if st := m.s.Stats(); st.ReadErrors+st.Killed != 10 || st.Reads != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSlowReadEndsWithEIO(t *testing.T) {
	f := randomFile(4096)
	f.hook = func(ctx context.Context, _ int64) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	m := serve(t, mount.Options{Timeout: 200 * time.Millisecond}, map[string]mount.File{"a": f})
	if _, err := readDirect(filepath.Join(m.dir, "a")); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if st := m.s.Stats(); st.Timeouts != 1 {
		t.Errorf("%+v", st)
	}
}

// A killed reader dies though the request it waits for does not end; an ordinary
// signal disturbs neither reader nor read.
func TestSignals(t *testing.T) {
	testkit.RequireTool(t, "python3")
	release := make(chan struct{})
	f := randomFile(4096)
	entered := make(chan struct{}, 10)
	f.hook = func(ctx context.Context, _ int64) error {
		entered <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	m := serve(t, mount.Options{}, map[string]mount.File{"a": f})
	path := filepath.Join(m.dir, "a")

	// Only a request that a thread waits for by itself is interrupted, as those
	// for the metadata of an image are; most reads wait for the page. A fault
	// without readahead is one, too.
	script := `
import mmap, os, signal, sys
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
page = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 4096, prot=mmap.PROT_READ)
page.madvise(mmap.MADV_RANDOM)
page[0]
signal.setitimer(signal.ITIMER_REAL, 0)
`
	killed := exec.Command("python3", "-c", script, path)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	<-entered
	time.Sleep(50 * time.Millisecond) // an alarm interrupts the request before the kill
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // hangs the test if the reader can't die
	for m.s.Stats().Killed == 0 {
		time.Sleep(time.Millisecond)
	}

	alarmed := exec.Command("python3", "-c", script, path)
	var stderr bytes.Buffer
	alarmed.Stderr = &stderr
	if err := alarmed.Start(); err != nil {
		t.Fatal(err)
	}
	<-entered
	time.Sleep(200 * time.Millisecond) // ten alarms
	close(release)
	if err := alarmed.Wait(); err != nil {
		t.Errorf("a reader with a timer: %v\n%s", err, stderr.String())
	}
}

// What a server took and did not answer is answered by the next one.
func TestSuccessorAnswersWhatWasInFlight(t *testing.T) {
	f := randomFile(8 << 20)
	stuck := make(chan struct{}, 100)
	f.hook = func(ctx context.Context, _ int64) error {
		stuck <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	m := serve(t, mount.Options{}, map[string]mount.File{"a": f})
	type result struct {
		data []byte
		err  error
	}
	results := make(chan result)
	for i := range 4 {
		go func() {
			file, err := os.Open(filepath.Join(m.dir, "a"))
			if err != nil {
				results <- result{nil, err}
				return
			}
			defer file.Close()
			data := make([]byte, 2<<20)
			_, err = file.ReadAt(data, int64(i)*2<<20)
			if bytes.Equal(data, f.data[i*2<<20:(i+1)*2<<20]) {
				data = nil
			}
			results <- result{data, err}
		}()
	}
	for range 4 {
		<-stuck
	}
	for range 3 { // the second and third successor die without an answer too
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		m.start(t, mount.Options{}, map[string]mount.File{"a": f})
		<-stuck
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	m.start(t, mount.Options{}, map[string]mount.File{"a": &memFile{data: f.data}})
	for range 4 {
		if r := <-results; r.err != nil || r.data != nil {
			t.Errorf("wrong bytes: %v, %v", r.data != nil, r.err)
		}
	}
}

func TestServerEndsWithTheMount(t *testing.T) {
	m := serve(t, mount.Options{}, map[string]mount.File{"a": randomFile(100)})
	if _, err := os.ReadFile(filepath.Join(m.dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// More requests at a time than there are handlers are answered all the same.
func TestMoreReadersThanHandlers(t *testing.T) {
	f := randomFile(1 << 20)
	f.hook = func(context.Context, int64) error {
		time.Sleep(time.Millisecond)
		return nil
	}
	m := serve(t, mount.Options{Handlers: 3}, map[string]mount.File{"a": f})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			file, err := os.Open(filepath.Join(m.dir, "a"))
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			got := make([]byte, 4096)
			if _, err := file.ReadAt(got, int64(i)*4096); err != nil && err != io.EOF || !bytes.Equal(got, f.data[i*4096:(i+1)*4096]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// pacedFile is a memFile whose readers wait until they are let through.
type pacedFile struct {
	memFile
	waiting atomic.Int64
	through chan struct{}
	done    atomic.Int64
}

func (f *pacedFile) Pace(ctx context.Context, _ int64, _ int) (func(), error) {
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	select {
	case <-f.through:
		return func() { f.done.Add(1) }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// TestReadersThatWaitForTheirTurn: however many they are, they keep nobody else
// waiting, and how long they wait is no part of the time that their reads have.
func TestReadersThatWaitForTheirTurn(t *testing.T) {
	const readers, timeout = 300, 300 * time.Millisecond
	slow, other := &pacedFile{memFile: *randomFile(readers << 20), through: make(chan struct{})}, randomFile(5000)
	m := serve(t, mount.Options{Timeout: timeout}, map[string]mount.File{"slow": slow, "other": other})
	var group sync.WaitGroup
	for i := range readers {
		group.Go(func() {
			file, err := os.Open(filepath.Join(m.dir, "slow"))
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			got := make([]byte, 4096)
			off := int64(i) << 20
			if _, err := file.ReadAt(got, off); err != nil || !bytes.Equal(got, slow.data[off:off+4096]) {
				t.Errorf("after its turn: %v", err)
			}
		})
	}
	until(t, "all wait", func() bool { return slow.waiting.Load() >= readers })
	if got, err := os.ReadFile(filepath.Join(m.dir, "other")); err != nil || !bytes.Equal(got, other.data) {
		t.Errorf("beside them: %v", err)
	}
	time.Sleep(timeout + timeout/2)
	if age := m.s.Oldest(); age != 0 {
		t.Errorf("the oldest request is told to be %v old", age)
	}
	close(slow.through)
	group.Wait()
	if stats := m.s.Stats(); stats.Timeouts != 0 || stats.ReadErrors != 0 {
		t.Errorf("%+v", stats)
	}
	if done := slow.done.Load(); done < readers {
		t.Errorf("%d of %d turns were given back", done, readers)
	}
}

// TestWaitingReaderIsKilled: who waits for its turn can be killed.
func TestWaitingReaderIsKilled(t *testing.T) {
	testkit.RequireTool(t, "python3")
	slow := &pacedFile{memFile: *randomFile(4096), through: make(chan struct{})}
	m := serve(t, mount.Options{}, map[string]mount.File{"slow": slow})
	reader := exec.Command("python3", "-c", `
import mmap, os, sys
page = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 4096, prot=mmap.PROT_READ)
page.madvise(mmap.MADV_RANDOM) # see TestSignals
page[0]
`, filepath.Join(m.dir, "slow"))
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "it waits", func() bool { return slow.waiting.Load() > 0 })
	_ = reader.Process.Kill()
	if err := reader.Wait(); err == nil || slow.reads.Load() != 0 {
		t.Errorf("%v, %d reads", err, slow.reads.Load())
	}
	until(t, "it waits no more", func() bool { return slow.waiting.Load() == 0 })
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestNodeIDs(t *testing.T) {
	if a, b := mount.NodeID("a"), mount.NodeID("b"); a == b || a < 2 || b < 2 {
		t.Errorf("ids %d and %d", a, b)
	}
	if got := mount.NodeID("a"); got != 5385491284112807882 {
		t.Errorf("the id of a is %d now: successors of older servers would not know it", got)
	}
}
