package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// crunIn runs crun in a mount namespace without the unified control group,
// which crun refuses to see beside the old ones.
func crunIn(args ...string) *exec.Cmd {
	const script = `umount /sys/fs/cgroup/unified 2>/dev/null; exec crun --cgroup-manager=cgroupfs "$@"`
	return exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "crun"}, args...)...)
}

// writeBundle writes the OCI configuration of a container that is isolated as
// a function is, but on the host's network, where the Runtime API listens.
func writeBundle(bundle string, k kind, environ []string) error {
	spec := exec.Command("crun", "spec")
	spec.Dir = bundle
	_ = os.Remove(filepath.Join(bundle, "config.json"))
	if out, err := spec.CombinedOutput(); err != nil {
		return fmt.Errorf("crun spec: %w: %s", err, out)
	}
	path := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	process, _ := config["process"].(map[string]any)
	process["terminal"], process["args"], process["cwd"], process["env"] = false, k.args, k.dir, environ
	linux, _ := config["linux"].(map[string]any)
	var namespaces []any
	list, _ := linux["namespaces"].([]any)
	for _, ns := range list {
		if m, _ := ns.(map[string]any); m["type"] != "network" && m["type"] != "cgroup" {
			namespaces = append(namespaces, ns)
		}
	}
	linux["namespaces"] = namespaces
	if text, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
