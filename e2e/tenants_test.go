// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"thaw.dev/thaw/internal/livetest"
)

// TestTenants has a second tenant try everything with what the first one has.
func TestTenants(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	ref := w.push("go-hello:1", "team/app:v1")
	client := w.create(ctx, "f", ref)
	config, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
	if err != nil {
		t.Fatal(err)
	}
	bob := w.tenant("other")
	other := bob.creds

	t.Run("functions", func(t *testing.T) { bob.noFunction(t, *config.FunctionArn) })
	t.Run("repositories", func(t *testing.T) { bob.noRepository(t, w.creds) })
	t.Run("mixed keys", func(t *testing.T) {
		for _, mixed := range []livetest.Credentials{
			{AccessKey: other.AccessKey, Secret: w.creds.Secret}, {AccessKey: w.creds.AccessKey, Secret: other.Secret}, {AccessKey: w.creds.AccessKey, Secret: "guessed"},
		} {
			w.refused(t, mixed)
		}
	})
	t.Run("rotated keys", func(t *testing.T) {
		bob.push("go-hello:1", "team/bobs:v1")
		tag, options := bob.reference("team/bobs:v1")
		before, err := remote.NewPuller(options...) // with a token that the old key asked for
		if err == nil {
			_, err = before.Head(ctx, tag)
		}
		if err != nil {
			t.Fatal(err)
		}
		renewed, err := w.RotateKeys(ctx, "other")
		if err != nil || renewed.Account != other.Account || renewed.AccessKey == other.AccessKey {
			t.Fatalf("%+v, %v", renewed, err)
		}
		w.refused(t, other)
		w.refused(t, livetest.Credentials{AccessKey: other.AccessKey, Secret: renewed.Secret})
		if _, err := before.Head(ctx, tag); status(err) != http.StatusUnauthorized {
			t.Errorf("a token of the old key: %v", err)
		}
		bob.creds = renewed
		tag, options = bob.reference("team/bobs:v1")
		if _, err := remote.Head(tag, options...); err != nil {
			t.Errorf("the new keys, registry: %v", err)
		}
		if _, err := w.Lambda(renewed).ListFunctions(ctx, &lambda.ListFunctionsInput{}); err != nil {
			t.Errorf("the new keys, API: %v", err)
		}
	})
	if got, failed := invoke(ctx, t, client, "f", `{"name":"alice"}`); failed != "" || !strings.Contains(got, "hello alice") {
		t.Errorf("afterwards the function answers %s %s", failed, got)
	}
}

// noFunction asks, by every operation and every form of its name, for a
// function of another tenant.
func (w *world) noFunction(t *testing.T, function string) {
	ctx := t.Context()
	full, err := arn.Parse(function)
	if err != nil {
		t.Fatal(err)
	}
	own := w.push("go-hello:1", "own:v1") // or it would be the image that does not exist
	client := w.Lambda(w.creds)
	for _, name := range []string{"f", function, full.AccountID + ":function:f", strings.Replace(function, full.AccountID, w.creds.Account, 1)} {
		for what, ask := range map[string]func() error{
			"get": func() error {
				_, err := client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &name})
				return err
			},
			"get configuration": func() error {
				_, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
				return err
			},
			"invoke": func() error {
				_, err := client.Invoke(ctx, invocation(name))
				return err
			},
			"dry run": func() error {
				_, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeDryRun})
				return err
			},
			"update code": func() error {
				_, err := client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ImageUri: &own})
				return err
			},
			"update configuration": func() error {
				_, err := client.UpdateFunctionConfiguration(ctx, describe(name, 1))
				return err
			},
			"list versions": func() error {
				_, err := client.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: &name})
				return err
			},
			"delete": func() error {
				_, err := client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
				return err
			},
		} {
			if _, absent := errors.AsType[*types.ResourceNotFoundException](ask()); !absent {
				t.Errorf("%s %s: %v", what, name, ask())
			}
		}
	}
	list, err := client.ListFunctions(ctx, &lambda.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 0 {
		t.Errorf("the list has %d functions, error %v", len(list.Functions), err)
	}
}

// noRepository asks for the repository team/app of another tenant.
func (w *world) noRepository(t *testing.T, owner livetest.Credentials) {
	ctx := t.Context()
	ref, options := w.reference("team/app:v1")
	if _, err := remote.Image(ref, options...); status(err) != http.StatusNotFound {
		t.Errorf("pull: %v", err)
	}
	if tags, err := remote.List(ref.Context(), options...); status(err) != http.StatusNotFound {
		t.Errorf("tags: %v, %v", tags, err)
	}
	if err := remote.Delete(ref, options...); status(err) != http.StatusNotFound {
		t.Errorf("delete: %v", err)
	}
	theirs, asOwner := (&world{Server: w.Server, t: t, creds: owner}).reference("team/app:v1")
	image, err := remote.Image(theirs, asOwner...)
	if err != nil {
		t.Fatalf("the owner's pull: %v", err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, repository := range []string{"team/app", "own"} { // the digest alone opens nothing either
		blob, err := remote.Layer(w.repository(t, repository).Digest(digest.String()), options...)
		if err == nil {
			_, err = blob.Compressed()
		}
		if repository == "own" && err != nil || repository == "team/app" && status(err) != http.StatusNotFound {
			t.Errorf("blob by %s: %v", repository, err)
		}
	}
	if listed, err := remote.Catalog(ctx, w.repository(t, "own").Registry, options...); err != nil || slices.Contains(listed, "team/app") {
		t.Errorf("catalog: %v, %v", listed, err)
	}
	uri := w.Registry() + "/team/app:v1"
	_, err = w.Lambda(w.creds).CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("stolen"), PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &uri},
		Role: aws.String("arn:aws:iam::000000000000:role/test"),
	})
	if _, invalid := errors.AsType[*types.InvalidParameterValueException](err); !invalid || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a function of the other's image: %v", err)
	}
}

// refused shows that credentials open neither the API nor the registry.
func (w *world) refused(t *testing.T, creds livetest.Credentials) {
	t.Helper()
	_, err := w.Lambda(creds).ListFunctions(context.WithoutCancel(t.Context()), &lambda.ListFunctionsInput{})
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); !ok || answer.HTTPStatusCode() != http.StatusForbidden {
		t.Errorf("API: %v", err)
	}
	tag, options := (&world{Server: w.Server, t: t, creds: creds}).reference("team/app:v1")
	if _, err := remote.Head(tag, options...); status(err) != http.StatusUnauthorized {
		t.Errorf("registry: %v", err)
	}
}

func (w *world) repository(t *testing.T, path string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(w.Registry()+"/"+path, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// status is the HTTP status in a registry's answer; 0 where there is none.
func status(err error) int {
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		return answer.StatusCode
	}
	return 0
}
