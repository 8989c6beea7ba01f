// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
)

// functionScenarios are abuses by what functions do when they are invoked: the
// program in bench/neighbours/program does them.
var functionScenarios = []*scenario{
	running("cpu", "four functions of 1,769 MB compute", 1769, 4),
	running("memory", "two functions take memory until they are killed", 512, 2),
	running("fork", "two functions fork for ever", 512, 2),
	running("print", "two functions print as fast as they can", 128, 2),
	running("lines", "the same, in lines of one character", 128, 2),
	running("tmp", "two functions fill /tmp again and again", 512, 2),
	running("inodes", "two functions make empty files in /tmp", 512, 2),
	running("fsync", "two functions have the disk write", 512, 2),
	running("sockets", "two functions fill the buffers of connections that nobody reads", 128, 2),
	running("watches", "two functions make inotify instances and watches", 128, 2),
	running("names", "two functions look up names as fast as they can", 256, 2),
	running("pipeline", "two functions send requests to the Runtime API on 20 connections each", 256, 2),
	running("half", "two functions begin 63 requests to the Runtime API, with headers of 1 MiB", 256, 2),
	reading(),
	running("sleep", "150 invocations at once of a function that sleeps", 128, 150),
	initializing(),
	running("large", "16 invocations at once of a function of 2 GB that ends after each", 2048, 16),
	{
		name: "connections", what: "two functions with a network send datagrams to ever more addresses", flags: []string{"--network", "nat"},
		prepare: func(ctx context.Context, a *abuser) error { return a.prepareFunction(ctx, "connections", 256) },
		abuse:   func(ctx context.Context, a *abuser) { a.invoke(ctx, "connections", 2) },
	},
}

// running is a scenario of one function in each tenant, which is invoked n times
// at once, again and again.
func running(name, what string, memoryMB int32, n int) *scenario {
	return &scenario{name: name, what: what,
		prepare: func(ctx context.Context, a *abuser) error { return a.prepareFunction(ctx, name, memoryMB) },
		abuse:   func(ctx context.Context, a *abuser) { a.invoke(ctx, name, n) },
	}
}

// modes are the ABUSE of scenarios whose names are others.
var modes = map[string]string{"large": "once"}

// prepareFunction makes the function of a scenario, of the abusers' program.
func (a *abuser) prepareFunction(ctx context.Context, name string, memoryMB int32, more ...layer) error {
	program, err := programLayer(a.Program)
	if err != nil {
		return err
	}
	image, err := a.registry().push(ctx, name, append(more, program)...)
	if err != nil {
		return err
	}
	mode := name
	if m := modes[name]; m != "" {
		mode = m
	}
	if err := a.create(ctx, function{name: name, memoryMB: memoryMB, image: image, env: map[string]string{"ABUSE": mode}}); err != nil {
		return err
	}
	return a.await(ctx, name)
}

// reading is of an image with a large file.
func reading() *scenario {
	large := sync.OnceValues(func() (layer, error) { return randomLayer("large", 48<<20) })
	return &scenario{name: "reads", what: "six functions read pages of a large file here and there, and have the kernel forget them",
		prepare: func(ctx context.Context, a *abuser) error {
			l, err := large()
			if err != nil {
				return err
			}
			return a.prepareFunction(ctx, "reads", 1769, l)
		},
		abuse: func(ctx context.Context, a *abuser) { a.invoke(ctx, "reads", 6) },
	}
}

// initializing is of functions that take long to initialise.
func initializing() *scenario {
	const functions, each = 2, 8
	return &scenario{name: "init", what: "8 invocations at once of each of two functions that initialise for 9 s",
		prepare: func(ctx context.Context, a *abuser) error {
			program, err := programLayer(a.Program)
			if err != nil {
				return err
			}
			image, err := a.registry().push(ctx, "init", program)
			if err != nil {
				return err
			}
			for i := range functions {
				name := fmt.Sprint("init-", i)
				if err := a.create(ctx, function{name: name, image: image, env: map[string]string{"ABUSE": "init", "ABUSE_INIT": "9s"}}); err != nil {
					return err
				}
				if err := a.await(ctx, name); err != nil {
					return err
				}
			}
			return nil
		},
		abuse: func(ctx context.Context, a *abuser) {
			var both sync.WaitGroup
			for i := range functions {
				both.Go(func() { a.invoke(ctx, fmt.Sprint("init-", i), each) })
			}
			both.Wait()
		},
	}
}
