// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// abused is what the probe says of an abuse.
type abused struct {
	Done  int64  `json:"done"`
	Error string `json:"error"`
}

// abuse has a function of the probe's image take what it can of one kind, and
// returns what it got and how long that took at most.
func (w *world) abuse(client *lambda.Client, kind string, workers int) (abused, time.Duration) {
	w.t.Helper()
	begin := time.Now()
	payload, failed := invoke(w.t.Context(), w.t, client, "abuser",
		fmt.Sprintf(`{"abuse": {"kind": %q, "workers": %d, "seconds": 2}}`, kind, workers))
	if failed != "" {
		w.t.Fatalf("%s: %s: %s", kind, failed, payload)
	}
	var a abused
	if err := json.Unmarshal([]byte(payload), &a); err != nil {
		w.t.Fatal(err)
	}
	return a, time.Since(begin)
}

// TestAFunctionPaysForItself: what a function has the server do for it beside its
// invocations is bounded, whatever it asks; the server still answers it after that,
// and its log says why it was slow.
func TestAFunctionPaysForItself(t *testing.T) {
	w := newWorld(t)
	client := w.create(t.Context(), "abuser", w.push("probe:1", "probe:v1"))
	for _, row := range []struct {
		kind                string
		workers             int
		atOnce, everySecond float64 // that a sandbox may have, a little more than it does
	}{
		{"pipeline", 20, 600, 20},
		{"churn", 20, 600, 20},
		{"print", 1, 33 << 20, 5 << 20},
	} {
		got, took := w.abuse(client, row.kind, row.workers)
		if got.Done < 1 {
			t.Errorf("%s: nothing was done: %+v", row.kind, got)
		}
		if most := row.atOnce + row.everySecond*took.Seconds(); float64(got.Done) > most {
			t.Errorf("%s: it had %d, more than %.0f", row.kind, got.Done, most)
		}
	}
	before := w.peakMB()
	for _, kind := range []string{"half-header", "half-body"} {
		w.abuse(client, kind, 60)
	}
	if after := w.peakMB(); after > before+100 { // sixty of both are 360 MiB and more
		t.Errorf("half-sent requests took the server from %d to %d MiB", before, after)
	}
	for _, why := range []string{"more requests than invocations need", "bytes of log were dropped"} {
		w.wantLogged("abuser", why)
	}
}

// peakMB is the most memory that the server has had, in MiB.
func (w *world) peakMB() int {
	w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return kib >> 10
}
