package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	api      *peer.RuntimeAPI
	crun     *peer.Crun
	handlers []peer.Handler
	round    int
}

func openContainers(ctx context.Context, layout, dir string) (*containers, error) {
	api, err := peer.NewRuntimeAPI()
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
			err = handler.Configure(api.Address())
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
// last handler asked for an invocation. Of those whose handler has not, there are
// at most atOnce at a time. The i-th is of that function's image.
func (c *containers) start(n, atOnce int, function func(i int) int) (time.Duration, error) {
	if err := measure.DropPageCache(); err != nil {
		return 0, err
	}
	c.round++
	running := map[string]*exec.Cmd{}
	begin := time.Now()
	var err error
	for i := range n {
		if i >= atOnce {
			if err = c.api.Await(1, patience); err != nil {
				break
			}
		}
		id := fmt.Sprintf("thaw-burst-%d-%d-%d", os.Getpid(), c.round, i)
		var cmd *exec.Cmd
		if cmd, err = c.crun.Run(c.handlers[function(i)%len(c.handlers)], id); err != nil {
			break
		}
		running[id] = cmd
	}
	if err == nil {
		err = c.api.Await(min(n, atOnce), patience)
	}
	took := time.Since(begin)
	for id, cmd := range running {
		err = errors.Join(err, c.crun.End(cmd, id))
	}
	return took, err
}
