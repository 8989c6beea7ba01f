// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/store/storetest"
)

const (
	crashDirEnv  = "THAW_STORE_CRASH_DIR"
	crashSeedEnv = "THAW_STORE_CRASH_SEED"
)

// crashSize makes chunks of many lengths, so that a mixed-up one is noticed.
func crashSize(seed uint64) int { return int(seed*7919) % 60_000 }

// TestMain lets the test binary be the process that TestCrash kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		fmt.Println("FAIL:", crashChild(context.Background(), dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashChild puts chunks and objects without end and tells of each that was
// acknowledged. It returns only if something fails.
func crashChild(ctx context.Context, dir string) error {
	base, err := strconv.ParseUint(os.Getenv(crashSeedEnv), 10, 64)
	if err != nil {
		return err
	}
	d, err := store.OpenDir(dir)
	if err != nil {
		return err
	}
	fmt.Println("open")
	ingests, ctx := errgroup.WithContext(ctx)
	for ingest := range uint64(3) {
		ingests.Go(func() error {
			for batch := uint64(0); ; batch++ {
				if err := crashBatch(ctx, d, base+ingest*10_000+batch*10); err != nil {
					return err
				}
			}
		})
	}
	return ingests.Wait()
}

func crashBatch(ctx context.Context, d *store.Dir, first uint64) error {
	for seed := first; seed < first+10; seed++ {
		_, sealed := storetest.Sealed(seed, crashSize(seed))
		if err := d.Put(ctx, sealed.Named()); err != nil {
			return err
		}
	}
	if err := d.Sync(ctx); err != nil {
		return err
	}
	for seed := first; seed < first+10; seed++ {
		fmt.Printf("chunk %d\n", seed)
	}
	key := fmt.Sprintf("manifest/%d", first)
	if err := d.PutObject(ctx, key, []byte(key)); err != nil {
		return err
	}
	fmt.Printf("object %s\n", key)
	return nil
}

// TestCrash kills a process that uses a store, at random moments, its opening
// included. After each time everything that was acknowledged must be there and
// right, and nothing that is there may be partial.
func TestCrash(t *testing.T) {
	rounds := 35
	if testing.Short() {
		rounds = 5
	}
	dir := filepath.Join(t.TempDir(), "origin")
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	chunks, objects := make(map[uint64]bool), make(map[string]bool)
	for round := range rounds {
		runAndKill(t, dir, round, time.Duration(r.Int64N(int64(150*time.Millisecond))), func(line string) {
			if seed, ok := strings.CutPrefix(line, "chunk "); ok {
				n, err := strconv.ParseUint(seed, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				chunks[n] = true
			} else if key, ok := strings.CutPrefix(line, "object "); ok {
				objects[key] = true
			}
		})
		checkAfterCrash(t, dir, chunks, objects)
		if t.Failed() {
			t.Fatalf("after %d rounds", round+1)
		}
	}
	if len(chunks) == 0 || len(objects) == 0 {
		t.Error("no round acknowledged anything: nothing was tested")
	}
	t.Logf("%d rounds, %d chunks and %d objects acknowledged", rounds, len(chunks), len(objects))
}

// runAndKill runs the child and kills it at some time after it has started, or,
// in two rounds of three, after it has opened the store.
func runAndKill(t *testing.T, dir string, round int, after time.Duration, ack func(line string)) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir, crashSeedEnv+"="+strconv.Itoa(round*100_000))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) }
	if round%3 == 0 {
		kill()
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the end, perhaps within a line, which then says nothing
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "open" && round%3 != 0 {
			kill()
		}
		if strings.Contains(line, "FAIL") {
			t.Errorf("the child failed: %s", line)
		}
		ack(line)
	}
	_ = cmd.Wait() // it was killed
}

func checkAfterCrash(t *testing.T, dir string, chunks map[uint64]bool, objects map[string]bool) {
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for seed := range chunks {
		name, sealed := storetest.Sealed(seed, crashSize(seed))
		if got, err := d.Get(t.Context(), name); err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("acknowledged chunk %d: %d bytes, %v", seed, len(got), err)
		}
	}
	for info, err := range d.Chunks(t.Context()) {
		if err != nil {
			t.Error(err)
		} else if sealed, err := d.Get(t.Context(), info.Name); err != nil || thaw.NameOf(sealed) != info.Name {
			t.Errorf("a chunk is there but not whole: %v", err)
		}
	}
	seen := 0
	for key, err := range d.ListObjects(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		if data, err := d.ReadObject(t.Context(), key, 0, 1000); err != nil || string(data) != key {
			t.Errorf("object %s: %q, %v", key, data, err)
		}
		if objects[key] {
			seen++
		}
	}
	if seen != len(objects) {
		t.Errorf("%d of %d acknowledged objects are there", seen, len(objects))
	}
	if temps, err := filepath.Glob(filepath.Join(dir, "tmp", "*", "*")); err != nil || len(temps) > 0 {
		t.Errorf("leftovers: %v, %v", temps, err)
	}
}
