// SPDX-License-Identifier: Apache-2.0

// Package e2e drives the built bin/thaw as its users do: with the AWS CLI and
// SDKs, with skopeo, crane and buildah, and with functions in real images.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// Images of one program take a second to build, those of Debian packages a
// minute: a test waits for its own kind alone.
var (
	programs = builder("go-hello:1", "go-hello:2", "go-hello:3", "go-hello:4", "probe:1")
	packages = builder("py-hello:1", "node-api:1", "web:1", "py-hello-probe:1")

	// Of the family that deduplication is measured on: every kind, one with
	// updated packages, one whose layers were made one.
	family = builder("go-hello:1", "node-api:1", "py-hello:1", "py-data:3", "ruby-api:1", "php-api:1", "java-api:1", "custc-node:1")
)

// builder returns what builds images once for all tests and returns the folder
// of the OCI layout that holds them.
func builder(tags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		root, err := livetest.Root()
		if err != nil {
			return "", err
		}
		layout, err := os.MkdirTemp(work, "images-")
		if err != nil {
			return "", err
		}
		cmd := exec.Command("go", append([]string{"run", "./bench/images", "-o", layout, "-cache", ".cache/debs", "-store", "gzip"}, tags...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the images: %w\n%s", err, out)
		}
		return layout, nil
	})
}

// images returns the layout that holds an image of one of the builders.
func images(tag string) (string, error) {
	if strings.HasPrefix(tag, "go-hello:") || tag == "probe:1" {
		return programs()
	}
	return packages()
}

// work is the folder of all tests' images.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "thaw-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(work)
	os.Exit(code)
}

// world is a server with the tenant default, and what a test needs around it.
type world struct {
	*livetest.Server
	t     *testing.T
	creds livetest.Credentials
}

// newWorld starts a server of its own, with further flags, and stops it at the end,
// failing if it doesn't end well.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	return newWorldAt(t, t.TempDir(), flags...)
}

// newWorldAt is newWorld with a data folder.
func newWorldAt(t *testing.T, data string, flags ...string) *world {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.RequireFUSE(t)
	ctx := t.Context()
	server, err := livetest.Start(ctx, data, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return worldOf(t, server)
}

// worldOf is the world of a server that a test has started itself.
func worldOf(t *testing.T, server *livetest.Server) *world {
	t.Helper()
	ctx := t.Context()
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server printed:\n%s", server.Log)
		}
	})
	creds, err := server.Credentials(ctx, "default")
	if err != nil {
		t.Fatal(err)
	}
	return &world{Server: server, t: t, creds: creds}
}

// run runs a command in the tenant's environment and returns what it printed.
func (w *world) run(name string, args ...string) string {
	w.t.Helper()
	out, err := w.try(name, args...)
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (w *world) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = w.Environ(w.creds)
	cmd.Dir = w.t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// aws runs the AWS CLI.
func (w *world) aws(args ...string) string {
	w.t.Helper()
	return w.run("/usr/bin/aws", append([]string{"--endpoint-url", w.Endpoint}, args...)...)
}

// push copies one of the built images to the server's registry and returns its
// reference there.
func (w *world) push(image, repository string) string {
	w.t.Helper()
	layout, err := images(image)
	if err != nil {
		w.t.Fatal(err)
	}
	ref := w.Registry() + "/" + repository
	w.run("skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", w.creds.AccessKey+":"+w.creds.Secret,
		"oci:"+layout+":"+image, "docker://"+ref)
	return ref
}

// create makes a function of a pushed image and waits until it is active.
func (w *world) create(ctx context.Context, name, ref string, change ...func(*lambda.CreateFunctionInput)) *lambda.Client {
	w.t.Helper()
	client := w.Lambda(w.creds)
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &ref},
		Role: aws.String("arn:aws:iam::000000000000:role/test"), MemorySize: aws.Int32(512), Timeout: aws.Int32(30),
	}
	for _, c := range change {
		c(in)
	}
	if _, err := client.CreateFunction(ctx, in); err != nil {
		w.t.Fatal(err)
	}
	if err := w.waitActive(ctx, client, name); err != nil {
		w.t.Fatal(err)
	}
	return client
}

// invoke calls a function and returns its payload and its error, if any.
func invoke(ctx context.Context, t *testing.T, client *lambda.Client, name, payload string) (string, string) {
	t.Helper()
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return string(out.Payload), aws.ToString(out.FunctionError)
}
