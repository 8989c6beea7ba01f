// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// launchLine tells of a command that could not be executed.
func launchLine(f *Function, cause *failure) string {
	return fmt.Sprintf("IMAGE\tLaunch error: %s\tEntrypoint: [%s]\tCmd: [%s]\tWorkingDir: [%s]", cause.message,
		strings.Join(f.Entrypoint, ","), strings.Join(f.Command, ","), f.dir())
}

// ownLine is a line in our own words, not Lambda's.
func ownLine(text string) string { return "[thaw] " + text }

// lookupLine says why a name can't be resolved. What the function's own resolver
// makes of it names no cause.
func lookupLine(name string, why error) string {
	return ownLine(fmt.Sprintf("%q was not resolved: %v", name, why))
}

// slowedLine is for a function whose own requests the worker would pay for.
var slowedLine = ownLine("the function sends the Runtime API more requests than invocations need: they are answered slowly from now on")

func startLine(id, version string) string {
	return "START RequestId: " + id + " Version: " + version
}

func initReportLine(d time.Duration, phase string, f *failure) string {
	line := fmt.Sprintf("INIT_REPORT Init Duration: %.2f ms\tPhase: %s\tStatus: %s", ms(d), phase, f.status)
	if f.status == "error" {
		line += "\tError Type: " + f.errorType
	}
	return line
}

// usage is what the REPORT line tells.
type usage struct {
	duration  time.Duration
	init      time.Duration // 0 unless this was a cold start whose first try succeeded
	memoryMB  int
	peakBytes int64
}

// reportLines are END and REPORT. The init is billed since August 2025. Peak
// memory is rounded up and never shown above the limit.
func reportLines(id string, u usage, f *failure) []string {
	peak := min(int((u.peakBytes+1<<20-1)>>20), u.memoryMB)
	var b strings.Builder
	fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		id, ms(u.duration), math.Ceil(ms(u.duration+u.init)), u.memoryMB, peak)
	if u.init > 0 {
		fmt.Fprintf(&b, "Init Duration: %.2f ms\t", ms(u.init))
	}
	if f != nil {
		b.WriteString("Status: " + f.status)
		if f.status == "error" {
			b.WriteString("\tError Type: " + f.errorType)
		}
	}
	return []string{"END RequestId: " + id, b.String()}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
