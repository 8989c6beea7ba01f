// SPDX-License-Identifier: Apache-2.0

package program

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func facts() Facts {
	return Facts{Region: "eu-west-1", RuntimeAPI: "127.0.0.1:9001", Name: "fn", Version: "7", MemoryMB: 256,
		LogGroup: "/mine", LogStream: "stream"}
}

func table(env []string) map[string]string {
	out := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		out[name] = value
	}
	return out
}

// TestEnviron: what a program finds where nobody sets anything is what the dump
// of a real image function has, but for credentials and what its shell adds
// (bruceadams/run-command-on-aws-lambda, demo/README.md; the log's format is of
// a later one).
func TestEnviron(t *testing.T) {
	f := facts()
	f.LogFormat = "Text"
	want := []string{
		"AWS_DEFAULT_REGION=eu-west-1",
		"AWS_EXECUTION_ENV=AWS_Lambda_Image",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_FUNCTION_NAME=fn",
		"AWS_LAMBDA_FUNCTION_VERSION=7",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_FORMAT=Text",
		"AWS_LAMBDA_LOG_GROUP_NAME=/mine",
		"AWS_LAMBDA_LOG_STREAM_NAME=stream",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001",
		"AWS_REGION=eu-west-1",
		"AWS_XRAY_CONTEXT_MISSING=LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS=169.254.79.129:2000",
		"LAMBDA_RUNTIME_DIR=/var/runtime",
		"LAMBDA_TASK_ROOT=/var/task",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"_AWS_XRAY_DAEMON_ADDRESS=169.254.79.129",
		"_AWS_XRAY_DAEMON_PORT=2000",
		"_HANDLER=",
	}
	if got := Environ(f, nil, nil); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	f.Command, f.LogFormat, f.LogLevel = []string{"app.handler", "x"}, "JSON", "DEBUG"
	got := table(Environ(f, nil, nil))
	if got["_HANDLER"] != "app.handler" || got["AWS_LAMBDA_LOG_FORMAT"] != "JSON" || got["AWS_LAMBDA_LOG_LEVEL"] != "DEBUG" {
		t.Fatalf("%q", got)
	}
}

func TestWhoWins(t *testing.T) {
	image := []string{"PATH=/image", "LANG=C.UTF-8", "A=first", "A=image", "B=image", "broken", "=x", "E=a=b", "TZ=America/New_York", "EMPTY="}
	got := table(Environ(facts(), image, map[string]string{"A": "function", "AWS_XRAY_CONTEXT_MISSING": "IGNORE_ERROR"}))
	for name, want := range map[string]string{
		"PATH": "/image", "LANG": "C.UTF-8", "A": "function", "B": "image", "E": "a=b", "EMPTY": "",
		"TZ": "America/New_York", "AWS_XRAY_CONTEXT_MISSING": "IGNORE_ERROR",
	} {
		if value, set := got[name]; !set || value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	for _, name := range []string{"broken", ""} {
		if _, set := got[name]; set {
			t.Errorf("%q is set", name)
		}
	}
	if got := table(Environ(facts(), image, map[string]string{"TZ": "Asia/Tokyo"})); got["TZ"] != "Asia/Tokyo" {
		t.Errorf("TZ is %q", got["TZ"])
	}
}

// TestReservedIsWhatIsOverridden derives both lists: a variable that neither an
// image nor a function can set is refused, and no other is.
func TestReservedIsWhatIsOverridden(t *testing.T) {
	f := facts()
	f.LogFormat, f.LogLevel = "JSON", "INFO"
	candidates := append(Reserved(), "TZ", "LANG", "PATH", "HOME", "LD_LIBRARY_PATH", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "SOMETHING")
	candidates = append(candidates, slices.Collect(maps.Keys(table(Environ(f, nil, nil))))...)
	slices.Sort(candidates)
	var overridden []string
	for _, name := range slices.Compact(candidates) {
		byFunction := table(Environ(f, nil, map[string]string{name: "mine"}))[name]
		byImage := table(Environ(f, []string{name + "=mine"}, map[string]string{name: "mine"}))[name]
		if byFunction != byImage {
			t.Errorf("%s: %q and %q", name, byFunction, byImage)
		}
		if byFunction != "mine" {
			overridden = append(overridden, name)
		}
	}
	refused := slices.Sorted(slices.Values(Reserved()))
	if !slices.Equal(overridden, refused) {
		t.Fatalf("overridden: %q\nrefused:    %q", overridden, refused)
	}
	for _, name := range refused {
		if value := table(Environ(f, []string{name + "=mine"}, nil))[name]; value == "mine" {
			t.Errorf("an image sets %s", name)
		}
	}
}

func TestLimits(t *testing.T) {
	many := func(n int, s string) []string { return slices.Repeat([]string{s}, n) }
	for name, row := range map[string]struct {
		entrypoint, command, env []string
		dir, want                string // "" where it can run
	}{
		"nothing":               {},
		"200 KB of environment": {env: many(200, "V="+strings.Repeat("y", 1000))},
		"longest variable":      {env: []string{"V=" + strings.Repeat("y", MaxStringBytes-2)}},
		"too long a variable":   {env: []string{"V=" + strings.Repeat("y", MaxStringBytes-1)}, want: `the environment variable "V" has 131072 bytes; a program can be given 131071 in one`},
		"too long a command":    {command: []string{"a", strings.Repeat("y", 200_000)}, want: "argument 1 has 200000 bytes"},
		"2 MB of environment":   {env: many(2010, "V="+strings.Repeat("y", 1000)), want: "take 2032110 bytes"},
		"2 MB of arguments":     {entrypoint: many(1000, strings.Repeat("y", 1000)), command: many(1020, strings.Repeat("y", 1000)), want: "take 2038180 bytes"},
		"many empty variables":  {env: many(200_000, "V="), want: "take 2200000 bytes"},
		"NUL in a variable":     {env: []string{"A=b", "C=d\x00e"}, want: `the environment variable "C" contains a NUL`},
		"NUL in an argument":    {entrypoint: []string{"/a\x00"}, want: "argument 0 contains a NUL"},
		"NUL in a directory":    {dir: "/a\x00", want: "working directory"},
		"long name":             {env: []string{strings.Repeat("n", 200_000)}, want: `"nnnn`},
	} {
		err := CheckImage(row.entrypoint, row.command, row.env, row.dir)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%s: %d bytes of error", name, len(err.Error()))
		}
	}
	// What an image leaves to others is theirs.
	if env := many(2040, "V="+strings.Repeat("y", 1000)); CheckImage(nil, nil, env, "") == nil || Check(nil, env) != nil {
		t.Error("an image may take all that there is")
	}
}
