// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"thaw.dev/thaw/internal/testkit"
)

// The conformance suite of the distribution specification, pinned.
const conformance = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"

// junit is what the suite reports, as far as we look into it.
type junit struct {
	Tests    int `xml:"tests,attr"`
	Errors   int `xml:"errors,attr"`
	Failures int `xml:"failures,attr"`
	Skipped  int `xml:"skipped,attr"`
	Disabled int `xml:"disabled,attr"`
}

// TestConformance runs the suite against a registry with logins, and accepts
// neither a failed test nor one that was skipped because we lack something.
func TestConformance(t *testing.T) {
	suite := testkit.GoTool(t, conformance)
	for _, run := range []struct {
		name     string
		version  string
		sha512   string
		minTests int // so that a suite that stops early does not pass
	}{
		{"1.1", "1.1", "true", 800},
		{"1.1 without sha512", "1.1", "false", 650},
		{"1.0", "1.0", "true", 700},
		// The next version adds tag parameters and demands what 1.1 leaves open.
		{"development", "dev", "true", 900},
	} {
		t.Run(run.name, func(t *testing.T) {
			s := startServer(t, options(t.TempDir()))
			results := t.TempDir()
			cmd := exec.CommandContext(t.Context(), suite)
			cmd.Dir = results
			cmd.Env = append(os.Environ(),
				"OCI_REGISTRY="+s.host(), "OCI_TLS=disabled", "OCI_VERSION="+run.version,
				"OCI_DATA_SHA512="+run.sha512, "OCI_USERNAME=key-"+string(alice), "OCI_PASSWORD="+secretOf(alice),
				"OCI_RESULTS_DIR="+results)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("the suite: %v", err)
			}
			report, err := os.ReadFile(filepath.Join(results, "junit.xml"))
			if err != nil {
				t.Fatalf("no report: %v\n%s", err, out)
			}
			var got junit
			if err := xml.Unmarshal(report, &got); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d tests: %d failures, %d errors, %d skipped, %d disabled", got.Tests, got.Failures, got.Errors, got.Skipped, got.Disabled)
			if got.Failures+got.Errors+got.Skipped > 0 || got.Tests < run.minTests {
				t.Errorf("want no failure, error or skip in at least %d tests\n%s", run.minTests, out)
			}
		})
	}
}
