// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/alecthomas/kong"

	"thaw.dev/thaw/invoke/worker"
)

// TestServeDefaultsAreTheWorkers: what serve's help says of its flags is what
// the worker's own documentation and tests take for granted.
func TestServeDefaultsAreTheWorkers(t *testing.T) {
	var c cli
	parser, err := kong.New(&c, kong.Vars{"version": version})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	got, want := worker.Config{
		MaxSandboxes: c.Serve.Sandboxes, MaxStarts: c.Serve.Starts, MaxQueue: c.Serve.Queue,
		MaxFunctionStarts: c.Serve.FnStarts, MaxFunctionQueue: c.Serve.FnQueue, QueueWait: c.Serve.QueueWait, IdleTimeout: c.Serve.Idle, Reserve: c.Serve.Reserve,
	}, worker.Default()
	if got.MaxSandboxes != want.MaxSandboxes || got.MaxStarts != want.MaxStarts || got.MaxQueue != want.MaxQueue ||
		got.MaxFunctionStarts != want.MaxFunctionStarts || got.MaxFunctionQueue != want.MaxFunctionQueue || got.QueueWait != want.QueueWait ||
		got.IdleTimeout != want.IdleTimeout || got.Reserve != want.Reserve {
		t.Errorf("flags %+v\nworker %+v", got, want)
	}
}
