// SPDX-License-Identifier: Apache-2.0

// Package measure holds what the benchmarks share: samples and their
// quantiles, a table, and a server with functions to measure.
package measure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/read/tier"
)

// Samples are measured durations.
type Samples []time.Duration

// Quantile returns the q-quantile, 0 to 1, by the nearest rank.
func (s Samples) Quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// String gives the usual quantiles in milliseconds.
func (s Samples) String() string {
	return fmt.Sprintf("min %7.2f  p50 %7.2f  p95 %7.2f ms (n=%d)", ms(s.Quantile(0)), ms(s.Quantile(0.5)), ms(s.Quantile(0.95)), len(s))
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// Ratio prints two ratios of samples, a to b.
func Ratio(w io.Writer, what string, a, b Samples) {
	fmt.Fprintf(w, "%-44s p50 %.2f  p95 %.2f\n", what,
		float64(a.Quantile(0.5))/float64(b.Quantile(0.5)), float64(a.Quantile(0.95))/float64(b.Quantile(0.95)))
}

// Share prints how fast a is in shares of b's speed: the inverse of [Ratio].
func Share(what string, a, b Samples) {
	fmt.Printf("%-44s p50 %.2f\n", what, float64(b.Quantile(0.5))/float64(a.Quantile(0.5)))
}

// Bench is a running server and where its images come from.
type Bench struct {
	*livetest.Server
	Lambda *lambda.Client
	Dir    string // a temporary folder
	creds  livetest.Credentials

	created int // functions, each of an image of its own
}

// Open starts a server on a temporary folder. Close it.
func Open(ctx context.Context, flags ...string) (*Bench, error) {
	dir, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return nil, err
	}
	server, err := livetest.Start(ctx, filepath.Join(dir, "data"), flags...)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	creds, err := server.Credentials(ctx, "default")
	return &Bench{Server: server, Lambda: server.Lambda(creds), Dir: dir, creds: creds}, err
}

// As is a bench of a server that runs already, for a tenant of it. Its folder is
// the caller's; it need not be closed.
func As(server *livetest.Server, creds livetest.Credentials, dir string) *Bench {
	return &Bench{Server: server, Lambda: server.Lambda(creds), Dir: dir, creds: creds}
}

// Close stops the server and removes its folder.
func (b *Bench) Close() {
	if err := b.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	_ = os.RemoveAll(b.Dir)
}

// Restart ends the server and starts it again.
func (b *Bench) Restart(ctx context.Context) error {
	if err := b.Stop(); err != nil {
		return err
	}
	return b.Run(ctx)
}

// Images builds images into a layout of the bench, and returns its folder.
func (b *Bench) Images(ctx context.Context, store string, names ...string) (string, error) {
	return BuildImages(ctx, b.Dir, store, names...)
}

// BuildImages builds images with bench/images into a layout below dir, and
// returns its folder. What it built there before it takes as it is. The packages
// that images are made of are kept in THAW_CACHE, or .cache in the project's
// root.
func BuildImages(ctx context.Context, dir, store string, names ...string) (string, error) {
	root, err := livetest.Root()
	if err != nil {
		return "", err
	}
	cache := cmp.Or(os.Getenv("THAW_CACHE"), filepath.Join(root, ".cache"))
	layout := filepath.Join(dir, "oci-"+store+strings.ReplaceAll(names[0], ":", "-"))
	if built(layout, names) {
		return layout, nil
	}
	args := append([]string{"run", "./bench/images", "-o", layout, "-cache", filepath.Join(cache, "debs"), "-store", store}, names...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	return layout, cmd.Run()
}

// built reports whether a layout holds all of the images.
func built(layout string, names []string) bool {
	for _, name := range names {
		if _, err := Image(layout, name); err != nil {
			return false
		}
	}
	return true
}

// Create pushes an image of the layout and makes a function of it; it returns
// when the function is active.
func (b *Bench) Create(ctx context.Context, layout, tag, function string) error {
	if err := b.Push(ctx, layout, tag); err != nil {
		return err
	}
	return b.CreatePushed(ctx, tag, function)
}

func (b *Bench) reference(tag string) string {
	return fmt.Sprintf("%s/%s:v1", b.Registry(), strings.ReplaceAll(strings.ToLower(tag), ":", "-"))
}

// Push pushes an image of the layout.
func (b *Bench) Push(ctx context.Context, layout, tag string) error {
	push := exec.CommandContext(ctx, "skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false",
		"--dest-creds", b.creds.AccessKey+":"+b.creds.Secret, "oci:"+layout+":"+tag, "docker://"+b.reference(tag))
	if out, err := push.CombinedOutput(); err != nil {
		return fmt.Errorf("push %s: %w: %s", tag, err, out)
	}
	return nil
}

// CreatePushed makes a function of an image that was pushed; it returns when
// the function is active.
func (b *Bench) CreatePushed(ctx context.Context, tag, function string) error {
	ref := b.reference(tag)
	_, err := b.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &function, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &ref},
		Role: aws.String("arn:aws:iam::000000000000:role/bench"), MemorySize: aws.Int32(MemoryMB), Timeout: aws.Int32(60),
	})
	if err != nil {
		return err
	}
	b.created++
	return lambda.NewFunctionActiveV2Waiter(b.Lambda, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay = 20 * time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &function}, 10*time.Minute)
}

// MemoryMB gives functions two processors' worth of time (1,769 MB is one), as
// a peer on this machine has it.
const MemoryMB = 2 * 1769

// ErrWarm is of an invocation that met a sandbox.
var ErrWarm = errors.New("not a cold start")

// ColdInvoke calls a function whose start is cold and returns how long it took
// until the runtime asked for the invocation: the whole less what the function
// took to answer, as its REPORT line says.
func (b *Bench) ColdInvoke(ctx context.Context, function string) (time.Duration, error) {
	start := time.Now()
	out, err := b.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &function, Payload: []byte(`{"name":"bench"}`), LogType: types.LogTypeTail})
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	if out.FunctionError != nil {
		return 0, fmt.Errorf("%s: %s: %s", function, *out.FunctionError, out.Payload)
	}
	tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		return 0, err
	}
	_, report, ok := strings.Cut(string(tail), "\tDuration: ")
	if !ok {
		return 0, fmt.Errorf("%s: no REPORT line: %s", function, tail)
	}
	if !strings.Contains(report, "Init Duration") {
		return 0, fmt.Errorf("%s: %w: %s", function, ErrWarm, tail)
	}
	text, _, _ := strings.Cut(report, " ms")
	handler, err := strconv.ParseFloat(text, 64)
	return took - time.Duration(handler*float64(time.Millisecond)), err
}

// Invoke calls a function and returns how long its answer took.
func (b *Bench) Invoke(ctx context.Context, function string) (time.Duration, error) {
	start := time.Now()
	out, err := b.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &function, Payload: []byte(`{"name":"bench"}`)})
	took := time.Since(start)
	if err == nil && out.FunctionError != nil {
		err = fmt.Errorf("%s: %s: %s", function, *out.FunctionError, out.Payload)
	}
	return took, err
}

// Fresh gives up the warm sandboxes of a function, so that its next invocation
// is a cold start: a change of configuration does that, as in Lambda.
func (b *Bench) Fresh(ctx context.Context, function string) error {
	_, err := b.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &function, Description: aws.String(time.Now().Format(time.RFC3339Nano)),
	})
	if err != nil {
		return err
	}
	// The old sandboxes end apart from the request; a start must not share the
	// processor with their end.
	time.Sleep(300 * time.Millisecond)
	return nil
}

// DropL1 empties the worker's cache and the kernel's caches of idle images.
func (b *Bench) DropL1(ctx context.Context) error {
	_, err := b.Thaw(ctx, "cache", "drop", "l1")
	return err
}

// Packed waits until what starts have read of every image so far is packed for
// the next. Each must have been started.
func (b *Bench) Packed(ctx context.Context) error {
	objects := filepath.Join(b.Data, "origin", "objects")
	for ctx.Err() == nil {
		time.Sleep(time.Second) // also lets the record follow its pack
		packs, err := filepath.Glob(filepath.Join(objects, "pack", "*"))
		if err != nil {
			return err
		}
		sets, err := filepath.Glob(filepath.Join(objects, "workingset", "*"))
		if err != nil {
			return err
		}
		if len(packs) == b.created && len(sets) == b.created {
			return nil
		}
	}
	return ctx.Err()
}

// Tier is what thaw cache stats tells of a tier.
type Tier struct {
	Name     string `json:"name"`
	Requests int64  `json:"requests"`
	Hits     int64  `json:"hits"`
	Bytes    int64  `json:"bytes"`

	StoredChunks int64 `json:"storedChunks"` // held now, of L1
	MadeChunks   int64 `json:"madeChunks"`   // by this worker, of L1's disk
}

// Tiers is what thaw cache stats tells, by the tiers' names.
func (b *Bench) Tiers(ctx context.Context) (map[string]Tier, error) {
	var tiers []Tier
	if err := b.ThawJSON(ctx, &tiers, "cache", "stats"); err != nil {
		return nil, err
	}
	byName := map[string]Tier{}
	for _, t := range tiers {
		byName[t.Name] = t
	}
	if _, ok := byName[tier.OriginName]; !ok {
		return nil, fmt.Errorf("thaw cache stats names no origin: %+v", tiers)
	}
	return byName, nil
}

// OriginBytes is what the origin has served since the start.
func (b *Bench) OriginBytes(ctx context.Context) (int64, error) {
	tiers, err := b.Tiers(ctx)
	return tiers[tier.OriginName].Bytes, err
}

// SHA256 is the hexadecimal hash of a payload, for signing.
func SHA256(payload string) string {
	sum := sha256.Sum256([]byte(payload))
	return hex.EncodeToString(sum[:])
}
