// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

// state is the runtime's, by the emulator's names, which its error messages
// show to runtimes.
type state string

const (
	stateStarted    state = "Started"
	stateInitError  state = "InitError"
	stateReady      state = "Ready"
	stateRunning    state = "Running"
	stateResponse   state = "InvocationResponse"
	stateErrorBody  state = "InvocationErrorResponse"
	stateSent       state = "RuntimeResponseSentState"
	stateClosed     state = "Closed"
	onlyTransitions       = "State transition is not allowed"
)

// Server is the Runtime API of one sandbox. It is safe for concurrent use: a
// runtime may call from several threads. Make one with [New].
type Server struct {
	ready      chan struct{}  // closed at the first `next`
	initFailed chan struct{}  // closed when init/error was posted
	closed     chan struct{}  // closed by Close
	running    sync.WaitGroup // a goroutine for each connection and each long write
	asked      atomic.Bool    // any request came

	options Options
	tokens  *fair.Bucket // see pace.go
	slowed  sync.Once
	life    context.Context //nolint:containedctx // ends with Close: what waits for room goes by it
	end     context.CancelFunc

	mu       sync.Mutex // guards what follows
	state    state
	initErr  Response
	turn     *Turn // the invocation in flight; nil in Started, Ready and InitError
	waiting  []*waiter
	listener net.Listener
	open     map[net.Conn]struct{}
}

// New returns the server of a runtime that has not called yet. Close it.
func New(o Options) *Server {
	if o.Answers == nil {
		o.Answers = NewAnswers()
	}
	s := &Server{
		ready:      make(chan struct{}),
		initFailed: make(chan struct{}),
		closed:     make(chan struct{}),
		options:    o,
		tokens:     fair.NewBucket(tokensPerSecond, tokensMost),
		state:      stateStarted,
		open:       map[net.Conn]struct{}{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Turn is one invocation in flight: from [Server.Begin] until the runtime asks
// for the next one.
type Turn struct {
	invocation Invocation
	answered   chan struct{}
	done       chan struct{}
	response   Response // written before answered is closed
}

// Answered is closed when the runtime's answer has arrived whole, or was given
// up on; it may stay open for ever if the runtime dies.
func (t *Turn) Answered() <-chan struct{} { return t.answered }

// Done is closed when the runtime has answered and asks for the next
// invocation: only then is the turn over and may the sandbox be frozen.
func (t *Turn) Done() <-chan struct{} { return t.done }

// Response is the answer; call it only after Answered is closed.
func (t *Turn) Response() Response { return t.response }

// Ready is closed when the runtime first asks for an invocation: the end of a
// successful init.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Asked reports whether the runtime, or whatever the program is, has made any
// request so far; also after Close.
func (s *Server) Asked() bool { return s.asked.Load() }

// InitFailed is closed when the runtime reports that its init failed; it never
// becomes ready after that.
func (s *Server) InitFailed() <-chan struct{} { return s.initFailed }

// InitError is what the runtime reported; call it only after InitFailed is
// closed.
func (s *Server) InitError() Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.initErr
}

// Begin hands an invocation to the runtime. It is [thaw.Conflict] unless the
// runtime is ready: between the close of [Server.Ready] or [Turn.Done] and the
// next Begin.
func (s *Server) Begin(inv Invocation) (*Turn, error) {
	s.tokens.Give(turnTokens)
	t := &Turn{invocation: inv, answered: make(chan struct{}), done: make(chan struct{})}
	w, err := s.begin(t)
	if err != nil {
		return nil, err
	}
	// Without a waiter the runtime's connection broke; its next `next` finds
	// the turn in flight.
	if w != nil {
		w.deliver(t)
	}
	return t, nil
}

func (s *Server) begin(t *Turn) (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateReady {
		return nil, thaw.Errorf("runtimeapi: begin "+t.invocation.ID, thaw.Conflict, "the runtime is in state %s", s.state)
	}
	s.state, s.turn = stateRunning, t
	if len(s.waiting) == 0 {
		return nil, nil
	}
	w := s.waiting[0]
	s.waiting = slices.Delete(s.waiting, 0, 1)
	return w, nil
}

// refusal is an answer to the runtime other than 200 and 202.
type refusal struct {
	status    int
	errorType string
	message   string
}

func forbidden(from, to state) *refusal {
	return &refusal{http.StatusForbidden, "InvalidStateTransition",
		"State transition from " + string(from) + " to " + string(to) + " failed for runtime. Error: " + onlyTransitions}
}

// waiter is a `next` that waits for its invocation.
type waiter struct {
	// deliver writes the answer without blocking; it is called once, without
	// Server.mu held.
	deliver func(*Turn)
}

// next returns the turn that a `next` gets at once, or none after it has put w
// among those who wait: then w.deliver is called by Begin, unless leave is
// first.
func (s *Server) next(w *waiter) (*Turn, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case stateStarted:
		close(s.ready)
	case stateSent:
		close(s.turn.done)
		s.turn = nil
	case stateReady:
	case stateRunning:
		// Asking again without having answered gets the same again: the
		// runtime may have lost the first answer.
		return s.turn, nil
	default:
		return nil, forbidden(s.state, stateReady)
	}
	s.state = stateReady
	s.waiting = append(s.waiting, w)
	return nil, nil
}

// leave withdraws a waiter whose connection broke.
func (s *Server) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(o *waiter) bool { return o == w })
}

// accept moves the turn of that id from Running to one of the two states in
// which its answer's body is read.
func (s *Server) accept(id string, to state) (*Turn, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.turn == nil || s.turn.invocation.ID != id:
		return nil, &refusal{http.StatusBadRequest, "InvalidRequestID", "Invalid request ID"}
	case s.state != stateRunning:
		return nil, forbidden(s.state, to)
	}
	s.state = to
	return s.turn, nil
}

// answer ends what accept began.
func (s *Server) answer(t *Turn, r Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateClosed {
		return
	}
	s.state = stateSent
	t.response = r
	close(t.answered)
}

// acceptInitError moves Started to InitError, before the report is read: only
// one report is ever held.
func (s *Server) acceptInitError() *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateStarted {
		return forbidden(s.state, stateInitError)
	}
	s.state = stateInitError
	return nil
}

// failInit ends what acceptInitError began.
func (s *Server) failInit(r Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.initErr = r
	close(s.initFailed)
}
