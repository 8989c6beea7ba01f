// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestRunCleanedByHand: what somebody who cleans up takes from run/ is made again
// by the server that runs.
func TestRunCleanedByHand(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "probe", w.push("probe:1", "probe:v1"))
	before, failed := invoke(ctx, t, client, "probe", `{"pid":true}`)
	if failed != "" {
		t.Fatal(failed, before)
	}
	run := filepath.Join(w.Data, "run")
	for _, name := range []string{"tmp", "ingest", "admin.sock"} {
		if _, err := os.Lstat(filepath.Join(run, name)); err != nil {
			t.Errorf("nothing to take away: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(run, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A disk of this size is made at the start.
	if _, err := client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("probe"), EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(600)}}); err != nil {
		t.Fatal(err)
	}
	if after, failed := invoke(ctx, t, client, "probe", `{"pid":true}`); failed != "" || after == before {
		t.Errorf("a new start: %s %s", failed, after)
	}
	w.create(ctx, "other", w.push("go-hello:1", "other:v1"))
	if got, failed := invoke(ctx, t, client, "other", `{"name":"you"}`); failed != "" {
		t.Errorf("a new image: %s %s", failed, got)
	}
	w.waitFor("the admin socket", func() bool { _, err := w.Thaw(ctx, "tenant", "list"); return err == nil })
	if info, err := os.Stat(filepath.Join(run, "admin.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket made again: %v, %v", info, err)
	}
}

// below lists what is in run/.
func (w *world) below() []string {
	w.t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(w.Data, "run"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		found = append(found, strings.TrimPrefix(path, w.Data))
		if d.IsDir() && filepath.Base(filepath.Dir(path)) == "mnt" && d.Name() != "open" {
			return filepath.SkipDir // an image
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// TestRunDoesNotGrow: what an image has below run/ goes when nobody runs it any
// more: old versions of a function, and functions that were removed.
func TestRunDoesNotGrow(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "f", w.push("go-hello:1", "f:v1"))
	start := func(when string) {
		t.Helper()
		if got, failed := invoke(ctx, t, client, "f", `{"name":"you"}`); failed != "" {
			t.Fatalf("%s: %s %s", when, failed, got)
		}
	}
	drop := func() {
		t.Helper()
		if out, err := w.Thaw(ctx, "cache", "drop", "kernel"); err != nil {
			t.Fatal(err, out)
		}
	}
	start("first")
	one := w.below()
	mounts := len(mountsBelow(t, w.Data))
	for n := 2; n <= 4; n++ {
		image := w.push(fmt.Sprint("go-hello:", n), fmt.Sprint("f:v", n))
		if _, err := client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ImageUri: &image}); err != nil {
			t.Fatal(err)
		}
		if err := lambda.NewFunctionUpdatedV2Waiter(client).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")}, time.Minute); err != nil {
			t.Fatal(err)
		}
		start(fmt.Sprint("version ", n))
	}
	if many := w.below(); len(many) <= len(one) {
		t.Errorf("four versions leave no more than one: %v", many)
	}
	w.waitFor("old versions to be gone", func() bool {
		drop()
		return len(w.below()) <= len(one) && len(mountsBelow(t, w.Data)) <= mounts
	})
	if _, err := w.Thaw(ctx, "rm", "f"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("one image had %v and %d mounts; now %v, %v", one, mounts, w.below(), mountsBelow(t, w.Data))
		}
	}()
	w.waitFor("the removed function to be gone", func() bool {
		drop()
		return len(w.below()) < len(one) && len(mountsBelow(t, w.Data)) < mounts
	})
}
