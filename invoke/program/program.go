// SPDX-License-Identifier: Apache-2.0

// Package program says what a function's program is started with: its
// environment variables, as in Lambda's image functions, and what a kernel
// takes of variables and arguments at all. It knows neither images nor
// sandboxes; control refuses by it what worker could not start.
package program

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// defaultPath is the search path where the image sets none: that of the
// container engines.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// xrayHost is where Lambda's sandboxes have the X-Ray daemon.
const xrayHost = "169.254.79.129"

// Facts are what the variables tell a program of its function.
type Facts struct {
	Region     string
	RuntimeAPI string // host and port
	Name       string // bare
	Version    string
	MemoryMB   int
	LogGroup   string
	LogStream  string
	LogFormat  string   // "Text" or "JSON"; "" leaves the variable out
	LogLevel   string   // of the application; "" leaves the variable out
	Command    []string // CMD, whose first item is the handler
}

// handler is the value of _HANDLER: the first item of CMD, empty without one.
// Lambda sets it in image functions too, for which it means little.
func (f *Facts) handler() string {
	if len(f.Command) == 0 {
		return ""
	}
	return f.Command[0]
}

// variable is one that nobody but the platform sets.
type variable struct {
	name  string
	value func(*Facts) string // nil: the program does not have it
}

// reserved are the variables that Lambda reserves, but for credentials: thaw
// gives none, so whoever has some may pass them as variables. The list is both
// what a function's configuration may not set and what overrides an image's.
var reserved = []variable{
	{"_HANDLER", (*Facts).handler},
	{"_X_AMZN_TRACE_ID", nil}, // the runtime sets it anew for each invocation
	{"AWS_DEFAULT_REGION", func(f *Facts) string { return f.Region }},
	{"AWS_EXECUTION_ENV", func(*Facts) string { return "AWS_Lambda_Image" }},
	{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", func(f *Facts) string { return strconv.Itoa(f.MemoryMB) }},
	{"AWS_LAMBDA_FUNCTION_NAME", func(f *Facts) string { return f.Name }},
	{"AWS_LAMBDA_FUNCTION_VERSION", func(f *Facts) string { return f.Version }},
	{"AWS_LAMBDA_INITIALIZATION_TYPE", func(*Facts) string { return "on-demand" }},
	{"AWS_LAMBDA_LOG_GROUP_NAME", func(f *Facts) string { return f.LogGroup }},
	{"AWS_LAMBDA_LOG_STREAM_NAME", func(f *Facts) string { return f.LogStream }},
	{"AWS_LAMBDA_MAX_CONCURRENCY", nil}, // of Lambda's managed instances, as the two below
	{"AWS_LAMBDA_METADATA_API", nil},
	{"AWS_LAMBDA_METADATA_TOKEN", nil},
	{"AWS_LAMBDA_RUNTIME_API", func(f *Facts) string { return f.RuntimeAPI }},
	{"AWS_REGION", func(f *Facts) string { return f.Region }},
	{"LAMBDA_RUNTIME_DIR", func(*Facts) string { return "/var/runtime" }},
	{"LAMBDA_TASK_ROOT", func(*Facts) string { return "/var/task" }},
}

// Reserved returns the names that a function's configuration may not set.
func Reserved() []string {
	names := make([]string, len(reserved))
	for i, v := range reserved {
		names[i] = v.name
	}
	return names
}

// Environ returns the environment of a program, sorted: the image's variables
// (NAME=value; the last of a name wins, what has no name is left out), under
// those of Lambda's that are not reserved, under the function's own, under the
// reserved ones.
func Environ(f Facts, image []string, function map[string]string) []string {
	env := map[string]string{"PATH": defaultPath}
	for _, kv := range image {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			env[name] = value
		}
	}
	maps.Copy(env, unreserved(f))
	maps.Copy(env, function)
	for _, v := range reserved {
		if delete(env, v.name); v.value != nil {
			env[v.name] = v.value(&f)
		}
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// unreserved are the variables that Lambda sets and a function may set anew.
func unreserved(f Facts) map[string]string {
	env := map[string]string{
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":  xrayHost + ":2000",
		"_AWS_XRAY_DAEMON_ADDRESS": xrayHost,
		"_AWS_XRAY_DAEMON_PORT":    "2000",
	}
	if f.LogFormat != "" {
		env["AWS_LAMBDA_LOG_FORMAT"] = f.LogFormat
	}
	if f.LogLevel != "" {
		env["AWS_LAMBDA_LOG_LEVEL"] = f.LogLevel
	}
	return env
}
