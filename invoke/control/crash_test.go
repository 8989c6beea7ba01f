// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
)

// crashEnv makes the test binary the process that is killed; its value is the
// path of the database.
const crashEnv = "THAW_TEST_CONTROL_CRASH"

// TestCrashChild is that process: it changes functions as fast as it can, and
// says what it begins and what was acknowledged.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashEnv)
	if path == "" {
		t.Skip("only for TestAcknowledgedChangesSurviveKill")
	}
	db, err := sqlitedb.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	images := controltest.NewImages()
	images.Push(alice, "image", controltest.Image{Content: "image"})
	c, err := control.Open(t.Context(), control.Options{DB: db, Images: images, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	round := rand.Uint32()
	for i := 0; ; i++ {
		name := fmt.Sprintf("f-%08x-%d", round, i)
		fmt.Println("begin", name, "create")
		_, err := c.Create(t.Context(), alice, control.NewFunction{Name: name, ImageURI: "image", Change: control.Change{Role: ptr(role)}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("done", name, "create")
		if i%3 == 1 {
			fmt.Println("begin", name, "delete")
			if err := c.Delete(t.Context(), alice, name, ""); err != nil {
				t.Fatal(err)
			}
			fmt.Println("done", name, "delete")
		}
		if i%3 == 2 {
			fmt.Println("begin", name, "tag")
			if err := c.Tag(t.Context(), alice, name, map[string]string{"kept": "yes"}, nil); err != nil {
				t.Fatal(err)
			}
			fmt.Println("done", name, "tag")
		}
	}
}

// TestAcknowledgedChangesSurviveKill kills a process at random moments, each
// time on the database that the last one left. Whatever was acknowledged must
// be there; of what was not, only the one change that was under way may be.
func TestAcknowledgedChangesSurviveKill(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "x.db")
	begun, done := map[string]bool{}, map[string]bool{} // "NAME OPERATION"
	for range rounds {
		crashOnce(t, path, begun, done)
		checkAfterCrash(t, path, begun, done)
		if t.Failed() {
			return
		}
	}
	if len(done) < rounds {
		t.Errorf("only %d changes were acknowledged in %d rounds", len(done), rounds)
	}
	t.Logf("%d changes acknowledged in %d rounds", len(done), rounds)
}

func crashOnce(t *testing.T, path string, begun, done map[string]bool) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	child.Env = append(os.Environ(), crashEnv+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var killer *time.Timer
	for lines.Scan() {
		verb, change, ok := strings.Cut(lines.Text(), " ")
		switch {
		case ok && verb == "begin":
			begun[change] = true
			if killer == nil { // it is at work now
				killer = time.AfterFunc(rand.N(150*time.Millisecond), func() { child.Process.Kill() })
			}
		case ok && verb == "done":
			done[change] = true
		}
	}
	err = child.Wait()
	if killer == nil || err == nil || child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

func checkAfterCrash(t *testing.T, path string, begun, done map[string]bool) {
	t.Helper()
	db, err := sqlitedb.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	images := controltest.NewImages()
	images.Push(alice, "image", controltest.Image{Content: "image"})
	c, err := control.Open(t.Context(), control.Options{DB: db, Images: images, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for change := range begun {
		name, operation, _ := strings.Cut(change, " ")
		if operation != "create" {
			continue
		}
		f, _, err := c.Get(t.Context(), alice, name, "")
		exists := err == nil
		switch {
		case err != nil && thaw.KindOf(err) != thaw.NotFound:
			t.Fatal(err)
		case exists && done[name+" delete"]:
			t.Errorf("%s was deleted and is there", name)
		case !exists && done[change] && !begun[name+" delete"]:
			t.Errorf("%s was created and is gone", name)
		case exists && done[name+" tag"] && f.Tags["kept"] != "yes":
			t.Errorf("%s has lost its tag", name)
		}
		for deadline := time.Now().Add(time.Minute); exists && f.State != control.Active; time.Sleep(time.Millisecond) {
			if f, _, err = c.Get(t.Context(), alice, name, ""); err != nil || time.Now().After(deadline) {
				t.Fatalf("%s does not become active: %+v, %v", name, f, err)
			}
		}
	}
}
