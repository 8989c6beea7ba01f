// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"thaw.dev/thaw/internal/livetest"
)

// Abusers run in a process of their own, of the lowest priority: what they cost
// this machine themselves would be another machine's. It obeys its standard
// input, where an order comes first and then a line to begin; at the end of the
// input it takes back what it made, tells on its output what it was told, and
// ends. So it ends with its parent, however that does.

// abuseArg is the argument by which the program is that process.
const abuseArg = "-abuse"

// order is what the process is to do.
type order struct {
	Scenario string
	Endpoint string
	Region   string
	Program  string   // file of the abusers' function
	Remotes  []string // addresses for registries, one for each abuser
	Tenants  []livetest.Credentials
}

// prepareWait bounds what abusers prepare, and endWait how long they may take to
// end. Both are guards against hanging.
const (
	prepareWait = 2 * time.Minute
	endWait     = 20 * time.Second
)

// abusers is the process, as its parent has it.
type abusers struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	ended  chan struct{}
	report string
}

// abusers starts n of them, and returns when they are ready to begin.
func (w *world) abusers(ctx context.Context, s *scenario, n int) (*abusers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, err := w.abuserProgram(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("nice", "-n", "19", self, abuseArg)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of this program is not theirs
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &abusers{cmd: cmd, in: in, out: bufio.NewReader(out), ended: make(chan struct{})}
	text, err := json.Marshal(order{s.name, w.server.Endpoint, w.server.Region, file, w.remotes, w.tenants[:n]})
	if err == nil {
		_, err = fmt.Fprintf(in, "%s\n", text)
	}
	late := time.AfterFunc(prepareWait, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err == nil {
		var line string
		if line, err = a.out.ReadString('\n'); err == nil && line != "ready\n" {
			err = errors.New(strings.TrimSpace(line))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the abusers: %w", err), a.kill())
	}
	return a, nil
}

// begin has the abuse begin.
func (a *abusers) begin() { _, _ = io.WriteString(a.in, "begin\n") }

// end has it end, and returns what the abusers were told.
func (a *abusers) end() (told string, err error) {
	_ = a.in.Close()
	late := time.AfterFunc(endWait, func() { _ = a.cmd.Process.Kill() })
	defer late.Stop()
	text, err := io.ReadAll(a.out)
	_ = a.cmd.Wait() // what it said is all that counts
	return strings.TrimSpace(string(text)), err
}

// kill ends the process at once.
func (a *abusers) kill() error {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	return nil
}

// abuse is the process itself.
func abuse(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	s := find(o.Scenario)
	if s == nil {
		return fmt.Errorf("there is no scenario %s", o.Scenario)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	notes := &notes{counts: map[string]int{}}
	all, err := prepare(ctx, s, o, notes)
	if err != nil {
		fmt.Fprintln(out, cell(plain(err)))
		return nil
	}
	fmt.Fprintln(out, "ready")
	var running sync.WaitGroup
	if line, _ := lines.ReadString('\n'); line == "begin\n" {
		for _, a := range all {
			running.Go(func() { s.abuse(ctx, a) })
		}
		_, _ = io.Copy(io.Discard, lines) // until the end of the input
	}
	cancel()
	running.Wait()
	for _, a := range all {
		a.clean()
	}
	fmt.Fprintln(out, notes.most())
	return nil
}

// prepare makes what each abuser needs, one after the other.
func prepare(ctx context.Context, s *scenario, o order, notes *notes) ([]*abuser, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareWait)
	defer cancel()
	var all []*abuser
	for i, creds := range o.Tenants {
		a := newAbuser(o, i, creds, notes)
		all = append(all, a)
		if s.prepare == nil {
			continue
		}
		if err := s.prepare(ctx, a); err != nil {
			for _, a := range all {
				a.clean()
			}
			return nil, err
		}
	}
	return all, nil
}

// notes counts what abusers were told.
type notes struct {
	mu     sync.Mutex // guards what follows
	counts map[string]int
}

// add notes a text; an empty one says nothing.
func (n *notes) add(text string) {
	if text = strings.TrimSpace(text); text == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[changing.ReplaceAllString(text, "*")]++
}

func (n *notes) most() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return commonest(n.counts)
}
