// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"embed"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// initFiles holds initbin/thaw-init once `make build` (or `make init`) made it.
//
//go:embed all:initbin
var initFiles embed.FS

// Seal puts init, or another program that tests give, into a sealed file in memory, so that nobody can change
// it through /proc/1/exe or on disk (as CVE-2019-5736 did with runc).
func Seal(program []byte) (*os.File, error) {
	const op = "pid1: init"
	if program == nil {
		var err error
		if program, err = initFiles.ReadFile("initbin/thaw-init"); err != nil {
			return nil, thaw.Errorf(op, thaw.Unavailable, "this build lacks the program thaw-init: build with `make build`")
		}
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("thaw-init", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all were executable
		fd, err = unix.MemfdCreate("thaw-init", flags)
	}
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	f := os.NewFile(uintptr(fd), "thaw-init")
	if _, err := f.Write(program); err != nil {
		return nil, thaw.Wrap(op, errors.Join(err, f.Close()))
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, thaw.Wrap(op, errors.Join(err, f.Close()))
	}
	return f, nil
}
