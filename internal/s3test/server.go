// Package s3test is an object store for tests: a real S3 server (Versity's
// gateway over a folder) on the loopback, and a [Proxy] that stands in front of
// it and fails as networks and object stores do.
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

// Server is a running S3 server.
type Server struct {
	Endpoint string // its URL
	Dir      string // holds a folder for each bucket, in that the objects as files

	t      testing.TB
	binary string
	output bytes.Buffer
	cmd    *exec.Cmd
	done   chan struct{}
}

// Start starts a server and ends it with the test. The environment that the
// test's process and its children see has the credentials.
func Start(t testing.TB) *Server {
	t.Helper()
	root, err := filepath.Abs(".")
	for ; err == nil && root != "/"; root = filepath.Dir(root) {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil {
			break
		}
	}
	s := &Server{t: t, Dir: t.TempDir(), binary: filepath.Join(root, binary)}
	testkit.RequireTool(t, s.binary)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Endpoint = "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	t.Cleanup(s.Stop)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": Secret, "AWS_SESSION_TOKEN": "", "AWS_REGION": Region,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	return s
}

// Bucket makes a bucket.
func (s *Server) Bucket(name string) {
	s.t.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// URL is the location of an origin in a bucket, reached by way of endpoint.
func URL(endpoint, bucket, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s", bucket, prefix, endpoint, Region)
}

// Restart starts the server after [Server.Stop], on the same port and folder,
// and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	address := s.Endpoint[len("http://"):]
	s.cmd = exec.Command(s.binary, "--access", AccessKey, "--secret", Secret, "--region", Region,
		"--port", address, "--quiet", "--keep-alive", "posix", s.Dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) { // ends with the server
		defer close(done)
		_ = cmd.Wait()
	}(s.cmd)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // against hanging
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			return
		}
		select {
		case <-s.done:
			s.t.Fatalf("the S3 server ended: %s\n%s", s.cmd.ProcessState, s.output.String())
		case <-ctx.Done():
			s.t.Fatal("the S3 server does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop kills the server, if it runs.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill() // fails only if it has ended
	<-s.done
}
