// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw.dev/thaw/image/registry"
)

// childEnv makes the test binary a registry over the folder it names, until it
// is killed.
const childEnv = "THAW_TEST_REGISTRY_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		serveUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

func serveUntilKilled(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	store, err := registry.Open(options(dir))
	fail(err)
	tokens, err := registry.NewTokenIssuer(bytes.Repeat([]byte{7}, 32), currentKey)
	fail(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fmt.Println(listener.Addr())
	fail(http.Serve(listener, registry.NewHandler(store, registry.BasicAuth(tokens, lookup), tokens)))
}

// child is a registry in another process.
type child struct {
	cmd  *exec.Cmd
	base string
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	return startCommand(t, dir, exec.Command(os.Args[0]))
}

func startCommand(t *testing.T, dir string, cmd *exec.Cmd) *child {
	t.Helper()
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(func() { c.kill() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.base = "http://" + strings.TrimSpace(address)
	return c
}

// kill is kill -9; it may be called twice.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// send sends a request of alice's. It reports false where no answer came: then
// the child was killed, and owes nothing.
func (c *child) send(method, path string, body []byte) (status int, answer []byte, ok bool) {
	if !strings.HasPrefix(path, "http") {
		path = c.base + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, false
	}
	req.SetBasicAuth("key-"+string(alice), secretOf(alice))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, false
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err == nil
}

// ledger is what a registry has acknowledged: it must have that for ever.
type ledger struct {
	mu      sync.Mutex
	blobs   map[string][]byte   // path: content
	tags    map[string][]string // path: digests that it may stand for, the acknowledged one first
	deleted map[string]bool     // paths that must stay away
}

func (l *ledger) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// pushUntilKilled pushes images of several blobs and moves tags until no answer
// comes any more.
func (l *ledger) pushUntilKilled(c *child, worker, round int) {
	random := rand.New(rand.NewPCG(uint64(worker), uint64(round)))
	repo := fmt.Sprintf("/v2/app%d", worker)
	for i := 0; ; i++ {
		config := fmt.Appendf(nil, `{"os":"linux","n":"%d-%d-%d"}`, worker, round, i)
		layer := bytes.Repeat(config, 1+random.IntN(3000))
		for _, data := range [][]byte{config, layer} {
			status, _, ok := c.send("POST", repo+"/blobs/uploads/?digest="+digest(data), data)
			if !ok || status != http.StatusCreated {
				return
			}
			l.note(func() { l.blobs[repo+"/blobs/"+digest(data)] = data })
		}
		manifest := imageOf(config, layer)
		tag := repo + fmt.Sprintf("/manifests/t%d", random.IntN(4))
		// Before the answer it may stand for both.
		l.note(func() { l.tags[tag] = append(l.tags[tag], digest(manifest)) })
		status, _, ok := c.send("PUT", tag, manifest)
		if !ok || status != http.StatusCreated {
			return
		}
		l.note(func() {
			l.tags[tag] = []string{digest(manifest)}
			l.blobs[repo+"/manifests/"+digest(manifest)] = manifest
		})
		if random.IntN(4) == 0 {
			// Nothing else names this layer.
			path := repo + "/blobs/" + digest(layer)
			l.note(func() { delete(l.blobs, path) })
			if status, _, ok := c.send("DELETE", path, nil); !ok || status != http.StatusAccepted {
				return
			}
			l.note(func() { l.deleted[path] = true })
		}
	}
}

// check demands of a registry all that was acknowledged.
func (l *ledger) check(t *testing.T, c *child) {
	t.Helper()
	for path, want := range l.blobs {
		if status, got, ok := c.send("GET", path, nil); !ok || status != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("%s: status %d, %d bytes, want %d", path, status, len(got), len(want))
		}
	}
	for path, want := range l.tags {
		status, got, ok := c.send("GET", path, nil)
		known := false
		for _, d := range want {
			known = known || d == digest(got)
		}
		// The first push of a tag may have died before it.
		if !ok || (status != http.StatusNotFound || l.blobs[path[:strings.LastIndex(path, "/")]+"/"+want[0]] != nil) && (status != http.StatusOK || !known) {
			t.Errorf("%s: status %d, %s, want one of %v", path, status, digest(got), want)
		}
	}
	for path := range l.deleted {
		if status, _, ok := c.send("HEAD", path, nil); !ok || status != http.StatusNotFound {
			t.Errorf("%s was deleted: status %d", path, status)
		}
	}
}

// TestKillMinus9 kills a registry under pushes, deletes and moving tags, again
// and again over the same folder. All that was ever acknowledged is there
// afterwards, nothing half-made is, and nothing is left over.
func TestKillMinus9(t *testing.T) {
	const rounds = 20
	dir := t.TempDir()
	l := &ledger{blobs: map[string][]byte{}, tags: map[string][]string{}, deleted: map[string]bool{}}
	for round := range rounds {
		c := startChild(t, dir)
		var pushers sync.WaitGroup
		for worker := range 4 {
			pushers.Go(func() { l.pushUntilKilled(c, worker, round) })
		}
		time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond)
		c.kill()
		pushers.Wait()

		again := startChild(t, dir)
		l.check(t, again)
		again.kill()
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
	}
	t.Logf("%d rounds, %d blobs and manifests, %d tags and %d deletions acknowledged", rounds, len(l.blobs), len(l.tags), len(l.deleted))
	if len(l.blobs) < rounds {
		t.Error("too little was pushed for the test to mean something")
	}
	checkWhole(t, dir)
}

// checkWhole demands that after a round of cleaning every stored file is one
// that a repository links, and has the digest of its name.
func checkWhole(t *testing.T, dir string) {
	t.Helper()
	o := options(dir)
	o.StaleAfter = time.Nanosecond
	store := openStore(t, o)
	if _, err := store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	repositories, err := store.Repositories(t.Context(), registry.Identity{Tenant: alice})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range repositories {
		blobs, err := writer(t, store, alice, r.Name).Blobs()
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range blobs {
			linked[h.Hex] = true
		}
	}
	stored := files(t, dir, "blobs")
	for _, path := range stored {
		name := path[strings.LastIndexByte(path, '-')+1:]
		data, err := os.ReadFile(dir + "/blobs/" + path)
		if err != nil {
			t.Fatal(err)
		}
		if digest(data) != "sha256:"+name || !linked[name] {
			t.Errorf("%s: %s, linked %t", path, digest(data), linked[name])
		}
	}
	if len(stored) != len(linked) {
		t.Errorf("%d files are stored, %d blobs linked", len(stored), len(linked))
	}
	for _, below := range []string{"tmp", "uploads"} {
		if left := files(t, dir, below); len(left) > 0 {
			t.Errorf("left in %s: %v", below, left)
		}
	}
}

// TestKilledUploadsGoOn: chunks that were acknowledged are there after a kill,
// and the upload can be finished.
func TestKilledUploadsGoOn(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, dir)
	data := bytes.Repeat([]byte("chunk"), 100_000)
	s := &child{base: c.base}
	location := startUploadOf(t, s)
	for first := 0; first < len(data); first += 100_000 {
		if status, _, ok := s.send("PATCH", location, data[first:min(first+100_000, len(data))]); !ok || status != http.StatusAccepted {
			t.Fatalf("chunk at %d: status %d", first, status)
		}
		c.kill()
		c = startChild(t, dir)
		s.base = c.base
	}
	if status, body, ok := s.send("PUT", location+"?digest="+digest(data), nil); !ok || status != http.StatusCreated {
		t.Fatalf("finish: status %d, %s", status, body)
	}
	if _, body, ok := s.send("GET", "/v2/app/blobs/"+digest(data), nil); !ok || !bytes.Equal(body, data) {
		t.Error("the blob came back changed")
	}
}

func startUploadOf(t *testing.T, c *child) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", c.base+"/v2/app/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("key-"+string(alice), secretOf(alice))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("start: %s", resp.Status)
	}
	return resp.Header.Get("Location")
}
