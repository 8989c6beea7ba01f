// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bufio"
	"bytes"
	"os"
	"slices"
	"strings"

	"thaw.dev/thaw"
)

// mount is a mounted cgroup hierarchy.
type mount struct {
	dir     string
	v2      bool
	options []string // v1: the controllers among them
}

// findMounts reads the cgroup mounts of this process's mount namespace.
func findMounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, thaw.Wrap("cgroup: find mounts", err)
	}
	return parseMounts(text), nil
}

// parseMounts reads the form of proc_pid_mountinfo(5):
// id parent major:minor root mountpoint options fields... - type source superoptions.
func parseMounts(mountinfo []byte) []mount {
	var mounts []mount
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup2":
			mounts = append(mounts, mount{dir: unescape(l[4]), v2: true})
		case "cgroup":
			mounts = append(mounts, mount{dir: unescape(l[4]), options: strings.Split(r[2], ",")})
		}
	}
	return mounts
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// detect chooses v2 where the unified hierarchy has the memory controller, and
// v1 otherwise: a hybrid host has the controllers on v1.
func detect(mounts []mount) (hierarchy, string, error) {
	for _, m := range mounts {
		if !m.v2 {
			continue
		}
		text, err := os.ReadFile(m.dir + "/cgroup.controllers")
		offered := strings.Fields(string(text))
		if err != nil || !slices.Contains(offered, "memory") {
			continue
		}
		h := &v2{root: m.dir, controllers: []string{"cpu", "memory", "pids"}}
		// cpuset is for HotSpot, which wants to see it. With io a group's writes are
		// its own also when the kernel makes them later, and disks are shared by weight where
		// their scheduler can.
		for _, optional := range []string{"cpuset", "io"} {
			if slices.Contains(offered, optional) {
				h.controllers = append(h.controllers, optional)
			}
		}
		return h, "v2", nil
	}
	h := &v1{options: map[string]string{}}
	for _, want := range []struct {
		controller string
		at         *string
		optional   bool // runtimes look for it, sandboxes do without; new kernels can lack it on v1
	}{
		{"memory", &h.mem, false}, {"cpu", &h.cpu, false}, {"pids", &h.pids, false}, {"freezer", &h.freezer, false}, {"devices", &h.devices, false},
		{"cpuset", &h.cpuset, true}, {"cpuacct", &h.cpuacct, true},
	} {
		for _, m := range mounts {
			if slices.Contains(m.options, want.controller) {
				*want.at = m.dir
				h.options[m.dir] = strings.Join(controllers(m.options), ",")
				break
			}
		}
		if *want.at == "" && !want.optional {
			return nil, "", thaw.Errorf("cgroup: detect", thaw.Unavailable,
				"no cgroup hierarchy has the controller %q: mount cgroup2 or the v1 controllers", want.controller)
		}
	}
	return h, "v1", nil
}

// controllers returns the options of a v1 mount that name controllers: all but
// those of every file system and those that any hierarchy may have.
func controllers(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		return strings.Contains(o, "=") || slices.Contains([]string{"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"}, o)
	})
}
