// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// RuntimeAPI is the least that a handler needs to get as far as asking for an
// invocation; it never gets one. Peers that know no invocations are measured by
// it up to where a cold start ends. Any number of handlers may ask; [RuntimeAPI.Start]
// is for one at a time.
type RuntimeAPI struct {
	listener net.Listener
	server   *http.Server
	asked    chan struct{} // one for each handler
}

// mostHandlers is how many handlers may ask before somebody looks.
const mostHandlers = 4096

// NewRuntimeAPI listens on a port of the loopback. Close it.
func NewRuntimeAPI() (*RuntimeAPI, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &RuntimeAPI{listener: listener, asked: make(chan struct{}, mostHandlers)}
	a.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/invocation/next") {
			w.WriteHeader(http.StatusAccepted) // a handler that tells why it ends
			return
		}
		select {
		case a.asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	})}
	go func() { _ = a.server.Serve(listener) }() // until Close
	return a, nil
}

// Close ends it, and the connections of handlers that still wait.
func (a *RuntimeAPI) Close() { _ = a.server.Close() }

// Environ is the environment of a handler that is to ask here.
func (a *RuntimeAPI) Environ() []string {
	return []string{"AWS_LAMBDA_RUNTIME_API=" + a.listener.Addr().String(), "PATH=/usr/local/bin:/usr/bin:/bin", "_HANDLER=app.handler", "LANG=C.UTF-8"}
}

// startTimeout is a guard against handlers that never ask.
const startTimeout = 2 * time.Minute

// settleTime is the pause between two starts.
const settleTime = 100 * time.Millisecond

// Await returns when n handlers more have asked, or with an error if that takes
// longer than within.
func (a *RuntimeAPI) Await(n int, within time.Duration) error {
	late := time.After(within)
	for i := range n {
		select {
		case <-a.asked:
		case <-late:
			return fmt.Errorf("%d of %d handlers asked for an invocation within %v", i, n, within)
		}
	}
	return nil
}

// Start runs a command until its handler has asked for an invocation, and
// returns how long that took. Then it calls end, which is to end what the
// command's own process group does not hold, and kills that group.
func (a *RuntimeAPI) Start(cmd *exec.Cmd, end func()) (time.Duration, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Stderr = os.Stderr
	return a.StartBy(cmd, cmd.Start, end)
}

// StartBy is [RuntimeAPI.Start] of a command that start starts, in a process
// group of its own.
func (a *RuntimeAPI) StartBy(cmd *exec.Cmd, start func() error, end func()) (time.Duration, error) {
	for len(a.asked) > 0 { // by handlers that nobody waited for
		<-a.asked
	}
	begin := time.Now()
	if err := start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	var took time.Duration
	var err error
	select {
	case <-a.asked:
		took = time.Since(begin)
	case <-ended:
		err = fmt.Errorf("%v ended and never asked for an invocation: %v", cmd.Args, cmd.ProcessState)
	case <-time.After(startTimeout):
		err = fmt.Errorf("%v never asked for an invocation", cmd.Args)
	}
	end()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-ended
	time.Sleep(settleTime)
	return took, err
}

// ColdStart empties what drop says of the worker's caches (l1, kernel), and the
// page cache, and measures a start as [Bench.ColdInvoke] does.
func (b *Bench) ColdStart(ctx context.Context, function, drop string) (time.Duration, error) {
	if err := b.Fresh(ctx, function); err != nil {
		return 0, err
	}
	if _, err := b.Thaw(ctx, "cache", "drop", drop); err != nil {
		return 0, err
	}
	if err := DropPageCache(); err != nil {
		return 0, err
	}
	return b.ColdInvoke(ctx, function)
}

// bystander is a function that is not measured, and bystanderTag its image.
const bystander, bystanderTag = "bystander", "go-hello:2"

// Bystander makes the function that [Bench.ColdStartFromDisk] needs.
func (b *Bench) Bystander(ctx context.Context) error {
	layout, err := b.Images(ctx, "gzip", bystanderTag)
	if err != nil {
		return err
	}
	if err := b.Create(ctx, layout, bystanderTag, bystander); err != nil {
		return err
	}
	_, err = b.Invoke(ctx, bystander)
	return err
}

// diskTime is enough for what L1 has taken in to be written to its disk: that
// waits half a second.
const diskTime = 2 * time.Second

// ColdStartFromDisk measures a start as [Bench.ColdStart] does where L1 holds what
// the start reads, on disk only: the server is started anew, and has answered for
// the bystander, a function of another image.
func (b *Bench) ColdStartFromDisk(ctx context.Context, function string) (time.Duration, error) {
	time.Sleep(diskTime)
	if err := b.Restart(ctx); err != nil {
		return 0, err
	}
	if _, err := b.Invoke(ctx, bystander); err != nil {
		return 0, err
	}
	return b.ColdStart(ctx, function, "kernel")
}

// DropPageCache empties the kernel's caches of clean pages and of names.
func DropPageCache() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
