// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/tiers.svg anew")

func load(t *testing.T, name string) []curve {
	t.Helper()
	curves, err := readFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return curves
}

// TestPicture: the difference of two moments is drawn as it is in testdata, and
// is XML.
func TestPicture(t *testing.T) {
	curves, err := since(load(t, "before.json"), load(t, "after.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := draw(&got, "Tiers <of> a test", curves); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/tiers.svg"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the picture is not %s any more; if it is better, run the test with -update:\n%s", golden, &got)
	}
	for d := xml.NewDecoder(&got); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestSince: only what came between two moments is left, and a loader that was
// restarted between them is noticed.
func TestSince(t *testing.T) {
	before, after := load(t, "before.json"), load(t, "after.json")
	left, err := since(before, after)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, c := range left {
		counts[c.Name] = c.Latency.Count
	}
	if counts["l1-memory"] != 10 || counts["l1-disk"] != 0 || counts["l2"] != 8 || counts["origin"] != 4 {
		t.Errorf("hits between the two: %v", counts)
	}
	for _, restarted := range [][2][]curve{
		{after, before}, // fewer in a bucket
		{before, {{Name: "l1-memory"}}},
	} {
		if _, err := since(restarted[0], restarted[1]); err == nil {
			t.Error("a difference below zero was taken")
		}
	}
}

// TestNothingToDraw: input without hits, or that is none, is told in words.
func TestNothingToDraw(t *testing.T) {
	if err := draw(io.Discard, "", []curve{{Name: "l2"}}); err == nil || !strings.Contains(err.Error(), "nothing to draw") {
		t.Errorf("without a hit: %v", err)
	}
	if _, err := read("x", strings.NewReader("TIER  REQUESTS")); err == nil || !strings.Contains(err.Error(), "x is not") {
		t.Errorf("a table: %v", err)
	}
}
