// SPDX-License-Identifier: Apache-2.0

// Package livetest runs the real thaw: bin/thaw serve as a child process on a
// temporary folder and a free port of the loopback, driven through its public
// surfaces as any client would. End-to-end tests and benchmarks share it.
package livetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// startTimeout bounds how long a server may take until it answers; it is a
// guard against hanging, not a promise.
const startTimeout = 60 * time.Second

// Server is a running thaw serve.
type Server struct {
	Data     string // its data folder
	Endpoint string // URL of the API and the registry
	Region   string
	Log      *SafeBuffer // what it printed

	binary string
	flags  []string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Credentials are a tenant's. Account is known of tenants made here.
type Credentials struct {
	Account, AccessKey, Secret string
}

// Root returns the root folder of the project, from any package's test.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "thaw.go")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("not inside the project")
}

// Start runs bin/thaw serve on the data folder with further flags, and waits
// until it answers.
func Start(ctx context.Context, data string, flags ...string) (*Server, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return StartProgram(ctx, filepath.Join(root, "bin", "thaw"), data, flags...)
}

// StartProgram is [Start] with a copy of bin/thaw, which the test may remove.
func StartProgram(ctx context.Context, binary, data string, flags ...string) (*Server, error) {
	s := &Server{Data: data, Log: &SafeBuffer{}, binary: binary, flags: flags}
	if _, err := os.Stat(s.binary); err != nil {
		return nil, fmt.Errorf("bin/thaw is missing: run \"make build\" first (%w)", err)
	}
	return s, s.Run(ctx)
}

// Run starts the server again after [Server.Kill] or [Server.Stop], on the same
// folder and port.
func (s *Server) Run(ctx context.Context) error {
	listen := "127.0.0.1:0"
	if s.Endpoint != "" {
		listen = s.Registry()
	}
	args := append([]string{"serve", "--data", s.Data, "--listen", listen, "--admin-listen", ""}, s.flags...)
	s.cmd = exec.Command(s.binary, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.Log, s.Log
	// A group of its own: a signal to the test must not reach the server first.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait()
	}()
	deadline := time.Now().Add(startTimeout)
	for {
		out, err := s.Thaw(ctx, "env")
		if err == nil {
			s.Endpoint, s.Region = exported(out, "AWS_ENDPOINT_URL"), exported(out, "AWS_REGION")
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("thaw serve ended: %s\n%s", s.cmd.ProcessState, s.Log)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = s.Kill()
			return fmt.Errorf("thaw serve does not answer: %w\n%s", err, s.Log)
		}
	}
}

func exported(env, name string) string {
	_, rest, _ := strings.Cut(env, "export "+name+"=")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// PID is the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Kill ends the server as a power cut would, and waits for its end.
func (s *Server) Kill() error {
	err := s.cmd.Process.Kill()
	<-s.exited
	return err
}

// Stop asks the server to end and waits; it fails where the server ended with
// an error or did not end.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(startTimeout):
		_ = s.Kill()
		return fmt.Errorf("thaw serve did not end after SIGTERM\n%s", s.Log)
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("thaw serve ended with %s\n%s", s.cmd.ProcessState, s.Log)
	}
	return nil
}

// Thaw runs a thaw command against the server and returns what it printed.
func (s *Server) Thaw(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append(withoutAWS(os.Environ()), "THAW_DATA="+s.Data, "NO_COLOR=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("thaw %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// ThawJSON runs a thaw command with --json and decodes what it printed.
func (s *Server) ThawJSON(ctx context.Context, v any, args ...string) error {
	out, err := s.Thaw(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

func withoutAWS(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, v := range env {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "THAW_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// Credentials returns a tenant's.
func (s *Server) Credentials(ctx context.Context, tenant string) (Credentials, error) {
	out, err := s.Thaw(ctx, "env", "--tenant", tenant)
	return Credentials{AccessKey: exported(out, "AWS_ACCESS_KEY_ID"), Secret: exported(out, "AWS_SECRET_ACCESS_KEY")}, err
}

// CreateTenant makes a tenant.
func (s *Server) CreateTenant(ctx context.Context, name string) (Credentials, error) {
	return s.account(ctx, "tenant", "create", name)
}

// RotateKeys replaces a tenant's keys.
func (s *Server) RotateKeys(ctx context.Context, name string) (Credentials, error) {
	return s.account(ctx, "tenant", "rotate-keys", name)
}

func (s *Server) account(ctx context.Context, args ...string) (Credentials, error) {
	var account struct{ ID, AccessKeyID, Secret string }
	err := s.ThawJSON(ctx, &account, args...)
	return Credentials{Account: account.ID, AccessKey: account.AccessKeyID, Secret: account.Secret}, err
}

// Environ is the environment in which AWS's tools use the server as a tenant.
func (s *Server) Environ(c Credentials) []string {
	return append(withoutAWS(os.Environ()), "AWS_ACCESS_KEY_ID="+c.AccessKey, "AWS_SECRET_ACCESS_KEY="+c.Secret,
		"AWS_REGION="+s.Region, "AWS_DEFAULT_REGION="+s.Region, "AWS_ENDPOINT_URL="+s.Endpoint, "AWS_PAGER=")
}

// Lambda is AWS's SDK, pointed at the server.
func (s *Server) Lambda(c Credentials, change ...func(*lambda.Options)) *lambda.Client {
	return lambda.New(lambda.Options{
		Region: s.Region, BaseEndpoint: aws.String(s.Endpoint), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKey, c.Secret, ""),
	}, change...)
}

// Registry is the host and port that image references begin with.
func (s *Server) Registry() string {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// SafeBuffer is a buffer that one goroutine may read while another writes.
type SafeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p.
func (b *SafeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *SafeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
