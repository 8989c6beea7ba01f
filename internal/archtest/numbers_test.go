// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// number is a number that a document tells and the code decides.
type number struct {
	doc    string
	phrase string // as in the document, # for the number
	file   string
	code   string // a regular expression whose group is the Go expression
	format func(int64) string
}

// numbers are the bounds and times that the documents promise. Figures that a
// benchmark measured are not among them.
var numbers = []number{
	{"docs/invoke-path.md", "After `FreezeAfter` (# ms)", "invoke/worker/config.go", `FreezeAfter:\s+(.+),`, millis},
	{"docs/invoke-path.md", "after `IdleTimeout` (# minutes)", "invoke/worker/config.go", `IdleTimeout:\s+([^,]+),`, minutes},
	{"docs/invoke-path.md", "at most `FinishWait` (# ms)", "invoke/worker/config.go", `FinishWait:\s+(.+),`, millis},
	{"docs/invoke-path.md", "Init has # s.", "invoke/worker/config.go", `InitTimeout:\s+([^,]+),`, seconds},
	{"docs/invoke-path.md", "answer larger than # MB", "invoke/runtimeapi/runtimeapi.go", `MaxPayloadBytes = (.+)`, mib},
	{"docs/invoke-path.md", "at most # connections", "invoke/runtimeapi/serve.go", `maxConns = (.+)`, count},
	{"docs/invoke-path.md", "more than # KiB, at most", "invoke/runtimeapi/conn.go", `smallHeaderBytes = (.+)`, kib},
	{"docs/invoke-path.md", "at most # KiB, has", "invoke/runtimeapi/conn.go", `maxHeaderBytes = (.+)`, kib},
	{"docs/invoke-path.md", "KiB, has # s", "invoke/runtimeapi/pace.go", `refusedTime = (.+)`, seconds},
	{"docs/invoke-path.md", "paced: # requests and connections at once", "invoke/runtimeapi/pace.go", `tokensMost\s+= (.+)`, count},
	{"docs/invoke-path.md", "at once, # a second in the long run, and each", "invoke/runtimeapi/pace.go", `tokensPerSecond = (.+)`, count},
	{"docs/invoke-path.md", "# KiB of a refused body", "invoke/runtimeapi/pace.go", `tokenBytes = (.+)`, kib},
	{"docs/invoke-path.md", "A body of more than # MiB", "invoke/runtimeapi/pace.go", `freeBytes = (.+)`, mib},
	{"docs/threat-model.md", "that runtimes send, # MiB in all", "invoke/runtimeapi/pace.go", `MaxHeldBytes = (.+)`, mib},
	{"docs/invoke-path.md", "It is read at # MiB a second", "invoke/sandbox/output/output.go", `paceBytes\s+= (.+)`, mib},
	{"docs/invoke-path.md", "in the long run, # MiB at once; who", "invoke/sandbox/output/output.go", `paceMost\s+= (.+)`, mib},
	{"docs/invoke-path.md", "Linux passes # KiB in one string", "invoke/program/limits.go", `MaxStringBytes = (.+) - 1`, kib},
	{"docs/invoke-path.md", "and # MiB of arguments and variables together", "invoke/sandbox/pid1/init/launch.go", `stackBytes = (.+)`, func(n int64) string { return mib(n / 4) }},
	{"docs/invoke-path.md", "less # KiB for what others add", "invoke/program/limits.go", `ownBytes = (.+)`, kib},
	{"docs/invoke-path.md", "A line has at most # KiB", "invoke/logs/store.go", `LineBytes:\s+(.+),`, kib},
	{"docs/invoke-path.md", "prints # MiB at once", "invoke/logs/store.go", `BurstBytes:\s+(.+),`, mib},
	{"docs/invoke-path.md", "and # MiB a second in the long run", "invoke/logs/store.go", `BytesPerSecond:\s+(.+),`, mib},
	{"docs/invoke-path.md", "keeps # MiB", "invoke/logs/store.go", `FunctionBytes:\s+(.+),`, mib},
	{"docs/invoke-path.md", "at most # files", "invoke/logs/store.go", `FunctionFiles:\s+(.+),`, count},
	{"docs/invoke-path.md", "files of # MiB at most", "invoke/logs/store.go", `FileBytes:\s+(.+),`, mib},
	{"docs/invoke-path.md", "A file is at most # ms behind", "invoke/logs/writer.go", `flushDelay = (.+)`, millis},
	{"docs/cli.md", "Print the end of the log (# KB)", "invoke/logs/writer.go", `TailBytes = (.+)`, kib},
	{"docs/cli.md", "the last # cold starts", "cmd/thaw/traces.go", `keptTraces = (.+)`, count},
	{"docs/cli.md", "Memory in MB (or 1G), 128 to #;", "invoke/control/validate.go", `maxMemoryMB\s+= (.+)`, plain},
	{"docs/cli.md", "Time limit of an invocation, 1s to #m", "invoke/control/validate.go", `maxTimeout\s+= (.+)`, func(n int64) string { return plain(n / 60) }},
	{"docs/observability.md", "The server keeps the last # cold starts", "cmd/thaw/traces.go", `keptTraces = (.+)`, count},

	{"docs/image-path.md", "**Large files** (# KiB and more)", "thaw.go", `MaxChunkBytes = (.+)`, kib},
	{"ARCHITECTURE.md", "every # KiB; its chunks", "thaw.go", `MaxChunkBytes = (.+)`, kib},
	{"SPECIFICATION.md", "layers of up to # GiB uncompressed", "thaw.go", `MaxImageBytes\s+=\s+(.+)`, func(n int64) string { return mib(n >> 10) }},
	{"docs/image-path.md", "up to # MiB of them in memory", "image/ingest/ingest.go", `DefaultHoldBytes = (.+)`, mib},
	{"docs/image-path.md", "then up to # GiB in a temporary file", "image/ingest/ingest.go", `DefaultTempBytes = (.+)`, func(n int64) string { return mib(n >> 10) }},
	{"docs/registry.md", "| a blob | # MiB |", "image/registry/registry.go", `DefaultMaxBlobBytes = (.+)`, mib},
	{"docs/registry.md", "| a manifest | # MiB |", "image/registry/registry.go", `MaxManifestBytes = (.+)`, mib},
	{"docs/registry.md", "| a page of a listing | # entries |", "image/registry/handler.go", `maxPage = (.+)`, count},
	{"docs/registry.md", "| uploads under way, of an account | # |", "image/registry/quotas.go", `Uploads:\s+(.+),`, count},
	{"docs/registry.md", "| repositories of an account | # |", "image/registry/quotas.go", `Repositories:\s+(.+),`, count},
	{"docs/registry.md", "| images (manifests) of a repository | # |", "image/registry/quotas.go", `Images:\s+(.+),`, count},
	{"docs/registry.md", "| tags of a repository | # |", "image/registry/quotas.go", `Tags:\s+(.+),`, count},
	{"docs/registry.md", "file counts # KiB besides", "image/registry/quotas.go", `fileBytes = (.+)`, kib},
	{"docs/invoke-path.md", "A tenant keeps # GiB", "invoke/logs/store.go", `TenantBytes:\s+(.+),`, func(n int64) string { return mib(n >> 10) }},
	{"docs/registry.md", "| rest between two requests of an upload | # h |", "image/registry/store.go", `StaleAfter:\s+(.+),`, hours},
	{"docs/registry.md", "a token, good for # hours", "image/registry/token.go", `TokenTTL = (.+)`, hours},
	{"docs/registry.md", "up to # bytes; tags", "image/registry/registry.go", `maxNameBytes = (.+)`, count},
	{"docs/registry.md", "holds a buffer of # KiB", "image/registry/upload.go", `copyBytes = (.+)`, kib},
	{"docs/registry.md", "more than # layers", "image/source/source.go", `MaxLayers = (.+)`, count},

	{"docs/cache.md", "looked up every # seconds", "read/tier/l2/discover.go", `lookupEvery = (.+)`, seconds},
	{"docs/cache.md", "without an answer within # ms", "read/tier/l2/l2.go", `&o\.Timeout, (.+)\)`, millis},
	{"docs/cache.md", "take more than # ms on average", "read/tier/l2/l2.go", `&o\.SlowAfter, (.+)\)`, millis},
	{"docs/cache.md", "then after up to #,", "read/tier/l2/breaker.go", `maxPause = (.+)`, seconds},
	{"docs/cache.md", "from a queue of # MiB", "read/tier/l2/l2.go", `&o\.QueueBytes, (.+)\)`, mib},
	{"docs/cache.md", "--l1-disk # ", "cmd/thaw/serve.go", `name:"l1-disk".* default:"(.+?)"`, plain},
	{"docs/cache.md", "--l1-memory # ", "cmd/thaw/serve.go", `name:"l1-memory".* default:"(.+?)"`, plain},
	{"docs/origin.md", "must be over in # s", "store/bucket/bucket.go", `o\.RequestTimeout, (.+)\)`, seconds},
	{"docs/origin.md", "within # s of the first try", "store/bucket/bucket.go", `o\.RetryFor, (.+)\)`, seconds},
	{"docs/origin.md", "again after 0 to # ms", "store/bucket/bucket.go", `o\.Backoff, (.+)\)`, func(n int64) string { return millis(2 * n) }},
	{"docs/origin.md", "and so on to # s", "store/bucket/request.go", `maxBackoff = (.+)`, func(n int64) string { return seconds(2 * n) }},
	{"docs/origin.md", "# retries for all requests", "store/bucket/bucket.go", `o\.RetryBudget, (.+)\)`, count},
	{"docs/origin.md", "`--origin-concurrency N` (#)", "store/bucket/bucket.go", `DefaultConcurrency = (.+)`, count},

	{"docs/lambda-api.md", "`Timeout` (1 to # s, 3)", "invoke/control/validate.go", `maxTimeout\s+= (.+)`, count},
	{"docs/lambda-api.md", "`MemorySize` (128 to # MB, 128)", "invoke/control/validate.go", `maxMemoryMB\s+= (.+)`, count},
	{"docs/lambda-api.md", "`EphemeralStorage` (512 to # MB, 512)", "invoke/control/validate.go", `maxEphemeralMB\s+= (.+)`, count},
	{"docs/lambda-api.md", "# KB as JSON", "invoke/control/validate.go", `maxEnvironment\s+= (.+)`, kib},
	{"docs/lambda-api.md", "| `Tags` | # at most |", "invoke/control/validate.go", `maxTags\s+= (.+)`, count},
	{"docs/lambda-api.md", "JSON in UTF-8 of at most # MiB", "invoke/api/invoke.go", `maxPayload = (.+)`, mib},
	{"docs/lambda-api.md", "JSON in base64, # bytes at most", "invoke/api/invoke.go", `maxClientContext = (.+)`, count},
	{"docs/sandbox.md", "# processes and threads", "invoke/sandbox/sandbox.go", `DefaultPids\s+= (.+)`, count},
	{"docs/sandbox.md", "# open files", "invoke/sandbox/sandbox.go", `DefaultFiles\s+= (.+)`, count},
	{"docs/sandbox.md", "(# MB is one CPU)", "invoke/sandbox/sandbox.go", `MemoryBytesPerCPU = (.+)`, mib},
	{"docs/sandbox.md", "runs as user #, group 990", "thaw.go", `UserID   = (.+)`, count},
	{"CONTRIBUTING.md", "A function up to # lines", "internal/archtest/size_test.go", `maxFunctionLines = (.+)`, count},
	{"CONTRIBUTING.md", "a file up to # lines of code", "internal/archtest/size_test.go", `maxFileLines\s+= (.+)`, count},
	{"SPECIFICATION.md", "a read that takes longer than # s fails with EIO", "read/mount/server.go", `DefaultTimeout = (.+)`, seconds},
}

func plain(n int64) string   { return strconv.FormatInt(n, 10) }
func kib(n int64) string     { return count(n >> 10) }
func mib(n int64) string     { return count(n >> 20) }
func millis(n int64) string  { return count(n / 1e6) }
func seconds(n int64) string { return count(n / 1e9) }
func minutes(n int64) string { return count(n / 60e9) }
func hours(n int64) string   { return count(n / 3600e9) }

// count writes a number as the documents do: 52,000.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// units are the durations that a Go expression may name.
var units = strings.NewReplacer("time.Hour", "3600000000000", "time.Minute", "60000000000", "time.Second", "1000000000", "time.Millisecond", "1000000")

// TestDocumentsTellTheNumbersOfTheCode reads each number from the code and
// looks for it in the document.
func TestDocumentsTellTheNumbersOfTheCode(t *testing.T) {
	for _, n := range numbers {
		m := regexp.MustCompile(n.code).FindStringSubmatch(read(t, n.file))
		if m == nil {
			t.Errorf("%s has no %s", n.file, n.code)
			continue
		}
		expression, _, _ := strings.Cut(m[1], "//")
		value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, units.Replace(strings.TrimSpace(expression)))
		if err != nil {
			t.Errorf("%s: %q: %v", n.file, m[1], err)
			continue
		}
		bytes, _ := constant.Int64Val(constant.ToInt(value.Value))
		want := strings.ReplaceAll(n.phrase, "#", n.format(bytes))
		if text := strings.Join(strings.Fields(read(t, n.doc)), " "); !strings.Contains(text, strings.TrimSpace(want)) {
			t.Errorf("%s does not say %q, which %s says", n.doc, want, n.file)
		}
	}
}
