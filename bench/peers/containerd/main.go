// SPDX-License-Identifier: Apache-2.0

// Command containerd is containerd with stargz-snapshotter built in: one daemon
// for both of the peers that bench/peers compares with. It is a module of its
// own, which keeps what peers depend on away from what the project depends on.
package main

import (
	"context"
	"fmt"
	"os"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/stargz-snapshotter/service"
)

func main() {
	registry.Register(&plugin.Registration{
		Type: plugins.SnapshotPlugin, ID: "stargz", Config: &service.Config{}, InitFn: stargz,
	})
	if err := command.App().Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "containerd:", err)
		os.Exit(1)
	}
}

// stargz makes the snapshotter with the configuration that it has by itself.
// Its own plugin does not ask the transfer service to say where layers come
// from; a pull would then fetch them whole.
func stargz(ic *plugin.InitContext) (any, error) {
	config, ok := ic.Config.(*service.Config)
	if !ok {
		return nil, fmt.Errorf("stargz: a configuration of type %T", ic.Config)
	}
	ic.Meta.Platforms = append(ic.Meta.Platforms, platforms.DefaultSpec())
	ic.Meta.Exports["enable_remote_snapshot_annotations"] = "true"
	return service.NewStargzSnapshotterService(ic.Context, ic.Properties[plugins.PropertyRootDir], config)
}
