package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// runtimeAPI is the least that a handler needs to get as far as asking for an
// invocation; it never gets one.
type runtimeAPI struct {
	listener net.Listener
	server   *http.Server
	asked    chan struct{}
}

func newRuntimeAPI() (*runtimeAPI, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &runtimeAPI{listener: listener, asked: make(chan struct{}, 1)}
	a.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case a.asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	})}
	go func() { _ = a.server.Serve(listener) }()
	return a, nil
}

func (a *runtimeAPI) address() string { return a.listener.Addr().String() }

func (a *runtimeAPI) close() { _ = a.server.Close() }

// start runs a command until its handler has asked for an invocation, and
// returns how long that took. container is crun's id of it, if it has one.
func (a *runtimeAPI) start(cmd *exec.Cmd, container string) (time.Duration, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var took time.Duration
	var err error
	select {
	case <-a.asked:
		took = time.Since(begin)
	case <-time.After(30 * time.Second):
		err = fmt.Errorf("%v never asked for an invocation", cmd.Args)
	}
	if container != "" {
		_ = crunIn("delete", "--force", container).Run()
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait()
	time.Sleep(settleTime)
	return took, err
}

// crunIn runs crun in a mount namespace without the unified control group,
// which crun refuses to see beside the old ones.
func crunIn(args ...string) *exec.Cmd {
	const script = `umount /sys/fs/cgroup/unified 2>/dev/null; exec crun --cgroup-manager=cgroupfs "$@"`
	return exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "crun"}, args...)...)
}

// writeBundle writes the OCI configuration of a container that is isolated as
// a function is, but on the host's network, where the Runtime API listens.
func writeBundle(bundle string, k kind, address string) error {
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
	process["terminal"], process["args"], process["cwd"], process["env"] = false, k.args, k.dir, environ(address)
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
