// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/worker"
)

// TestTraceByPrefix: what is printed of a request's id is enough to find it, if
// it is the beginning of one.
func TestTraceByPrefix(t *testing.T) {
	var kept traces
	for i, id := range []string{"aab1-x", "aab2-x", "c1", "c1d2"} {
		kept.observe(worker.Observation{RequestID: id, ColdStart: i%2 == 0, Err: thaw.Errorf("", thaw.Internal, "x")})
	}
	for prefix, want := range map[string]string{"aab1-x": "aab1-x", "aab1": "aab1-x", "c1": "c1", "c1d": "c1d2"} {
		if got, err := kept.get(prefix); err != nil || got.RequestID != want {
			t.Errorf("%s finds %q, error %v; want %s", prefix, got.RequestID, err, want)
		}
	}
	if _, err := kept.get("aab"); err == nil || !strings.Contains(err.Error(), "aab1-x") || !strings.Contains(err.Error(), "aab2-x") {
		t.Errorf("two that begin so: %v", err)
	}
	if _, err := kept.get("d"); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("none that begins so: %v", err)
	}
}

// TestImageByPrefix: the same for images.
func TestImageByPrefix(t *testing.T) {
	if !begins("sha256:38e3fa", "38e3") || !begins("sha256:38e3fa", "sha256:38") || begins("sha256:38e3fa", "e3") || begins("sha256:38e3fa", "") {
		t.Error("the beginning of a digest is not told from what is not")
	}
	one, two := thaw.ImageID{1}, thaw.ImageID{2}
	if _, id, err := onlyImage("0", map[thaw.ImageID]string{one: "f"}); err != nil || id != one {
		t.Errorf("one image: %v, error %v", id, err)
	}
	if _, _, err := onlyImage("0", map[thaw.ImageID]string{one: "f", two: "g"}); err == nil || !strings.Contains(err.Error(), one.String()[:16]+" f") || !strings.Contains(err.Error(), "g") {
		t.Errorf("two images: %v", err)
	}
	if _, _, err := onlyImage("0", nil); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("no image: %v", err)
	}
}
