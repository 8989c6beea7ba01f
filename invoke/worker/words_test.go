// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"slices"
	"testing"
	"time"
)

// TestArgsAreFresh: an image's entry point with room behind it is not written to.
func TestArgsAreFresh(t *testing.T) {
	entrypoint := make([]string, 1, 4)
	entrypoint[0] = "e"
	a, b := Function{Entrypoint: entrypoint, Command: []string{"a"}}, Function{Entrypoint: entrypoint, Command: []string{"b"}}
	argsA, argsB := a.args(), b.args()
	if argsA[1] != "a" || argsB[1] != "b" {
		t.Fatal(argsA, argsB)
	}
}

// TestEnviron: where the values of what program.Environ is told come from.
func TestEnviron(t *testing.T) {
	f := Function{Name: "fn", Version: "7", MemoryMB: 256, ImageEnv: []string{"TZ=image", "A=image"}, Env: map[string]string{"A": "function"}}
	got := f.environ("eu-west-1", "stream")
	for _, want := range []string{
		"A=function", "TZ=image", "AWS_REGION=eu-west-1", "AWS_LAMBDA_FUNCTION_NAME=fn", "AWS_LAMBDA_FUNCTION_VERSION=7",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/fn", "AWS_LAMBDA_LOG_STREAM_NAME=stream",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "_HANDLER=",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
	f.LogGroup, f.LogFormat, f.LogLevel, f.Command = "/mine", "JSON", "WARN", []string{"own"}
	got = f.environ("eu-west-1", "stream")
	for _, want := range []string{"AWS_LAMBDA_LOG_GROUP_NAME=/mine", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=WARN", "_HANDLER=own"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

func TestReportLine(t *testing.T) {
	for name, row := range map[string]struct {
		u    usage
		fail *failure
		want string
	}{
		"warm": {usage{duration: 1234567 * time.Nanosecond, memoryMB: 128, peakBytes: 39 << 20}, nil,
			"Duration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 39 MB\t"},
		"cold": {usage{duration: 2370 * time.Microsecond, init: 423980 * time.Microsecond, memoryMB: 1024, peakBytes: 95<<20 - 1}, nil,
			"Duration: 2.37 ms\tBilled Duration: 427 ms\tMemory Size: 1024 MB\tMax Memory Used: 95 MB\tInit Duration: 423.98 ms\t"},
		"timeout": {usage{duration: 3 * time.Second, memoryMB: 128, peakBytes: 36 << 20}, timeoutFailure(3 * time.Second),
			"Duration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tStatus: timeout"},
		"error": {usage{duration: time.Millisecond, memoryMB: 128, peakBytes: 500 << 20}, &failure{errorType: errorOOM, status: "error"},
			"Duration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 128 MB\tStatus: error\tError Type: Runtime.OutOfMemory"},
	} {
		if got := reportLines("id", row.u, row.fail); got[0] != "END RequestId: id" || got[1] != "REPORT RequestId: id\t"+row.want {
			t.Errorf("%s: %q, want %q", name, got[1], row.want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := Open(Default()); err == nil {
		t.Fatal("a worker without a launcher")
	}
}
