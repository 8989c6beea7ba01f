// SPDX-License-Identifier: Apache-2.0

// Package s3test is an object store for tests and benchmarks: a real S3 server
// (Versity's gateway over a folder) on the loopback, and a [Proxy] that stands in
// front of it and fails as networks and object stores do.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
)

// The credentials of every server, and its region.
const (
	AccessKey = "thawtest"
	Secret    = "thawtestsecret"
	Region    = "us-east-1"
)

// binary is what scripts/install-deps.sh installs.
const binary = ".cache/bin/versitygw-v1.8.0"

// answerTimeout is how long a server may take until it answers; it is a guard
// against hanging.
const answerTimeout = time.Minute

// Server is a running S3 server.
type Server struct {
	Endpoint string // its URL
	Dir      string // holds a folder for each bucket, in that the objects as files

	binary  string
	options []string
	output  bytes.Buffer
	cmd     *exec.Cmd
	done    chan struct{}
}

// Run starts a server on a folder, which is there, and returns when it answers;
// options are further ones of versitygw. The caller ends it with [Server.Stop].
func Run(ctx context.Context, dir string, options ...string) (*Server, error) {
	path, err := installed()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Endpoint: "http://" + l.Addr().String(), Dir: dir, binary: path, options: options}
	if err := l.Close(); err != nil { // only its port was wanted
		return nil, err
	}
	return s, s.run(ctx)
}

// installed is the path of the server's program.
func installed() (string, error) {
	root, err := filepath.Abs(".")
	for ; err == nil && root != "/"; root = filepath.Dir(root) {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil {
			break
		}
	}
	return filepath.Join(root, binary), err
}

// Environ is what a process needs in its environment to use a server, and what
// keeps it from others.
func Environ() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": Secret, "AWS_SESSION_TOKEN": "", "AWS_REGION": Region,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	}
}

// URL is the location of an origin in a bucket, reached by way of endpoint.
func URL(endpoint, bucket, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s", bucket, prefix, endpoint, Region)
}

func (s *Server) run(ctx context.Context) error {
	address := s.Endpoint[len("http://"):]
	args := append([]string{"--access", AccessKey, "--secret", Secret, "--region", Region, "--port", address, "--quiet", "--keep-alive"}, s.options...)
	s.cmd = exec.Command(s.binary, append(args, "posix", s.Dir)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) { // ends with the server
		defer close(done)
		_ = cmd.Wait()
	}(s.cmd)
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint, nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("the S3 server ended: %s\n%s", s.cmd.ProcessState, s.output.String())
		case <-ctx.Done():
			s.Stop()
			return fmt.Errorf("the S3 server does not answer: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop kills the server, if it runs.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill() // fails only if it has ended
	<-s.done
}

// TestServer is a server that ends with a test.
type TestServer struct {
	*Server
	t testing.TB
}

// Start starts a server on a temporary folder and ends it with the test. The
// environment that the test's process and its children see has the credentials.
func Start(t testing.TB) *TestServer {
	t.Helper()
	path, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	testkit.RequireTool(t, path)
	s, err := Run(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	for name, value := range Environ() {
		t.Setenv(name, value)
	}
	return &TestServer{s, t}
}

// Bucket makes a bucket.
func (s *TestServer) Bucket(name string) {
	s.t.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// Restart starts the server after [Server.Stop], on the same port and folder,
// and returns when it answers.
func (s *TestServer) Restart() {
	s.t.Helper()
	if err := s.run(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}
