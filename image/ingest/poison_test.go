// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/flatten"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/internal/testkit"
)

// poisonChild names the layer, in the process that is measured.
const poisonChild = "THAW_TEST_POISON_CHILD"

// poisonLimit is what an ingest may have resident, whatever its image: the memory
// for names, here less than by default so that it is soon used up, and that for
// all else.
const (
	poisonBudget = 128 << 20
	poisonLimit  = poisonBudget + 256<<20
)

// TestPoisonedImages: however little an image takes as it is stored, what its
// ingest takes of memory is bounded, and an image that would take more is told
// why. Each is ingested in a process of its own.
func TestPoisonedImages(t *testing.T) {
	if name := os.Getenv(poisonChild); name != "" {
		ingestPoison(t, testkit.PoisonNamed(t, name))
		return
	}
	if testing.Short() {
		t.Skip("takes some seconds for each kind")
	}
	for _, p := range testkit.Poisons() {
		if p.Name == "zeros" || p.Name == "records that are not kept" {
			continue // neither takes memory: there is no image with too many
		}
		t.Run(p.Name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPoisonedImages$", "-test.v")
			cmd.Env = append(os.Environ(), poisonChild+"="+p.Name, fmt.Sprintf("GOMEMLIMIT=%d", poisonLimit-64<<20))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// ingestPoison ingests ever larger images, until one is refused.
func ingestPoison(t *testing.T, p testkit.Poison) {
	t.Helper()
	o := newWorld(t).options()
	o.Sink, o.MetaBytes = &countingSink{}, poisonBudget
	var err error
	n := p.From
	for ; err == nil && n < 1<<22; n = n * 3 / 2 {
		_, err = ingest.Run(t.Context(), private(p.Layer(t, n)), "sha256:feed", o)
	}
	if _, over := errors.AsType[*flatten.BudgetError](err); !over || thaw.KindOf(err) != thaw.TooLarge {
		t.Fatalf("%d of %s: %v", n, p.Name, err)
	}
	peak := residentPeak(t)
	t.Logf("%d of %s are refused: %v; at most %d MiB resident", n, p.Name, err, peak>>20)
	if peak > poisonLimit {
		t.Errorf("%d MiB resident, want at most %d", peak>>20, poisonLimit>>20)
	}
}

// TestUnkeptRecords: what a header says beside what an image keeps takes no
// memory once it was read.
func TestUnkeptRecords(t *testing.T) {
	if os.Getenv(poisonChild) != "" {
		o := newWorld(t).options()
		if _, err := ingest.Run(t.Context(), private(testkit.PoisonNamed(t, "records that are not kept").Layer(t, 2000)), "sha256:feed", o); err != nil {
			t.Fatal(err)
		}
		if peak := residentPeak(t); peak > 256<<20 {
			t.Errorf("%d MiB resident, for a layer of 2,000 empty files", peak>>20)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestUnkeptRecords$", "-test.v")
	cmd.Env = append(os.Environ(), poisonChild+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
