// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
)

// TestOthersChangeNoStep: the registry makes the same system calls on files for
// a request about a blob that another tenant has as for one that nobody has.
func TestOthersChangeNoStep(t *testing.T) {
	testkit.RequireTool(t, "strace")
	dir := t.TempDir()
	trace := filepath.Join(t.TempDir(), "trace")
	c := startChildUnder(t, dir, "strace", "-f", "-y", "-s", "0", "-o", trace, "-e", "trace=%file,fsync,fdatasync,sync_file_range,ftruncate,fallocate,lseek,fadvise64,copy_file_range,getdents64")
	blob := func(fill string) []byte { return bytes.Repeat([]byte(fill), 4096) }
	steps := func(as thaw.TenantID, method, path string, body []byte, want int) []string {
		t.Helper()
		before := read(t, trace)
		if status, answer := c.sendAs(t, as, method, path, body); status != want {
			t.Fatalf("%s %s: status %d, %s", method, path, status, answer)
		}
		return stepsOf(dir, read(t, trace)[len(before):])
	}
	push := func(as thaw.TenantID, data []byte) []string {
		t.Helper()
		return steps(as, "POST", "/v2/app/blobs/uploads/?digest="+digest(data), data, http.StatusCreated)
	}
	others, nobodys := blob("o"), blob("n")
	push(bob, others)
	push(bob, blob("w"))
	path := func(data []byte) string { return "/v2/app/blobs/" + digest(data) }
	push(alice, blob("w"))
	steps(alice, "HEAD", path(blob("z")), nil, http.StatusNotFound) // it reads what the repository names
	steps(alice, "DELETE", path(blob("w")), nil, http.StatusAccepted)

	for _, request := range []struct {
		name string
		of   func(data []byte) []string
	}{
		{"HEAD of what one has not", func(data []byte) []string {
			return steps(alice, "HEAD", path(data), nil, http.StatusNotFound)
		}},
		{"mount from the other's repository", func(data []byte) []string {
			return steps(alice, "POST", "/v2/app/blobs/uploads/?mount="+digest(data)+"&from=app", nil, http.StatusAccepted)
		}},
		{"mount from anywhere", func(data []byte) []string {
			return steps(alice, "POST", "/v2/app/blobs/uploads/?mount="+digest(data), nil, http.StatusAccepted)
		}},
		{"push", func(data []byte) []string { return push(alice, data) }},
		{"GET", func(data []byte) []string { return steps(alice, "GET", path(data), nil, http.StatusOK) }},
		{"push again", func(data []byte) []string { return push(alice, data) }},
		{"DELETE", func(data []byte) []string { return steps(alice, "DELETE", path(data), nil, http.StatusAccepted) }},
		{"push after a DELETE", func(data []byte) []string { return push(alice, data) }},
	} {
		first, second := request.of(others), request.of(nobodys)
		if !slices.Equal(first, second) {
			t.Errorf("%s: what another has takes\n%s\nwhat nobody has takes\n%s", request.name, strings.Join(first, "\n"), strings.Join(second, "\n"))
		}
		if len(first) == 0 {
			t.Errorf("%s: no step was seen", request.name)
		}
	}
}

var (
	hexName    = regexp.MustCompile(`[0-9a-f]{64}`)
	randomName = regexp.MustCompile(`[A-Z2-7]{26}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	descriptor = regexp.MustCompile(`\b[0-9]+<`)
	pointer    = regexp.MustCompile(`0x[0-9a-f]+`)
	process    = regexp.MustCompile(`^[0-9]+ +`)
)

// stepsOf returns the calls in a trace that are about files of dir, without what
// names one file or another.
func stepsOf(dir, trace string) (steps []string) {
	for line := range strings.Lines(trace) {
		if !strings.Contains(line, dir) {
			continue
		}
		line = process.ReplaceAllString(strings.TrimSpace(line), "")
		line = strings.ReplaceAll(line, dir, "DIR")
		line = hexName.ReplaceAllString(line, "HEX")
		line = randomName.ReplaceAllString(line, "RANDOM")
		line = pointer.ReplaceAllString(line, "POINTER")
		steps = append(steps, descriptor.ReplaceAllString(line, "FD<"))
	}
	return steps
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// startChildUnder is startChild by another command that starts it.
func startChildUnder(t *testing.T, dir string, command ...string) *child {
	t.Helper()
	cmd := exec.Command(command[0], append(command[1:], os.Args[0])...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c := startCommand(t, dir, cmd)
	// What it started outlives it, unless all are killed at once.
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return c
}

// sendAs sends a request of a tenant's.
func (c *child) sendAs(t *testing.T, as thaw.TenantID, method, path string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.base+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("key-"+string(as), secretOf(as))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer.String()
}
