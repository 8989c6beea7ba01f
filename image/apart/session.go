// SPDX-License-Identifier: Apache-2.0

package apart

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
)

// session is one image, as the server serves the process that makes it.
type session struct {
	ctx     context.Context //nolint:containedctx // of one Run, which owns the session
	process *process
	layers  []ingest.Layer
	options ingest.Options
	adder   ingest.Adder
	request request
	results chan outcome

	reporting sync.Mutex // held while Progress is called; taken before no other

	mu     sync.Mutex
	errs   []error       // that the process was told, by number from 1
	opened map[int]*sent // layers by index

	copies sync.WaitGroup // of layers, to the process
}

// maxErrs bounds the errors that are kept for one process, which is at its end
// when it is told the first.
const maxErrs = 1000

func newSession(ctx context.Context, p *process, layers []ingest.Layer, o ingest.Options) *session {
	return &session{ctx: ctx, process: p, layers: layers, options: o, adder: ingest.NewAdder(o.Sink), opened: map[int]*sent{}, results: make(chan outcome, 1)}
}

// run serves the process until it has a result, has died, or ctx ends. Afterwards
// nothing of it is left.
func (s *session) run(r request) (ingest.Result, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	s.ctx, s.request = ctx, r
	var serving sync.WaitGroup
	for _, c := range s.process.conns {
		serving.Go(func() { s.serve(c) })
	}
	var out outcome
	var dead bool
	select {
	case out = <-s.results:
	case <-s.process.done:
		dead = true
	case <-ctx.Done():
	}
	cancel()
	s.process.kill()
	serving.Wait()
	s.copies.Wait()
	if dead {
		select {
		case out = <-s.results: // it ended as it should, just now
		default:
			return ingest.Result{}, died(s.process.err, r.MemoryBytes)
		}
	}
	if out.Failed == nil && out.Result.Image.IsZero() {
		return ingest.Result{}, context.Cause(ctx) // the caller's, who looks at it
	}
	return out.Result, s.restore(out.Failed)
}

// serve answers what comes by a connection until it is closed.
func (s *session) serve(c *conn) {
	for {
		op, payload, file, err := c.receive()
		if file != nil {
			_ = file.Close() // a process sends none
		}
		if err != nil {
			return
		}
		if op == opOpen {
			err = s.open(c, payload)
		} else {
			err = s.answer(c, op, payload)
		}
		if err != nil {
			return // the process is gone
		}
	}
}

// answer does what is asked; the error is the connection's.
func (s *session) answer(c *conn, op byte, payload []byte) error {
	reply, err := s.do(op, payload)
	if err != nil {
		return c.sendJSON(failed, s.tell(err))
	}
	return c.send(answered, reply)
}

func (s *session) do(op byte, payload []byte) ([]byte, error) {
	switch op {
	case opBegin:
		return json.Marshal(s.request)
	case opChunk:
		name, fresh, err := s.adder.Add(s.ctx, payload)
		reply := make([]byte, 1, 1+len(name))
		if fresh {
			reply[0] = 1
		}
		return append(reply, name[:]...), err
	case opSync:
		return nil, s.options.Sink.Sync(s.ctx)
	case opObject:
		var o object
		if err := json.Unmarshal(payload, &o); err != nil {
			return nil, err
		}
		return nil, s.options.Objects.PutObject(s.ctx, o.Key, o.Data)
	case opWrap:
		var w wrapping
		if err := json.Unmarshal(payload, &w); err != nil {
			return nil, err
		}
		return s.options.Keys.Wrap(s.ctx, s.options.Tenant, w.Key, w.Context)
	case opEnd:
		return nil, s.ended(payload)
	case opProgress:
		return nil, s.progress(payload)
	case opResult:
		var out outcome
		if err := json.Unmarshal(payload, &out); err != nil {
			return nil, err
		}
		select {
		case s.results <- out:
		default: // it has given one
		}
		return nil, nil
	}
	return nil, unexpected("call", op)
}

func (s *session) progress(payload []byte) error {
	var p ingest.Progress
	if err := json.Unmarshal(payload, &p); err != nil {
		return err
	}
	s.reporting.Lock()
	defer s.reporting.Unlock()
	if s.options.Progress != nil && s.ctx.Err() == nil {
		s.options.Progress(p)
	}
	return nil
}

// tell words an error for the process, and keeps it: what the process makes of it
// is to be the same error here.
func (s *session) tell(err error) failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := failure{Kind: thaw.KindOf(err), Text: err.Error()}
	if len(s.errs) < maxErrs {
		s.errs = append(s.errs, err)
		f.Number = len(s.errs)
	}
	return f
}

// restore makes an error of what a process said.
func (s *session) restore(f *failure) error {
	if f == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &restored{text: f.Text}
	if f.Number > 0 && f.Number <= len(s.errs) {
		e.cause = s.errs[f.Number-1]
	} else if f.Errno != 0 {
		e.cause = f.Errno
	}
	return &thaw.Error{Kind: f.Kind, Err: e}
}

// restored is an error of a process: its text, around what was an error here.
type restored struct {
	text  string
	cause error
}

func (e *restored) Error() string { return e.text }

func (e *restored) Unwrap() error { return e.cause }

// sent is a layer that the process reads.
type sent struct {
	done chan struct{} // closed once all of it was sent, or it failed
	err  error         // valid once done is closed
}

// file is implemented by layers that are files of this host: the process reads
// them itself.
type file interface{ Descriptor() *os.File }

// open sends a layer: its file, or a pipe that it comes by.
func (s *session) open(c *conn, payload []byte) error {
	i, err := strconv.Atoi(string(payload))
	if err == nil && (i < 0 || i >= len(s.layers)) {
		err = noSuchLayer(i)
	}
	var in io.ReadCloser
	if err == nil {
		in, err = s.layers[i].Open(s.ctx)
	}
	if err != nil {
		return c.sendJSON(failed, s.tell(err))
	}
	if f, ok := in.(file); ok && f.Descriptor() != nil {
		s.set(i, &sent{done: closedChan()})
		return errors.Join(c.sendFile(f.Descriptor()), in.Close())
	}
	r, w, err := os.Pipe()
	if err != nil {
		_ = in.Close()
		return c.sendJSON(failed, s.tell(err))
	}
	out := &sent{done: make(chan struct{})}
	s.set(i, out)
	unwatch := context.AfterFunc(s.ctx, func() { _ = w.Close() }) // ends a write that nobody reads
	s.copies.Go(func() {
		defer close(out.done)
		defer unwatch()
		closeIn := sync.OnceFunc(func() { _ = in.Close() })
		defer context.AfterFunc(s.ctx, closeIn)()
		_, err := io.Copy(w, in)
		closeIn()
		if !errors.Is(err, syscall.EPIPE) { // else the process wants no more
			out.err = err
		}
		_ = w.Close() // after out.err: then the process asks for it
	})
	return errors.Join(c.sendFile(r), r.Close())
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (s *session) set(i int, out *sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened[i] = out
}

// ended says why a layer has no more: nil at its end.
func (s *session) ended(payload []byte) error {
	i, err := strconv.Atoi(string(payload))
	if err != nil {
		return err
	}
	s.mu.Lock()
	out := s.opened[i]
	s.mu.Unlock()
	if out == nil {
		return noSuchLayer(i)
	}
	select {
	case <-out.done:
		return out.err
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}
