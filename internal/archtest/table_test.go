// SPDX-License-Identifier: Apache-2.0

package archtest

// table is the architecture: one row a package. A reader can see from it that
// only format/seal imports ciphers, that of the rest only image/ingest and
// read/view import format/seal, and that store and read/tier see sealed bytes
// alone.
var table = map[string]rule{
	// The words.
	"": {},

	// What the bytes mean: pure, the root package alone.
	"format/chunk":    {local: []string{""}},
	"format/erofs":    {local: []string{""}},
	"format/manifest": {local: []string{""}},
	"format/seal":     {local: []string{""}, ciphers: true},
	"format/stripe":   {local: []string{""}, external: []string{"github.com/klauspost/reedsolomon"}},

	// The image path. Of it only ingest can hold a chunk's key.
	"image/flatten":           {local: []string{"", "format/erofs"}},
	"image/ingest":            {local: []string{"", "format/chunk", "format/erofs", "format/manifest", "format/seal", "image/flatten"}, external: []string{"github.com/klauspost/compress"}},
	"image/apart":             {local: []string{"", "image/ingest"}, external: []string{"golang.org/x/sys"}},
	"image/ingest/ingesttest": {local: []string{"", "format/chunk", "format/manifest", "format/seal", "image/ingest", "internal/testkit"}, external: []string{"golang.org/x/sys"}},
	"image/registry":          {local: []string{"", "internal/fair", "internal/quota", "internal/request", "internal/spool"}, external: []string{"github.com/google/go-containerregistry", "golang.org/x/sys"}},
	"image/registry/ecr":      {local: []string{"", "image/registry", "internal/fair", "internal/request"}, external: []string{"github.com/google/go-containerregistry"}},
	"image/source":            {local: []string{"", "image/ingest", "image/registry"}, external: []string{"github.com/google/go-containerregistry", "golang.org/x/sync"}},

	// The origin sees sealed bytes only.
	"store":           {local: []string{""}, external: []string{"golang.org/x/sys"}},
	"store/bucket":    {local: []string{"", "store"}, external: []string{"cloud.google.com/go/storage", "github.com/Azure/azure-sdk-for-go", "github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go", "gocloud.dev", "google.golang.org/api"}},
	"store/storetest": {local: []string{""}, external: []string{"golang.org/x/sync"}},

	// The read path. Of it only view can hold a chunk's key.
	"read":            {},
	"read/flight":     {local: []string{""}},
	"read/holder":     {local: []string{"", "read/mount", "read/proc"}, external: []string{"golang.org/x/sys"}},
	"read/keep":       {local: []string{"", "read/s3fifo"}},
	"read/latency":    {},
	"read/loader":     {local: []string{"", "internal/fair", "read/holder", "read/mount", "read/proc", "read/tier", "read/tier/l1", "read/tier/l2", "read/view", "read/workingset"}, external: []string{"golang.org/x/sync", "golang.org/x/sys"}},
	"read/mount":      {local: []string{"", "read/latency"}, external: []string{"golang.org/x/sys"}},
	"read/proc":       {local: []string{""}, external: []string{"golang.org/x/sys"}},
	"read/s3fifo":     {},
	"read/tier":       {local: []string{"", "read/flight", "read/latency"}},
	"read/tier/l1":    {local: []string{"", "read/s3fifo"}, external: []string{"golang.org/x/sys"}},
	"read/view":       {local: []string{"", "format/chunk", "format/manifest", "format/seal", "read/flight", "read/s3fifo", "read/workingset"}, external: []string{"github.com/pierrec/lz4/v4", "golang.org/x/sync"}},
	"read/workingset": {local: []string{""}, external: []string{"golang.org/x/sync"}},

	// The zone cache, and the suite of each cache.
	"read/tier/l2":           {local: []string{"", "format/stripe", "read/latency", "read/tier/l2/memcached", "read/tier/ring"}},
	"read/tier/l2/memcached": {local: []string{""}},
	"read/tier/ring":         {local: []string{""}},
	"read/tier/tiertest":     {local: []string{"", "read/tier"}},

	// The invoke path.
	"invoke":                           {},
	"invoke/api":                       {local: []string{"", "internal/request", "invoke/control", "tenant/sigv4"}},
	"invoke/control":                   {local: []string{"", "internal/fair", "internal/quota", "internal/sqlitedb", "invoke/program"}, external: []string{"github.com/google/uuid"}},
	"invoke/control/controltest":       {local: []string{"", "invoke/control"}},
	"invoke/logs":                      {local: []string{"", "internal/quota"}},
	"invoke/placement":                 {local: []string{""}},
	"invoke/program":                   {},
	"invoke/runtimeapi":                {local: []string{"", "internal/fair"}},
	"invoke/sandbox":                   {local: []string{""}},
	"invoke/sandbox/cgroup":            {local: []string{""}},
	"invoke/sandbox/jail":              {local: []string{"", "internal/ahead", "invoke/sandbox", "invoke/sandbox/cgroup", "invoke/sandbox/lookup", "invoke/sandbox/network", "invoke/sandbox/output", "invoke/sandbox/pid1", "invoke/sandbox/pid1/wire", "invoke/sandbox/seccomp", "invoke/sandbox/tmpdisk"}},
	"invoke/sandbox/lookup":            {local: []string{"", "internal/fair"}, external: []string{"golang.org/x/net/dns/dnsmessage"}},
	"invoke/sandbox/network":           {local: []string{""}, external: []string{"github.com/google/nftables", "github.com/vishvananda/netlink", "github.com/vishvananda/netns", "golang.org/x/sys"}},
	"invoke/sandbox/oci":               {local: []string{"", "internal/ahead", "internal/guard", "invoke/sandbox", "invoke/sandbox/cgroup", "invoke/sandbox/lookup", "invoke/sandbox/network", "invoke/sandbox/output", "invoke/sandbox/pid1", "invoke/sandbox/pid1/wire", "invoke/sandbox/seccomp", "invoke/sandbox/tmpdisk"}, external: []string{"github.com/opencontainers/runtime-spec", "golang.org/x/sys"}},
	"invoke/sandbox/output":            {local: []string{"internal/fair"}, external: []string{"golang.org/x/sys"}},
	"invoke/sandbox/pid1":              {local: []string{"", "internal/guard", "invoke/sandbox", "invoke/sandbox/cgroup", "invoke/sandbox/lookup", "invoke/sandbox/output", "invoke/sandbox/pid1/wire", "invoke/sandbox/tmpdisk"}, external: []string{"golang.org/x/sys"}},
	"invoke/sandbox/pid1/init":         {local: []string{"invoke/sandbox/pid1/wire"}, external: []string{"golang.org/x/sys"}},
	"invoke/sandbox/pid1/wire":         {},
	"invoke/sandbox/sandboxtest":       {local: []string{"", "internal/guard", "internal/testkit", "invoke/sandbox", "invoke/sandbox/tmpdisk"}, external: []string{"golang.org/x/sys"}},
	"invoke/sandbox/sandboxtest/probe": {external: []string{"golang.org/x/sys"}},
	"invoke/sandbox/seccomp":           {local: []string{""}, external: []string{"github.com/elastic/go-seccomp-bpf", "github.com/moby/profiles", "github.com/opencontainers/runtime-spec", "golang.org/x/sys"}},
	"invoke/sandbox/tmpdisk":           {local: []string{"", "internal/ahead", "invoke/sandbox"}, external: []string{"golang.org/x/sys"}},
	"invoke/worker":                    {local: []string{"", "internal/fair", "invoke/logs", "invoke/program", "invoke/runtimeapi", "invoke/sandbox"}},

	// Accounts and keys.
	"tenant":       {local: []string{"", "internal/sqlitedb"}},
	"tenant/keys":  {local: []string{""}, external: []string{"github.com/tink-crypto/tink-go", "golang.org/x/sys"}},
	"tenant/sigv4": {local: []string{"", "internal/spool"}},

	// What several share, and what tests share.
	"internal/chunkmap":      {external: []string{"golang.org/x/image"}},
	"internal/debimage":      {local: []string{""}, external: []string{"github.com/klauspost/compress"}},
	"internal/ahead":         {},
	"internal/door":          {local: []string{"", "internal/fair"}},
	"internal/fair":          {local: []string{""}},
	"internal/quota":         {},
	"internal/guard":         {local: []string{""}, external: []string{"github.com/elastic/go-seccomp-bpf", "golang.org/x/net/bpf", "golang.org/x/sys"}},
	"internal/dnstest":       {external: []string{"golang.org/x/net/dns/dnsmessage"}},
	"e2e/stranger":           {},
	"internal/livetest":      {external: []string{"github.com/aws/aws-sdk-go-v2"}},
	"internal/memcachedtest": {},
	"internal/s3test":        {local: []string{"internal/testkit"}},
	"internal/otlp":          {local: []string{"", "internal/trace"}, external: []string{"go.opentelemetry.io/otel", "go.opentelemetry.io/proto", "google.golang.org/protobuf"}},
	"internal/trace":         {external: []string{"github.com/dustin/go-humanize"}},
	"internal/spool":         {local: []string{"", "internal/fair"}},
	"internal/request":       {external: []string{"github.com/google/uuid"}},
	"internal/sqlitedb":      {local: []string{""}, external: []string{"modernc.org/sqlite"}},
	"internal/testkit":       {external: []string{"github.com/klauspost/compress"}},

	// The only place that wires.
	"cmd/thaw": {local: []string{"", "format/manifest", "image/apart", "image/ingest", "image/registry", "image/registry/ecr", "image/source", "internal/chunkmap", "internal/door", "internal/fair", "internal/guard", "internal/otlp", "internal/quota", "internal/request", "internal/spool", "internal/sqlitedb", "internal/trace", "invoke/api", "invoke/control", "invoke/logs", "invoke/sandbox", "invoke/sandbox/jail", "invoke/sandbox/lookup", "invoke/sandbox/network", "invoke/sandbox/oci", "invoke/sandbox/tmpdisk", "invoke/worker", "read/holder", "read/keep", "read/latency", "read/loader", "read/proc", "read/tier", "read/tier/l1", "read/tier/l2", "read/workingset", "store", "store/bucket", "tenant", "tenant/keys", "tenant/sigv4"}, external: []string{"github.com/alecthomas/kong", "github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go", "github.com/dustin/go-humanize", "github.com/google/go-containerregistry", "github.com/mattn/go-isatty", "github.com/prometheus/client_golang", "github.com/vbauerster/mpb", "golang.org/x/sync", "golang.org/x/sys", "golang.org/x/term"}},
}
