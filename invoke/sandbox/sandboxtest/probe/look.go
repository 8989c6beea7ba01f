// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// look tells what this process is and sees. sandboxtest.View decodes it.
func look(paths []string) {
	status := map[string]string{}
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			status[k] = strings.TrimSpace(v)
		}
	}
	keep := map[string]string{}
	for _, k := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NStgid"} {
		keep[k] = status[k]
	}
	host, _ := os.Hostname()
	dir, _ := os.Getwd()
	mask := unix.Umask(0)
	sid, _ := unix.Getsid(0)
	answer(map[string]any{
		"Status": keep, "Mounts": mounts(), "FDs": descriptors(), "UIDMap": file("/proc/self/uid_map"), "GIDMap": file("/proc/self/gid_map"),
		"Limits": limits(), "Env": os.Environ(), "Args": os.Args, "Dir": dir, "Hostname": host, "Namespaces": namespaces(),
		"Processes": visible(), "Cgroup": file("/proc/self/cgroup"), "OOMScore": file("/proc/self/oom_score_adj"), "Umask": mask,
		"Session": sid == os.Getpid(), "Interfaces": interfaces(), "Devices": list("/dev"), "Paths": access(paths), "Pid": os.Getpid(),
		"Priority": priority(), "MemoryLimit": memoryLimit(), "Root": list("/"), "Machine": machine(), "Sources": sources(),
	})
}

// priority returns the nice value, the scheduling policy and the priority of I/O.
func priority() []int {
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0) // the kernel's own number: 20 less the nice value
	policy, _, _ := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	const process = 1
	io, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, process, 0, 0)
	return []int{20 - nice, int(policy), int(io)}
}

func file(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return outcome(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// mounts returns "point type options" of each mount, in order.
func mounts() []string {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		out = append(out, l[4]+" "+r[0]+" "+l[5])
	}
	return out
}

// sources returns "point source options" of each mount, the options being those
// of its file system.
func sources() []string {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		r := strings.Fields(right)
		out = append(out, strings.Fields(left)[4]+" "+r[1]+" "+r[2])
	}
	return out
}

// descriptors lists what is open, but for the one that lists.
func descriptors() []string {
	var out []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(target, "/fd") && !strings.HasPrefix(target, "anon_inode:") {
			target, _, _ = strings.Cut(target, ":")
			out = append(out, e.Name()+" "+target)
		}
	}
	return out
}

func limits() map[string]string {
	out := map[string]string{}
	for name, which := range map[string]int{"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "core": unix.RLIMIT_CORE} {
		text, _ := os.ReadFile("/proc/self/limits")
		_ = text
		var l unix.Rlimit
		_ = unix.Getrlimit(which, &l)
		// Go raises the soft limit on files, so only the hard one tells.
		out[name] = strconv.FormatUint(l.Max, 10)
	}
	return out
}

func namespaces() map[string]string {
	out := map[string]string{}
	for _, ns := range []string{"user", "pid", "mnt", "ipc", "uts", "net", "cgroup"} {
		out[ns], _ = os.Readlink("/proc/self/ns/" + ns)
	}
	return out
}

func visible() []string {
	var out []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, e.Name()+" "+file("/proc/"+e.Name()+"/comm"))
		}
	}
	return out
}

func interfaces() []string {
	all, _ := net.Interfaces()
	var out []string
	for _, i := range all {
		out = append(out, i.Name)
	}
	return out
}

func list(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out
}

// access tells of each path its owner and mode, whether it can be read, and
// the first bytes.
func access(paths []string) map[string]string {
	out := map[string]string{}
	for _, p := range paths {
		var s syscall.Stat_t
		if err := syscall.Lstat(p, &s); err != nil {
			out[p] = outcome(err)
			continue
		}
		d := strconv.Itoa(int(s.Uid)) + ":" + strconv.Itoa(int(s.Gid)) + " " + strconv.FormatUint(uint64(s.Mode), 8)
		f, err := os.Open(p)
		if err == nil {
			b := make([]byte, 40)
			n, e := f.Read(b)
			if n > 0 && s.Mode&syscall.S_IFMT == syscall.S_IFREG {
				d += " " + strconv.Quote(string(b[:n]))
			} else {
				d += " read " + outcome(e)
			}
			_ = f.Close()
		} else {
			d += " open " + outcome(err)
		}
		out[p] = d
	}
	return out
}

// memoryLimit is what runtimes size their heaps by.
func memoryLimit() string {
	for _, path := range []string{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"} {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return ""
}

// machine is what runtimes count processors and memory by.
func machine() map[string]string {
	var set unix.CPUSet
	_ = unix.SchedGetaffinity(0, &set)
	lines := func(path, prefix string) string {
		text, _ := os.ReadFile(path)
		return strconv.Itoa(strings.Count("\n"+string(text), "\n"+prefix))
	}
	meminfo := strings.Fields(file("/proc/meminfo") + " - -")
	return map[string]string{
		"affinity": strconv.Itoa(set.Count()), "NumCPU": strconv.Itoa(runtime.NumCPU()), "GOMAXPROCS": strconv.Itoa(runtime.GOMAXPROCS(0)),
		"online": file("/sys/devices/system/cpu/online"), "possible": file("/sys/devices/system/cpu/possible"),
		"cpuinfo": lines("/proc/cpuinfo", "processor"), "stat": lines("/proc/stat", "cpu"), "MemTotal": meminfo[1],
		"groups": strings.Join(list("/sys/fs/cgroup"), " "), "quota": file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") + file("/sys/fs/cgroup/cpu.max"),
		"shares": file("/sys/fs/cgroup/cpu/cpu.shares") + file("/sys/fs/cgroup/cpu.weight"), "set": file("/sys/fs/cgroup/cpuset/cpuset.cpus"),
	}
}
