// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/source"
)

// deployCmd creates or updates a function.
type deployCmd struct {
	apiFlags
	Name  string `arg:"" help:"Name or ARN of the function."`
	Image string `arg:"" help:"A folder with an OCI layout, or an OCI or docker archive, of several images the one named behind a colon; or a reference to a registry."`
	settings
	JSON bool `name:"json" help:"Print the function as JSON, and no progress."`
}

// Help is the long form of the command's help.
func (deployCmd) Help() string {
	return `A local image is pushed to the server's registry first, into a repository named
after the function. The command ends when the function is ready to be invoked.

Deploying a function again changes its image and the settings that are named; every
other setting stays, and so do the variables that no --env names. The previous image
serves until the new one is ready. Interrupted (ctrl-C) before the server was asked, nothing
has changed; after that the server goes on preparing the function.

Lambda's other settings are the AWS CLI's to change, a larger /tmp for instance:

    aws lambda update-function-configuration --function-name NAME --ephemeral-storage Size=2048`
}

// Run pushes a local image, creates or updates the function, and waits until
// it is ready to be invoked.
func (c *deployCmd) Run(ctx context.Context, std streams) error {
	if _, err := c.environment(nil); err != nil {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	p := newProgress(std.err, c.JSON)
	defer p.close()
	ref := c.Image
	switch {
	case isLocal(c.Image):
		if ref, err = c.push(ctx, s, p); err != nil && ctx.Err() != nil {
			return thaw.Errorf("", thaw.Canceled, "interrupted: %s was not changed; the layers that have arrived are not sent again", c.Name)
		} else if err != nil {
			return err
		}
	case looksLocal(c.Image):
		return thaw.Errorf("deploy "+c.Name, thaw.Invalid, "there is no file or folder %s", c.Image)
	}
	if err := c.apply(ctx, s.lambda(), ref); err != nil && ctx.Err() != nil {
		return thaw.Errorf("", thaw.Canceled, "interrupted: %s may have been changed already; see thaw ls", c.Name)
	} else if err != nil {
		return s.plain(err)
	}
	config, err := c.wait(ctx, s, p)
	if err != nil && ctx.Err() != nil {
		return thaw.Errorf("", thaw.Canceled, "interrupted: the server goes on preparing %s; see thaw ls", c.Name)
	} else if err != nil {
		return s.plain(err)
	}
	p.close()
	if c.JSON {
		return printJSON(std.out, config)
	}
	_, err = fmt.Fprintf(std.out, "%s is %s: thaw invoke %s -d '{}'\n", aws.ToString(config.FunctionArn), strings.ToLower(string(config.State)), quote(c.Name))
	return err
}

// looksLocal reports whether image can only mean a file.
func looksLocal(image string) bool {
	for _, end := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst"} {
		if strings.HasSuffix(image, end) {
			return true
		}
	}
	return strings.HasPrefix(image, ".") || strings.HasPrefix(image, "/")
}

// isLocal reports whether image is a folder or a file, or one with the name of
// an image in it behind a colon; that name may have colons too.
func isLocal(image string) bool {
	for i := len(image); i > 0; i = strings.LastIndexByte(image[:i], ':') {
		if _, err := os.Stat(image[:i]); err == nil {
			return true
		}
	}
	return false
}

// push uploads a local image to the server's registry, in a repository named
// after the function, and returns its reference.
func (c *deployCmd) push(ctx context.Context, s session, p *progress) (string, error) {
	image, err := source.LoadLocal(c.Image)
	if err != nil {
		return "", err
	}
	endpoint, err := url.Parse(s.endpoint)
	if err != nil {
		return "", err
	}
	digest, err := image.Digest()
	if err != nil {
		return "", err
	}
	repository := repositoryName(c.Name)
	ref, err := name.NewTag(fmt.Sprintf("%s/%s:%s", endpoint.Host, repository, digest.Hex[:12]), insecure(endpoint)...)
	if err != nil {
		return "", err
	}
	updates := make(chan v1.Update, 16)
	stop := p.watchPush(updates)
	err = source.Push(ctx, endpoint.Scheme, ref, image, remote.WithProgress(updates),
		remote.WithAuth(&authn.Basic{Username: s.accessKey, Password: s.secret}))
	stop()
	if err != nil {
		return "", thaw.Wrap("push to "+ref.String(), s.unreachable(err))
	}
	return fmt.Sprintf("%s/%s@%s", endpoint.Host, repository, digest), nil
}

// repositoryName maps a function's name, which may hold upper case, to a
// repository's, which may not, so that two names never meet.
func repositoryName(function string) string {
	if _, name, isARN := strings.Cut(function, ":function:"); isARN {
		function = name
	}
	function, _, _ = strings.Cut(function, ":") // without a qualifier
	lower := strings.Trim(strings.ToLower(function), "-_")
	if lower == function {
		return lower
	}
	sum := sha256.Sum256([]byte(function))
	return "f" + lower + "-" + hex.EncodeToString(sum[:4])
}

func insecure(endpoint *url.URL) []name.Option {
	if endpoint.Scheme == "http" {
		return []name.Option{name.Insecure}
	}
	return nil
}

// apply creates the function, or updates the code and what was asked for of
// the configuration of the one that is there.
func (c *deployCmd) apply(ctx context.Context, client *lambda.Client, ref string) error {
	config, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &c.Name})
	if isNotFound(err) {
		in := &lambda.CreateFunctionInput{
			FunctionName: &c.Name, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &ref},
			Role: aws.String("arn:aws:iam::000000000000:role/thaw"),
		}
		if err := c.create(in); err != nil {
			return err
		}
		_, err = client.CreateFunction(ctx, in)
		return err
	}
	if err != nil {
		return err
	}
	code := &lambda.UpdateFunctionCodeInput{FunctionName: &c.Name, ImageUri: &ref}
	if c.named() {
		// An image that is refused must not leave half of a change behind.
		try := *code
		try.DryRun = true
		if _, err := client.UpdateFunctionCode(ctx, &try); err != nil {
			return err
		}
		in, err := c.update(config)
		if err != nil {
			return err
		}
		if _, err := client.UpdateFunctionConfiguration(ctx, in); err != nil {
			return err
		}
		if err := settle(ctx, client, c.Name); err != nil {
			return err
		}
	}
	_, err = client.UpdateFunctionCode(ctx, code)
	return err
}

// settle waits until the last update has ended.
func settle(ctx context.Context, client *lambda.Client, function string) error {
	return lambda.NewFunctionUpdatedV2Waiter(client, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay = 100 * time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &function}, time.Minute)
}

// wait shows the ingest until the function is ready or has failed.
func (c *deployCmd) wait(ctx context.Context, s session, p *progress) (*lambda.GetFunctionConfigurationOutput, error) {
	client := s.lambda()
	for {
		config, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &c.Name})
		if err != nil {
			return nil, err
		}
		pending := config.State == types.StatePending || config.LastUpdateStatus == types.LastUpdateStatusInProgress
		if !pending {
			return config, failure(config)
		}
		var status ingestStatus
		path := "/v1/tenants/" + url.PathEscape(c.Tenant) + "/functions/" + url.PathEscape(c.Name) + "/ingest"
		if err := newAdminClient(s.data).do(ctx, http.MethodGet, path, nil, &status); err == nil {
			p.showIngest(status)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func failure(config *lambda.GetFunctionConfigurationOutput) error {
	switch {
	case config.State == types.StateFailed:
		return &refusal{thaw.Invalid, fmt.Sprintf("create %s: %s: %s", aws.ToString(config.FunctionName), config.StateReasonCode, aws.ToString(config.StateReason))}
	case config.LastUpdateStatus == types.LastUpdateStatusFailed:
		return &refusal{thaw.Invalid, fmt.Sprintf("update %s: %s: %s; the previous image serves on",
			aws.ToString(config.FunctionName), config.LastUpdateStatusReasonCode, aws.ToString(config.LastUpdateStatusReason))}
	}
	return nil
}
