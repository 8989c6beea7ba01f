// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seeded is a source for what takes one of math/rand's.
func seeded(seed int64) rand.Source { return rand.NewSource(seed) }

// census knows what a server has made outside of its folder, so that it can be
// looked for when the server is gone. What other servers on this machine make
// does not disturb it.
type census struct {
	t          *testing.T
	data       string
	instance   string
	namespaces map[string]bool // that sandboxes had
	held       map[string]bool // of which it keeps those that hold nothing else up: the kernel gives no other their numbers
}

func newCensus(t *testing.T, data string) *census {
	sum := sha256.Sum256([]byte(data)) // as cmd/thaw names control groups and network tables
	return &census{t: t, data: data, instance: hex.EncodeToString(sum[:6]), namespaces: map[string]bool{}, held: map[string]bool{}}
}

// note remembers the namespaces of the sandboxes that there are now.
func (c *census) note() {
	own := namespacesOf("self")
	for _, pid := range c.processes() {
		for ns := range namespacesOf(pid) {
			if !own[ns] {
				c.namespaces[ns] = true
			}
		}
		c.hold(pid)
	}
}

// hold keeps the pid and host name namespaces of a process until the test ends.
func (c *census) hold(pid string) {
	for _, kind := range []string{"pid", "uts"} {
		path := "/proc/" + pid + "/ns/" + kind
		ns, err := os.Readlink(path)
		if err != nil || !c.namespaces[ns] || c.held[ns] {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue // it has ended
		}
		c.held[ns] = true
		c.t.Cleanup(func() { _ = f.Close() })
	}
}

// processes are those in the control groups of the server's sandboxes.
func (c *census) processes() []string {
	return pidsWhere(c.t, func(dir string) bool {
		text, err := os.ReadFile(dir + "/cgroup")
		return err == nil && strings.Contains(string(text), c.instance)
	})
}

// check fails the test for everything that is left.
func (c *census) check() {
	c.t.Helper()
	if len(c.namespaces) == 0 {
		c.t.Error("no sandbox was ever seen: the census looks in the wrong place")
	}
	if left := mountsBelow(c.t, c.data); len(left) > 0 {
		c.t.Errorf("mounts are left: %v", left)
	}
	if left := processesNaming(c.t, c.data); len(left) > 0 {
		c.t.Errorf("processes are left: %v", left)
	}
	if left := c.processes(); len(left) > 0 {
		c.t.Errorf("processes are left in control groups: %v", left)
	}
	left := pidsWhere(c.t, func(dir string) bool {
		for ns := range namespacesOf(filepath.Base(dir)) {
			if c.held[ns] {
				return true
			}
		}
		return false
	})
	if len(left) > 0 {
		c.t.Errorf("processes are left in the namespaces of sandboxes: %v", left)
	}
	if text, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		c.t.Error(err)
	} else {
		for ns := range c.namespaces { // kept by a mount
			if strings.Contains(string(text), " "+ns+" ") {
				c.t.Errorf("a mount keeps namespace %s", ns)
			}
		}
	}
	if left := loopDevices(c.t, c.data); len(left) > 0 {
		c.t.Errorf("loop devices are left: %v", left)
	}
	c.groups()
}

// cared reports whether a process has a parent of its own: those of a killed
// server's, and their children, are left to process 1.
func cared(dir string) bool {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return true // it is gone
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // state, parent
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[1] == "1" {
		return false
	}
	text, err := os.ReadFile("/proc/" + fields[1] + "/cgroup")
	return err == nil && !strings.Contains(string(text), ":/thaw/")
}

// loopDevices are those whose file is, or was, below a folder.
func loopDevices(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), dir+"/") {
			found = append(found, strings.TrimSpace(string(text)))
		}
	}
	return found
}

// groups looks for control groups of the server.
func (c *census) groups() {
	c.t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // another's group, gone meanwhile
		}
		if d.IsDir() && d.Name() == c.instance {
			c.t.Errorf("control group %s is left", path)
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		c.t.Error(err)
	}
}

func namespacesOf(pid string) map[string]bool {
	found := map[string]bool{}
	for _, kind := range []string{"net", "mnt", "pid", "user", "ipc", "uts"} {
		if ns, err := os.Readlink("/proc/" + pid + "/ns/" + kind); err == nil {
			found[ns] = true
		}
	}
	return found
}

// pidsWhere lists the processes for which is holds. One that has ended, and only
// waits for its parent to look, keeps a control group and namespaces by name, but
// is none.
func pidsWhere(t *testing.T, is func(dir string) bool) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		stat, _ := os.ReadFile(dir + "/stat")
		if !strings.Contains(string(stat), ") Z ") && is(dir) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}
