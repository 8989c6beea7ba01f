// SPDX-License-Identifier: Apache-2.0

// Command program is a function that takes what it can get: of what, ABUSE in
// its environment says. It answers with what it was told when it asked for more.
package main

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// turn is how long one invocation goes on.
const turn = 2 * time.Second

// abuses are by the names that ABUSE may have. Each goes on until ctx ends, and
// returns what it was told.
var abuses = map[string]func(ctx context.Context) string{
	"cpu": cpu, "memory": memory, "fork": fork, "sleep": sleep, "once": once, "init": sleep,
	"print": print, "lines": lines, "tmp": tmp, "inodes": inodes, "fsync": fsync, "reads": reads,
	"pipeline": pipeline, "half": half, "names": names, "sockets": sockets, "watches": watches,
	"connections": connections,
}

func main() {
	if d, err := time.ParseDuration(os.Getenv("ABUSE_INIT")); err == nil { // how long initialisation takes
		time.Sleep(d)
	}
	lambda.Start(func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, turn)
		defer cancel()
		return abuses[os.Getenv("ABUSE")](ctx), nil
	})
}

func sleep(ctx context.Context) string {
	<-ctx.Done()
	return ""
}

// once answers and ends, so that the next invocation is a cold start.
func once(context.Context) string {
	time.AfterFunc(10*time.Millisecond, func() { os.Exit(0) })
	return ""
}

func cpu(ctx context.Context) string {
	for range runtime.NumCPU() {
		go func() {
			for ctx.Err() == nil {
			}
		}()
	}
	<-ctx.Done()
	return ""
}

// memory touches memory until it is killed.
func memory(ctx context.Context) string {
	var all [][]byte
	for ctx.Err() == nil {
		block := make([]byte, 16<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
	}
	return "got " + strconv.Itoa(16*len(all)) + " MiB"
}
