// SPDX-License-Identifier: Apache-2.0

package wire

// MaskedFiles, MaskedDirs and ReadOnlyPaths are the containers' defaults
// (github.com/opencontainers/runc, contrib; github.com/moby/moby, oci/defaults),
// relative to the root, and what tells of block devices: those of all sandboxes'
// /tmp are among them, with where their files are on the host and how much is
// written to them. Paths that the host does not have are passed over.
var (
	MaskedFiles = [...]string{
		"proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/interrupts",
		"proc/diskstats", "proc/partitions",
	}
	MaskedDirs = [...]string{
		"proc/acpi", "proc/asound", "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap",
		"sys/block", "sys/class/block", "sys/dev/block", "sys/devices/virtual/block",
		"sys/class/bdi", "sys/devices/virtual/bdi", "sys/fs/erofs", "sys/fs/ext4", "proc/fs",
	}
	ReadOnlyPaths = [...]string{"proc/bus", "proc/irq", "proc/sys", "proc/sysrq-trigger"}
)

// MachineFiles are the files through which a program counts processors and
// memory, by the name of the file that is bound over each. Paths that the host
// does not have are passed over.
var MachineFiles = [...]struct {
	Name  string
	Paths []string
}{
	{"cpus", []string{"sys/devices/system/cpu/online", "sys/devices/system/cpu/possible", "sys/devices/system/cpu/present"}},
	{"cpuinfo", []string{"proc/cpuinfo"}},
	{"stat", []string{"proc/stat"}},
	{"meminfo", []string{"proc/meminfo"}},
}
