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
	resumed    = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
)

// stepsOf returns the calls in a trace that are about files of dir, without what
// names one file or another. A call that another thread's came between is two
// lines of a trace.
func stepsOf(dir, trace string) (steps []string) {
	begun := map[string]int{} // the step that a thread has under way
	for line := range strings.Lines(trace) {
		thread, line, _ := strings.Cut(strings.TrimSpace(line), " ")
		line = strings.TrimSpace(line)
		if m := resumed.FindStringSubmatch(line); m != nil {
			if at, ok := begun[thread]; ok {
				steps[at] = normal(dir, strings.Replace(steps[at]+" "+m[1], " )", ")", 1))
				delete(begun, thread)
			}
			continue
		}
		if !strings.Contains(line, dir) {
			continue
		}
		line, unfinished := strings.CutSuffix(line, " <unfinished ...>")
		if unfinished {
			begun[thread] = len(steps)
		}
		steps = append(steps, normal(dir, line))
	}
	return steps
}

func normal(dir, line string) string {
	line = strings.ReplaceAll(line, dir, "DIR")
	line = hexName.ReplaceAllString(line, "HEX")
	line = randomName.ReplaceAllString(line, "RANDOM")
	line = pointer.ReplaceAllString(line, "POINTER")
	line = strings.Join(strings.Fields(line), " ")
	return descriptor.ReplaceAllString(line, "FD<")
}

// TestStepsOf: a call is one step, however a trace tells of it.
func TestStepsOf(t *testing.T) {
	whole := "7  openat(AT_FDCWD, \"/d/a\", O_RDONLY) = 3</d/a>\n7  fsync(3</d/a>)      = 0\n8  unlinkat(AT_FDCWD, \"/d/b\", 0) = 0\n"
	cut := "7  openat(AT_FDCWD, \"/d/a\",  <unfinished ...>\n9  getpid() = 9\n7  <... openat resumed>O_RDONLY) = 3</d/a>\n" +
		"7  fsync(3</d/a> <unfinished ...>\n8  unlinkat(AT_FDCWD, \"/d/b\", 0 <unfinished ...>\n7  <... fsync resumed>) = 0\n8  <... unlinkat resumed>) = 0\n"
	if a, b := stepsOf("/d", whole), stepsOf("/d", cut); len(a) != 3 || !slices.Equal(a, b) {
		t.Errorf("%q\n%q", a, b)
	}
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
