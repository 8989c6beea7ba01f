// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fill writes that many MiB to a file.
func fill(args []string) {
	f, err := os.Create(args[0])
	if err != nil {
		answer(map[string]any{"written": 0, "error": outcome(err)})
		return
	}
	block, written := make([]byte, 1<<20), 0
	for range number(args[1]) {
		n, e := f.Write(block)
		written += n
		if err = e; err != nil {
			break
		}
	}
	answer(map[string]any{"written": written, "error": outcome(err)})
}

// size tells the bytes of a file system and those that are free in it.
func size(args []string) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(args[0], &fs); err != nil {
		fail(err)
	}
	answer([]int64{int64(fs.Blocks) * fs.Bsize, int64(fs.Bavail) * fs.Bsize})
}

// ways are how files are written.
var ways = map[string]func(dir string, mb int) error{
	"once":    func(dir string, mb int) error { return pour(filepath.Join(dir, "once"), mb, 0) },
	"synced":  func(dir string, mb int) error { return pour(filepath.Join(dir, "synced"), mb, 1) },
	"mapped":  mapped,
	"small":   small,
	"removed": removed,
	"read":    readBack,
}

// files writes that many MiB in a way: way, folder, MiB, and "hold" to stay.
func files(args []string) {
	err := ways[args[0]](args[1], number(args[2]))
	fmt.Println("done", outcome(err))
	if len(args) > 3 {
		time.Sleep(time.Hour)
	}
}

// pour writes a file, and has it written to the disk after every so many MiB.
func pour(path string, mb, sync int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := bytes.Repeat([]byte{1}, 1<<20)
	for i := range mb {
		if _, err := f.Write(block); err != nil {
			return err
		}
		if sync > 0 && i%sync == 0 {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

func mapped(dir string, mb int) error {
	f, err := os.Create(filepath.Join(dir, "mapped"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(mb) << 20); err != nil {
		return err
	}
	memory, err := syscall.Mmap(int(f.Fd()), 0, mb<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	return syscall.Munmap(memory)
}

// small writes files of 16 KiB, in folders of 100.
func small(dir string, mb int) error {
	block := make([]byte, 16<<10)
	for i := range mb << 20 / len(block) {
		sub := filepath.Join(dir, fmt.Sprint("dir", i/100))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), block, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func removed(dir string, mb int) error {
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprint("removed", i))
		if err := pour(path, mb/4, 0); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

func readBack(dir string, mb int) error {
	path := filepath.Join(dir, "read")
	if err := pour(path, mb, 0); err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for range 2 {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		for range mb {
			if _, err := f.Read(block); err != nil || block[0] != 1 {
				return fmt.Errorf("read: %v", err)
			}
		}
		_ = f.Close()
	}
	return nil
}

// many makes empty files until it can't.
func many(args []string) {
	made := 0
	var err error
	for range number(args[1]) {
		var f *os.File
		if f, err = os.Create(filepath.Join(args[0], fmt.Sprint(made))); err != nil {
			break
		}
		_ = f.Close()
		made++
	}
	answer(map[string]any{"files": made, "error": outcome(err)})
}

// keep writes a file and reads it again and again.
func keep(args []string) {
	want := bytes.Repeat([]byte("keep"), number(args[1])<<18)
	if err := os.WriteFile(args[0], want, 0o600); err != nil {
		fail(err)
	}
	fmt.Println("wrote")
	for {
		got, err := os.ReadFile(args[0])
		if err != nil || !bytes.Equal(got, want) {
			fmt.Println("lost", err)
		} else {
			fmt.Println("kept")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stain looks for a text in a folder and in a new file that was never written,
// then leaves it there, many MiB of it.
func stain(args []string) {
	dir, text := args[0], []byte(args[1])
	found := []string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		fail(err)
	}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	path := filepath.Join(dir, "stain")
	f, err := os.Create(path)
	if err != nil {
		fail(err)
	}
	const span = 100 << 20
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, span); err != nil {
		found = append(found, "fallocate: "+outcome(err))
	}
	if old, err := os.ReadFile(path); err != nil || bytes.Contains(old, text) {
		found = append(found, fmt.Sprint("bytes ", err))
	}
	if err := os.WriteFile(path, bytes.Repeat(text, number(args[2])<<20/len(text)), 0o600); err != nil {
		fail(err)
	}
	if f, err := os.Open(path); err == nil {
		_ = f.Sync()
	}
	answer(found)
}
