// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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
	{name: "registry", what: "creates two functions of an image at a registry that sends a byte every 3 s", deploy: deployByPush, prepare: serveSlowly,
		abuse: func(ctx context.Context, a *abuser) {
			a.repeat(ctx, 2, func(i, _ int) error {
				return a.createAgain(ctx, function{name: fmt.Sprint("slow-", i), image: a.Remotes[a.i] + "/slow:v1"})
			})
		}},
	{name: "tags", what: "moves and deletes tags on 8 connections", deploy: deployByPush, prepare: func(ctx context.Context, a *abuser) error { return a.pushSmall(ctx, "tags") },
		abuse: func(ctx context.Context, a *abuser) {
			a.repeat(ctx, 8, func(i, n int) error { return a.tag(ctx, fmt.Sprintf("t%d-%d", i, n)) })
		}},
	{name: "deletes", what: "deletes blobs that are not there on 8 connections", deploy: deployByPush, prepare: func(ctx context.Context, a *abuser) error { return a.pushSmall(ctx, "deletes") },
		abuse: func(ctx context.Context, a *abuser) {
			a.repeat(ctx, 8, func(i, n int) error {
				_, err := a.registry().do(ctx, "DELETE", "/v2/deletes/blobs/"+digest(fmt.Append(nil, i, n)), "", nil)
				return err
			})
		}},
	{name: "uploads", what: "begins uploads on 8 connections and ends none", deploy: deployByPush,
		abuse: func(ctx context.Context, a *abuser) {
			a.repeat(ctx, 8, func(int, int) error {
				_, err := a.registry().do(ctx, "POST", "/v2/uploads/blobs/uploads/", "", nil)
				return err
			})
		}},
	{name: "functions", what: "creates ever more functions, 4 at once", deploy: deployByPush, prepare: func(ctx context.Context, a *abuser) error { return a.pushSmall(ctx, "functions") },
		abuse: func(ctx context.Context, a *abuser) {
			a.repeat(ctx, 4, func(i, n int) error {
				return a.create(ctx, function{name: fmt.Sprintf("more-%d-%d", i, n), image: "/functions:v1"})
			})
		}},
}

func (a *abuser) registry() registry { return registry{a.Endpoint, a.creds} }

// repeat does something again and again, on n goroutines, and notes the errors.
// What is done is told which goroutine does it, and how often it has.
func (a *abuser) repeat(ctx context.Context, n int, do func(i, n int) error) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := do(i, n); err != nil {
					a.note(ctx, err)
					sleep(ctx, pause)
				}
			}
		})
	}
	all.Wait()
}

// pushSmall pushes an image of a file of nobody else.
func (a *abuser) pushSmall(ctx context.Context, repository string) error {
	l, err := randomLayer("program", 1<<10)
	if err == nil {
		_, err = a.registry().push(ctx, repository, l)
	}
	a.small = l
	return err
}

// tag gives the small image another tag, and takes that away again.
func (a *abuser) tag(ctx context.Context, tag string) error {
	text, _, err := manifest([]layer{a.small})
	if err != nil {
		return err
	}
	at := "/v2/tags/manifests/" + tag
	if _, err := a.registry().do(ctx, "PUT", at, manifestType, text); err != nil {
		return err
	}
	_, err = a.registry().do(ctx, "DELETE", at, "", nil)
	return err
}

// serveSlowly serves an image at the abuser's own address, a byte of its layer
// every three seconds.
func serveSlowly(_ context.Context, a *abuser) error {
	l, err := randomLayer("program", 1<<20)
	if err != nil {
		return err
	}
	text, config, err := manifest([]layer{l})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", a.Remotes[a.i])
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/v2/"):
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", manifestType)
			w.Header().Set("Docker-Content-Digest", digest(text))
			_, _ = w.Write(text)
		case strings.HasSuffix(r.URL.Path, digest(config)):
			_, _ = w.Write(config)
		default:
			w.Header().Set("Content-Length", fmt.Sprint(len(l.data)))
			for i := range l.data {
				if _, err := w.Write(l.data[i : i+1]); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				sleep(r.Context(), 3*time.Second)
			}
		}
	})}
	a.atEnd(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }() // until the end
	return nil
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
			_, err = a.registry().push(ctx, name, all...)
			return err
		},
		abuse: func(ctx context.Context, a *abuser) {
			a.repeat(ctx, functions, func(i, _ int) error {
				return a.createAgain(ctx, function{name: fmt.Sprint(name, "-", i), image: "/" + name + ":v1"})
			})
		},
	}
}

// createAgain creates a function, waits what becomes of it and removes it.
func (a *abuser) createAgain(ctx context.Context, f function) error {
	err := a.create(ctx, f)
	if err == nil {
		err = a.await(ctx, f.name)
	}
	a.remove(ctx, f.name)
	return err
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
