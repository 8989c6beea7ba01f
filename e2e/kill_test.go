// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const (
	// seedEnv repeats a run of [TestKillMinusNine].
	seedEnv = "THAW_E2E_SEED"

	killRounds = 52 // the same number of each kind of work
)

// killWorld is a server that is killed again and again, and what it has
// acknowledged: nothing of it may ever be missing.
type killWorld struct {
	*world
	random *rand.Rand
	base   v1.Image

	mu        sync.Mutex // work may outlive the server that it was given to
	pushed    map[string]v1.Hash
	created   map[string]bool // functions, acknowledged by CreateFunction
	attempted map[string]bool // and those that it was asked for
}

// TestKillMinusNine kills the server at random moments of pushes, ingests,
// cold starts and warm invocations. After each restart whatever it had
// acknowledged is there and answers, whatever is visible is whole, and at the
// end no mount, process, control group or namespace is left.
func TestKillMinusNine(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d repeats the moments of this run", seedEnv, seed)
	w := &killWorld{world: newWorld(t, "--pool", "2"), random: rand.New(rand.NewPCG(seed, 1)),
		pushed: map[string]v1.Hash{}, created: map[string]bool{}, attempted: map[string]bool{}}
	ctx := t.Context()
	w.base = builtImage(t, "go-hello:1")
	w.create(ctx, "keep", w.push("go-hello:1", "keep:v1"))
	w.created["keep"] = true
	census := newCensus(t, w.Data)

	kinds := []func(context.Context, int) error{w.workPush, w.workIngest, w.workCold, w.workInvoke}
	// Work takes about so long, so that the moments fall all over it.
	spans := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 150 * time.Millisecond, 50 * time.Millisecond}
	rounds, cut := killRounds, 0
	if testing.Short() {
		rounds = 2 * len(kinds)
	}
	for round := range rounds {
		kind := round % len(kinds)
		if err := w.prepare(ctx, kind, round); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		ended := make(chan error, 1)
		go func() { ended <- kinds[kind](ctx, round) }()
		time.Sleep(time.Duration(w.random.Int64N(int64(spans[kind]))))
		census.note()
		if err := w.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			cut++
		}
		if err := w.Run(ctx); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := w.check(ctx, round); err != nil {
			t.Fatalf("round %d (kind %d): %v", round, kind, err)
		}
	}
	t.Logf("%d of %d kills cut work off; %d pushes and %d functions were acknowledged", cut, rounds, len(w.pushed), len(w.created))
	if cut < rounds/4 {
		t.Errorf("only %d of %d kills cut work off", cut, rounds)
	}
	if err := w.checkAll(ctx); err != nil {
		t.Error(err)
	}
	census.note()
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
	census.check()
	if err := w.Run(ctx); err != nil { // for the world's own end
		t.Fatal(err)
	}
}

// builtImage is one of the images that were built for the tests.
func builtImage(t *testing.T, tag string) v1.Image {
	t.Helper()
	dir, err := images(tag)
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range imagesIn(t, dir) {
		if name == tag {
			return img
		}
	}
	t.Fatalf("there is no image %s", tag)
	return nil
}

// imagesIn returns the images of a layout by their tags.
func imagesIn(t *testing.T, dir string) map[string]v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]v1.Image{}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		found[d.Annotations["org.opencontainers.image.ref.name"]] = img
	}
	return found
}

// reference is a name in the server's registry, and how to get at it.
func (w *world) reference(repository string) (name.Reference, []remote.Option) {
	ref, err := name.ParseReference(w.Registry()+"/"+repository, name.Insecure)
	if err != nil {
		w.t.Fatal(err) // only the test's own mistake
	}
	return ref, []remote.Option{
		remote.WithAuth(&authn.Basic{Username: w.creds.AccessKey, Password: w.creds.Secret}),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
}

// fresh is the function's image with a layer that nothing else has.
func (w *killWorld) fresh(bytes int64) (v1.Image, error) {
	layer, err := random.Layer(bytes, ocitypes.OCILayer, random.WithSource(seeded(w.random.Int64())))
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(w.base, layer)
}

// prepare does what has to be there before the work of a round.
func (w *killWorld) prepare(ctx context.Context, kind, round int) error {
	switch kind {
	case 1: // an image to ingest
		return w.pushFresh(ctx, fmt.Sprintf("ingest%d:v1", round), 8<<20)
	case 2: // no sandbox that could be reused
		_, err := w.Lambda(w.creds).UpdateFunctionConfiguration(ctx, describe("keep", round))
		return err
	case 3: // one that can
		_, err := w.Lambda(w.creds).Invoke(ctx, invocation("keep"))
		return err
	}
	return nil
}

func (w *killWorld) pushFresh(ctx context.Context, repository string, bytes int64) error {
	img, err := w.fresh(bytes)
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	ref, options := w.reference(repository)
	if err := remote.Write(ref, img, append(options, remote.WithContext(ctx))...); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushed[repository] = digest
	return nil
}

// workPush pushes images until the server is gone.
func (w *killWorld) workPush(ctx context.Context, round int) error {
	for i := range 100 {
		if err := w.pushFresh(ctx, fmt.Sprintf("push%d:v%d", round, i), 2<<20); err != nil {
			return err
		}
	}
	return nil
}

// workIngest creates a function of a fresh image and waits for its ingest.
func (w *killWorld) workIngest(ctx context.Context, round int) error {
	function := fmt.Sprint("ingest", round)
	client := w.Lambda(w.creds)
	w.mu.Lock()
	w.attempted[function] = true
	w.mu.Unlock()
	_, err := client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &function, PackageType: types.PackageTypeImage, Timeout: aws.Int32(30),
		Code: &types.FunctionCode{ImageUri: aws.String(w.Registry() + "/" + function + ":v1")},
		Role: aws.String("arn:aws:iam::000000000000:role/test"),
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.created[function] = true
	w.mu.Unlock()
	return w.waitActive(ctx, client, function)
}

// workCold invokes a function that has no sandbox.
func (w *killWorld) workCold(ctx context.Context, _ int) error {
	_, err := w.Lambda(w.creds).Invoke(ctx, invocation("keep"))
	return err
}

// workInvoke invokes on several connections until the server is gone.
func (w *killWorld) workInvoke(ctx context.Context, _ int) error {
	client := w.Lambda(w.creds)
	failed := make(chan error, 3)
	for range cap(failed) {
		go func() {
			for {
				if _, err := client.Invoke(ctx, invocation("keep")); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	var errs []error
	for range cap(failed) {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

// check looks at what one round could have harmed, and at something older.
func (w *killWorld) check(ctx context.Context, round int) error {
	functions := []string{"keep"}
	if name := fmt.Sprint("ingest", round); w.created[name] || w.attempted[name] {
		functions = append(functions, name)
	}
	if old := slices.Sorted(maps.Keys(w.created)); len(old) > 0 {
		functions = append(functions, old[w.random.IntN(len(old))])
	}
	for _, function := range functions {
		if err := w.answers(ctx, function); err != nil {
			return err
		}
	}
	if err := w.wholeTags(ctx, fmt.Sprint("push", round)); err != nil {
		return err
	}
	if old := slices.Sorted(maps.Keys(w.pushed)); len(old) > 0 {
		return w.whole(ctx, old[w.random.IntN(len(old))])
	}
	return nil
}

// checkAll looks at everything that was ever acknowledged, and that nothing
// is listed that nobody asked for.
func (w *killWorld) checkAll(ctx context.Context) error {
	for repository := range w.pushed {
		if err := w.whole(ctx, repository); err != nil {
			return err
		}
	}
	for function := range w.created {
		if err := w.answers(ctx, function); err != nil {
			return err
		}
	}
	pages := lambda.NewListFunctionsPaginator(w.Lambda(w.creds), &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, f := range page.Functions {
			if name := aws.ToString(f.FunctionName); !w.created[name] && !w.attempted[name] {
				return fmt.Errorf("function %s is listed and was never asked for", name)
			}
		}
	}
	return nil
}

// answers reports whether a function is there and answers. One that was asked
// for and not acknowledged may be missing, but not be half there.
func (w *killWorld) answers(ctx context.Context, function string) error {
	client := w.Lambda(w.creds)
	_, err := client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &function})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing && !w.created[function] {
		return nil
	}
	if err != nil {
		return fmt.Errorf("function %s: %w", function, err)
	}
	if err := w.waitActive(ctx, client, function); err != nil {
		return fmt.Errorf("function %s: %w", function, err)
	}
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &function, Payload: []byte(`{"name":"after"}`)})
	if err != nil || out.FunctionError != nil || !strings.Contains(string(out.Payload), "hello after") {
		return fmt.Errorf("function %s answered %+v, error %w", function, out, err)
	}
	return nil
}

// whole reports whether an acknowledged image can be pulled, all of its bytes
// right.
func (w *killWorld) whole(ctx context.Context, repository string) error {
	ref, options := w.reference(repository)
	img, err := remote.Image(ref, append(options, remote.WithContext(ctx))...)
	if err != nil {
		return fmt.Errorf("image %s: %w", repository, err)
	}
	if want, ok := w.pushed[repository]; ok {
		if got, err := img.Digest(); err != nil || got != want {
			return fmt.Errorf("image %s is %s, pushed was %s (error %w)", repository, got, want, err)
		}
	}
	return validate.Image(img)
}

// wholeTags pulls every tag of a repository; all that were acknowledged must
// be among them.
func (w *killWorld) wholeTags(ctx context.Context, repository string) error {
	ref, options := w.reference(repository)
	tags, err := remote.List(ref.Context(), append(options, remote.WithContext(ctx))...)
	if e, ok := errors.AsType[*transport.Error](err); ok && e.StatusCode == 404 {
		tags, err = nil, nil
	}
	if err != nil {
		return err
	}
	for pushed := range w.pushed {
		if tag, ok := strings.CutPrefix(pushed, repository+":"); ok && !slices.Contains(tags, tag) {
			return fmt.Errorf("image %s was acknowledged and is not listed", pushed)
		}
	}
	for _, tag := range tags {
		if err := w.whole(ctx, repository+":"+tag); err != nil {
			return err
		}
	}
	return nil
}
