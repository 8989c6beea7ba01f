// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"thaw.dev/thaw/bench/measure"
)

// tenantScenarios are abuses by what a tenant asks of the API and the registry.
// A victim beside them pushes and creates.
var tenantScenarios = []*scenario{
	preparing("xattrs", "creates three functions of an image of 16,000 files with attributes of 60 KB", 1, 3),
	preparing("links", "creates three functions of an image of 150,000 symbolic links of 4,000 bytes", 1, 3),
	preparing("zeros", "creates three functions of an image with six layers of 350 MB of zeros", 6, 3),
}

// preparing has a tenant create functions of an image with n layers of a bomb,
// and again once they failed.
func preparing(name, what string, layers, functions int) *scenario {
	return &scenario{name: name, what: what, deploy: deployByPush,
		prepare: func(ctx context.Context, a *abuser) error {
			bomb, err := bombs[name]()
			if err != nil {
				return err
			}
			all := make([]layer, layers)
			for i := range all {
				all[i] = bomb
			}
			_, err = registry{a.Endpoint, a.creds}.push(ctx, name, all...)
			return err
		},
		abuse: func(ctx context.Context, a *abuser) {
			var creators sync.WaitGroup
			for i := range functions {
				creators.Go(func() { a.createAgain(ctx, function{name: fmt.Sprint(name, "-", i), image: "/" + name + ":v1"}) })
			}
			creators.Wait()
		},
	}
}

// createAgain creates a function, waits what becomes of it, removes it and
// begins again.
func (a *abuser) createAgain(ctx context.Context, f function) {
	for ctx.Err() == nil {
		err := a.create(ctx, f)
		if err == nil {
			err = a.await(ctx, f.name)
		}
		a.note(ctx, err)
		a.remove(ctx, f.name)
		sleep(ctx, pause)
	}
}

// deployByPush pushes an image that is new and creates a function of it; it
// returns how long that took until the function was active.
func deployByPush(ctx context.Context, w *world) (time.Duration, error) {
	l, err := randomLayer("program", 1500<<10)
	if err != nil {
		return 0, err
	}
	v := newAbuser(order{Endpoint: w.server.Endpoint, Region: w.server.Region}, 0, w.creds, &notes{counts: map[string]int{}})
	defer v.clean()
	start := time.Now()
	image, err := registry{w.server.Endpoint, w.creds}.push(ctx, "deployed", l)
	if err != nil {
		return 0, err
	}
	if err := v.create(ctx, function{name: "deployed", image: image}); err != nil {
		return 0, err
	}
	err = v.await(ctx, "deployed")
	return time.Since(start), err
}

// deployByECR pushes a layer by ECR's API and returns how long that took.
func deployByECR(ctx context.Context, w *world) (time.Duration, error) {
	l, err := randomLayer("program", 1500<<10)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, _ = w.ecr(ctx, "CreateRepository", map[string]any{"repositoryName": "pushed"}) // there already but once
	begun, err := w.ecr(ctx, "InitiateLayerUpload", map[string]any{"repositoryName": "pushed"})
	if err != nil {
		return 0, err
	}
	if _, err := w.ecr(ctx, "UploadLayerPart", map[string]any{"repositoryName": "pushed", "uploadId": begun["uploadId"],
		"partFirstByte": 0, "partLastByte": len(l.data) - 1, "layerPartBlob": l.data}); err != nil {
		return 0, err
	}
	_, err = w.ecr(ctx, "CompleteLayerUpload", map[string]any{"repositoryName": "pushed", "uploadId": begun["uploadId"], "layerDigests": []string{l.digest}})
	return time.Since(start), err
}

// ecr makes a call of ECR's API as the victim.
func (w *world) ecr(ctx context.Context, action string, input any) (map[string]any, error) {
	body, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.server.Endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921."+action)
	key := aws.Credentials{AccessKeyID: w.creds.AccessKey, SecretAccessKey: w.creds.Secret}
	if err := v4.NewSigner().SignHTTP(ctx, key, request, measure.SHA256(string(body)), "ecr", w.server.Region, time.Now()); err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", action, response.Status, text)
	}
	var output map[string]any
	return output, json.Unmarshal(text, &output)
}
