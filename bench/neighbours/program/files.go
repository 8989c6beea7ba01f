// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// print writes to standard output as fast as it can.
func print(ctx context.Context) string {
	return write(ctx, bytes.Repeat(append(bytes.Repeat([]byte("x"), 1023), '\n'), 64))
}

// lines does so with lines of one character.
func lines(ctx context.Context) string {
	return write(ctx, bytes.Repeat([]byte("x\n"), 32<<10))
}

func write(ctx context.Context, block []byte) string {
	n := 0
	for ctx.Err() == nil {
		if _, err := os.Stdout.Write(block); err != nil {
			return err.Error()
		}
		n++
	}
	return fmt.Sprintf("printed %d MiB", n*len(block)>>20)
}

// tmp fills /tmp again and again.
func tmp(ctx context.Context) string {
	file, err := os.Create("/tmp/flood")
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	told, block := "", bytes.Repeat([]byte("flood"), 1<<18)
	for ctx.Err() == nil {
		if _, err := file.Write(block); err != nil {
			told = err.Error()
			_ = file.Truncate(0)
			_, _ = file.Seek(0, 0)
		}
	}
	return told
}

// fsync has the host's disk write as much as it can.
func fsync(ctx context.Context) string {
	file, err := os.Create("/tmp/sync")
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	block := bytes.Repeat([]byte("flood"), 1<<14)
	n := int64(0)
	for ; ctx.Err() == nil; n++ {
		if _, err := file.WriteAt(block, n%1024*int64(len(block))); err != nil {
			return err.Error()
		}
		if err := file.Sync(); err != nil {
			return err.Error()
		}
	}
	return fmt.Sprintf("wrote %d MiB", n*int64(len(block))>>20)
}

// inodes makes empty files until there are no more.
func inodes(ctx context.Context) string {
	told := ""
	for n, made := 0, 0; ctx.Err() == nil; n++ {
		file, err := os.Create(fmt.Sprintf("/tmp/empty-%d", n))
		if err != nil {
			if told == "" {
				told = fmt.Sprintf("%v, after %d files", err, made)
			}
			for i := range n {
				_ = os.Remove(fmt.Sprintf("/tmp/empty-%d", i))
			}
			n, made = 0, 0
			continue
		}
		made++
		_ = file.Close()
	}
	return told
}

// reads reads pages of a large file of the image here and there, and has the
// kernel forget them.
func reads(ctx context.Context) string {
	var readers sync.WaitGroup
	var pages atomic.Int64
	for range 4 {
		readers.Go(func() {
			file, err := os.Open("/large")
			if err != nil {
				return
			}
			defer file.Close()
			info, err := file.Stat()
			if err != nil {
				return
			}
			page := make([]byte, 4096)
			for ctx.Err() == nil {
				_, _ = file.ReadAt(page, rand.Int64N(info.Size()/4096)*4096)
				pages.Add(1)
				_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
			}
		})
	}
	readers.Wait()
	return fmt.Sprintf("read %d pages", pages.Load())
}
