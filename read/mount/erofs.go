package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// bdiFolder is where the kernel shows the readahead of each file system.
const bdiFolder = "/sys/class/bdi"

// Images mounts EROFS images. The zero value is ready. It is safe for
// concurrent use.
type Images struct {
	// ReadAheadKiB is how far the kernel reads ahead in a file, in KiB; zero
	// leaves its default of 128.
	ReadAheadKiB int

	mu sync.Mutex // one mount at a time, to tell whose readahead is whose
}

// Mount mounts the EROFS image in the file source on the folder target, read
// only, without device nodes and without effect of set-user-id bits. It needs
// no loop device; the error is [thaw.Unavailable] where the kernel can't do
// without (before 6.12).
func (m *Images) Mount(source, target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := erofsBDIs()
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID
	// "directio" keeps the kernel from caching the file beside what EROFS
	// caches of it. Kernels that lack the option read it as the server's
	// FOPEN_DIRECT_IO tells them to.
	err := unix.Mount(source, target, "erofs", flags, "directio")
	if errors.Is(err, syscall.EINVAL) {
		err = unix.Mount(source, target, "erofs", flags, "")
	}
	if errors.Is(err, syscall.ENOTBLK) {
		return thaw.Errorf("mount "+source, thaw.Unavailable, "this kernel mounts EROFS from block devices only: Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE is needed: %w", err)
	}
	if err != nil {
		return thaw.Wrap("mount "+source, err)
	}
	if m.ReadAheadKiB > 0 {
		m.setReadAhead(before)
	}
	return nil
}

// erofsBDIs lists the readahead settings of EROFS mounts. The kernel numbers
// them and tells nobody which is whose.
func erofsBDIs() map[string]bool {
	found := map[string]bool{}
	paths, _ := filepath.Glob(filepath.Join(bdiFolder, "erofs-*")) // the pattern is right
	for _, p := range paths {
		found[p] = true
	}
	return found
}

// setReadAhead sets it for the mounts that came since before: ours, and at
// worst one that somebody else made in the same moment, whom it does no harm.
// A sysfs that can't be written leaves the kernel's default, which only costs
// speed.
func (m *Images) setReadAhead(before map[string]bool) {
	for p := range erofsBDIs() {
		if !before[p] {
			_ = os.WriteFile(filepath.Join(p, "read_ahead_kb"), []byte(strconv.Itoa(m.ReadAheadKiB)), 0)
		}
	}
}

// CheckKernel reports, as [thaw.Unavailable] and in words for an operator, what
// the kernel lacks of what mounting images needs.
func CheckKernel() error {
	const op = "check the kernel"
	types, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return thaw.Wrap(op, err)
	}
	for _, want := range []string{"fuse", "erofs"} {
		if !hasLine(string(types), want) {
			return thaw.Errorf(op, thaw.Unavailable, "the file system %s is missing: modprobe %s", want, want)
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return thaw.Wrap(op, err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 6 || major == 6 && minor < 12) {
		return thaw.Errorf(op, thaw.Unavailable, "Linux %s is too old: EROFS on files needs 6.12", release)
	}
	return nil
}

func hasLine(text, fsType string) bool {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == fsType {
			return true
		}
	}
	return false
}
