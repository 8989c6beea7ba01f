// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/bench/peer"
)

// patience is how long a burst may take.
const patience = 5 * time.Minute

// containers are the handlers of the mix, ready for crun.
type containers struct {
	api      *measure.RuntimeAPI
	crun     *peer.Crun
	handlers []peer.Handler
	round    int
}

func openContainers(ctx context.Context, layout, dir string) (*containers, error) {
	api, err := measure.NewRuntimeAPI()
	if err != nil {
		return nil, err
	}
	crun, err := peer.OpenCrun()
	if err != nil {
		api.Close()
		return nil, err
	}
	c := &containers{api: api, crun: crun}
	for _, tag := range measure.Mix {
		handler, err := peer.Unpack(ctx, layout, tag, filepath.Join(dir, "bundle-"+strings.ReplaceAll(tag, ":", "-")))
		if err == nil {
			err = handler.Configure(api.Environ())
		}
		if err != nil {
			c.close()
			return nil, err
		}
		c.handlers = append(c.handlers, handler)
	}
	return c, nil
}

func (c *containers) close() {
	c.crun.Close()
	c.api.Close()
}

// start runs n containers, nothing cached, and returns how long it took until the
// last handler asked for an invocation. The i-th is of that function's image.
func (c *containers) start(n int, function func(i int) int) (time.Duration, error) {
	if err := measure.DropPageCache(); err != nil {
		return 0, err
	}
	c.round++
	var running []peer.Container
	begin := time.Now()
	var err error
	for i := range n {
		id := fmt.Sprintf("thaw-burst-%d-%d-%d", os.Getpid(), c.round, i)
		container := c.crun.Container(c.handlers[function(i)%len(c.handlers)], id)
		if err = container.Start(); err != nil {
			break
		}
		running = append(running, container)
	}
	if err == nil {
		err = c.api.Await(n, patience)
	}
	took := time.Since(begin)
	for _, container := range running {
		container.Remove()
		_ = container.Cmd.Wait() // tells that it was killed
	}
	return took, err
}
