package worker

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"thaw.dev/thaw/invoke/sandbox"
)

// defaultPath is the search path where the image sets none: that of the
// container engines.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is the environment of a function's runtime: the image's, under the
// function's, under what Lambda reserves. Credentials are not among it: there
// are no roles here. Neither is _X_AMZN_TRACE_ID, which a runtime sets anew for
// each invocation.
func environ(f *Function, region, stream string) []string {
	env := map[string]string{"PATH": defaultPath}
	for _, kv := range f.ImageEnv {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			env[name] = value
		}
	}
	maps.Copy(env, f.Env)
	maps.Copy(env, map[string]string{
		"AWS_REGION":                      region,
		"AWS_DEFAULT_REGION":              region,
		"AWS_LAMBDA_RUNTIME_API":          sandbox.APIAddress,
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     f.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		"LAMBDA_TASK_ROOT":                "/var/task",
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
		"TZ":                              ":UTC",
	})
	delete(env, "_HANDLER")
	if command := f.command(); len(command) > 0 {
		env["_HANDLER"] = command[0]
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}
