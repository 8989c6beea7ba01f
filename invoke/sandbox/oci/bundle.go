// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/guard"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/pid1"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// Descriptors of process 1, the first extra files: the control socket and the
// program that it executes.
const (
	controlFD    = 3
	programFD    = 4
	preservedFDs = 2
)

// specVersion is what every runtime in use takes; nothing newer is used.
const specVersion = "1.0.2"

// bpfAnnotation names a file with a compiled filter to crun, which then does
// not compile the profile: a quarter of its start (crun(1)). Others pass it
// over and compile.
const bpfAnnotation = "run.oci.seccomp_bpf_file"

var inert = []string{"nosuid", "nodev", "noexec"}

// configure writes the bundle of a container.
func (c *container) configure(spec sandbox.Spec, order wire.Start) error {
	if err := os.Mkdir(c.bundle, 0o711); err != nil {
		return err
	}
	tmp, _, err := c.l.enclave.resolve(c.id, "tmp")
	if err != nil {
		return err
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: inert},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, inert...)},
		{Destination: "/dev", Type: "bind", Source: c.l.enclave.dev(), Options: []string{"bind", "ro", "nosuid", "noexec"}},
		{Destination: tmp, Type: "bind", Source: c.l.enclave.own(c.id, "tmp"), Options: []string{"bind", "nosuid", "nodev"}},
	}
	mounts = append(mounts, c.groupMounts()...)
	readOnly := append([]string{"bind", "ro"}, inert...)
	for i, text := range order.Machine.Texts() {
		f := wire.MachineFiles[i]
		if err := c.l.enclave.put(c.id, f.Name, text, pid1.HostID(c.holder.slot)); err != nil {
			return err
		}
		for _, path := range f.Paths {
			if _, err := os.Stat("/" + path); err == nil {
				mounts = append(mounts, specs.Mount{Destination: "/" + path, Type: "bind", Source: c.l.enclave.own(c.id, f.Name), Options: readOnly})
			}
		}
	}
	for name, text := range map[string]string{"hosts": order.Hosts, "resolv.conf": order.Resolv} {
		target, mode, err := c.l.enclave.resolve(c.id, "etc/"+name)
		if err != nil || mode&unix.S_IFMT != unix.S_IFREG || hides(tmp, target) {
			continue // the image has no such file, or links to what is mounted over it
		}
		if err := c.l.enclave.put(c.id, name, text, pid1.HostID(c.holder.slot)); err != nil {
			return err
		}
		mounts = append(mounts, specs.Mount{Destination: target, Type: "bind", Source: c.l.enclave.own(c.id, name), Options: readOnly})
	}
	text, err := json.Marshal(c.spec(spec, mounts))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.bundle, "config.json"), text, 0o600)
}

// hides reports whether a name in the root is below one of the folders that
// something is mounted on.
func hides(tmp, name string) bool {
	return slices.ContainsFunc([]string{"/proc", "/sys", "/dev", tmp}, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
}

// groupMounts shows a sandbox its own groups, and no others, where runtimes
// look for their limits.
func (c *container) groupMounts() []specs.Mount {
	options := append([]string{"bind", "ro"}, inert...)
	const at = "/sys/fs/cgroup"
	var mounts []specs.Mount
	dirs := c.l.groups.Dirs(c.id)
	if _, unified := dirs[""]; !unified {
		mounts = append(mounts, specs.Mount{Destination: at, Type: "bind", Source: c.l.enclave.cgroup(), Options: options})
	}
	for _, view := range c.l.groups.Views() {
		to := filepath.Join(at, view.Name)
		mounts = append(mounts, specs.Mount{Destination: to, Type: "bind", Source: dirs[view.Name], Options: options})
		for _, mask := range view.Masks {
			name, _, _ := strings.Cut(mask, "=")
			mounts = append(mounts, specs.Mount{Destination: filepath.Join(to, name), Type: "bind", Source: c.l.enclave.mask(name), Options: options})
		}
	}
	return mounts
}

func (c *container) spec(spec sandbox.Spec, mounts []specs.Mount) *specs.Spec {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(pid1.HostID(c.holder.slot)), Size: pid1.IDsPerSlot}}
	// What process 1 needs to become the function's user, and to give up these.
	caps := []string{"CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"}
	umask, oomScore := uint32(0o022), guard.Sandbox
	return &specs.Spec{
		Version: specVersion, Hostname: wire.Hostname, Mounts: mounts,
		Root:        &specs.Root{Path: c.l.enclave.root(c.id), Readonly: true},
		Annotations: map[string]string{bpfAnnotation: c.l.filter},
		Process: &specs.Process{
			Args: []string{fmt.Sprintf("/proc/self/fd/%d", programFD), "container"}, Cwd: "/",
			Env:  []string{"GOMAXPROCS=1", "GOGC=off"},
			User: specs.User{Umask: &umask}, NoNewPrivileges: true, OOMScoreAdj: &oomScore,
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Linux: &specs.Linux{
			CgroupsPath: c.l.groups.Path(c.id), UIDMappings: ids, GIDMappings: ids, Seccomp: c.l.profile,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace, Path: path(c.holder.user)}, {Type: specs.NetworkNamespace, Path: path(c.holder.net)},
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:   absolute(wire.MaskedFiles[:], wire.MaskedDirs[:]),
			ReadonlyPaths: absolute(wire.ReadOnlyPaths[:]),
		},
	}
}

func absolute(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, path := range list {
			out = append(out, "/"+path)
		}
	}
	return out
}
