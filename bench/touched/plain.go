// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw/bench/measure"
)

// touchedBytes runs the image's handler from a plain EROFS image without
// readahead, through one invocation, and counts the pages that are cached then.
func touchedBytes(ctx context.Context, dir, layout, tag string) (int64, error) {
	img, err := measure.Image(layout, tag)
	if err != nil {
		return 0, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	image, root := filepath.Join(dir, "image.erofs"), filepath.Join(dir, "mnt")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return 0, err
	}
	for _, args := range [][]string{
		{"umoci", "unpack", "--image", layout + ":" + tag, filepath.Join(dir, "bundle")},
		{"mkfs.erofs", "-Enoinline_data", image, filepath.Join(dir, "bundle", "rootfs")},
		{"mount", "-t", "erofs", "-o", "ro,loop", image, root},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	defer func() { _ = unix.Unmount(root, 0) }()
	if err := noReadahead(root); err != nil {
		return 0, err
	}
	if err := invokeOnce(root, &config.Config); err != nil {
		return 0, err
	}
	return cachedBytes(root)
}

// noReadahead switches it off for the file system mounted on root.
func noReadahead(root string) error {
	var stat unix.Stat_t
	if err := unix.Stat(root, &stat); err != nil {
		return err
	}
	bdi := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	return os.WriteFile(bdi, []byte("0"), 0)
}

// invokeOnce runs a handler until it has answered one invocation and asks for
// the next.
func invokeOnce(root string, config *v1.Config) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	asked := make(chan struct{}, 8)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/next") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		asked <- struct{}{}
		if len(asked) > 1 { // the answer was posted, or will never be
			<-r.Context().Done()
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:bench")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"name":"bench"}`))
	})}
	go func() { _ = server.Serve(listener) }() // ends with Close
	defer server.Close()

	// Devices and /proc, as a sandbox has them, in a mount namespace that ends
	// with the handler.
	const script = `mount --make-rprivate / && for d in proc dev; do [ -d "$0/$d" ] && mount --rbind /$d "$0/$d"; done
[ -d "$0/tmp" ] && mount -t tmpfs tmpfs "$0/tmp"
exec /usr/sbin/chroot "$0" "$@"`
	command := append(append([]string{}, config.Entrypoint...), config.Cmd...)
	if dir := config.WorkingDir; dir != "" {
		command = append([]string{"/usr/bin/env", "-C", dir}, command...)
	}
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, root}, command...)...)
	cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + listener.Addr().String(), "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}, config.Env...)
	if len(config.Cmd) > 0 {
		cmd.Env = append(cmd.Env, "_HANDLER="+config.Cmd[0])
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	late := time.After(time.Minute)
	for {
		select {
		case <-late:
			return errors.New("the handler did not ask for a second invocation")
		case <-time.After(50 * time.Millisecond):
			if len(asked) > 1 {
				return nil
			}
		}
	}
}

// cachedBytes adds up the cached pages of all files below root.
func cachedBytes(root string) (int64, error) {
	var bytes int64
	page := os.Getpagesize()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		cached, err := cachedPages(path, int(info.Size()), page)
		bytes += int64(cached) * int64(page)
		return err
	})
	return bytes, err
}

func cachedPages(path string, size, page int) (int, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Munmap(memory) }()
	resident := make([]byte, (size+page-1)/page)
	if err := mincore(memory, resident); err != nil {
		return 0, err
	}
	n := 0
	for _, r := range resident {
		n += int(r & 1)
	}
	return n, nil
}
