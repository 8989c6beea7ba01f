// SPDX-License-Identifier: Apache-2.0

package apart

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
)

// Serve is the process: it waits for one image, makes it and returns. It ends the
// process where the server is gone. restrict is called before anything of a
// stranger's is read, and gives up what the process does not use; nil does not.
func Serve(ctx context.Context, restrict func()) error {
	n, err := strconv.Atoi(os.Getenv(connsEnv))
	if err != nil || n < 1 {
		return thaw.Errorf("make an image", thaw.Invalid, "thaw serve starts this, and nobody else")
	}
	const first = 3
	c := &caller{free: make(chan *conn, n)}
	for i := range n {
		conn, err := newConn(os.NewFile(uintptr(first+i), "server"))
		if err != nil {
			return thaw.Wrap("make an image", err)
		}
		c.free <- conn
	}
	line := os.NewFile(uintptr(first+n), "lifeline")
	go func() { // ends with the server, or the process
		_, _ = io.Copy(io.Discard, line)
		os.Exit(1)
	}()
	text, err := c.call(ctx, opBegin, nil)
	if err != nil {
		return nil // it was not needed
	}
	var r request
	if err := json.Unmarshal(text, &r); err != nil {
		return thaw.Wrap("make an image", err)
	}
	if err := confine(r.MemoryBytes); err != nil {
		return thaw.Wrap("make an image", err)
	}
	if restrict != nil {
		restrict()
	}
	result, err := ingest.Run(ctx, c.layers(r.Layers), r.Source, r.options(c))
	_, err = c.callJSON(ctx, opResult, newOutcome(result, err))
	return err
}

// confine bounds what this process can take. Beyond the first limit the collector
// works hard; at the second, which also counts memory that was given back, an
// allocation ends the process.
func confine(memory int64) error {
	memory = max(memory, MinMemoryBytes)
	debug.SetMemoryLimit(memory - 64<<20)
	hard := uint64(memory + memory/4)
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: hard, Max: hard}),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}

// outcome is what came of an image.
type outcome struct {
	Result ingest.Result
	Failed *failure
}

func newOutcome(r ingest.Result, err error) outcome {
	if err == nil {
		return outcome{Result: r}
	}
	f := &failure{Kind: thaw.KindOf(err), Text: thaw.Tell(err)}
	if theirs, ok := errors.AsType[*serverError](err); ok {
		f.Number = theirs.number
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		f.Errno = errno
	}
	return outcome{Failed: f}
}

// serverError is an error of the server, which knows it by its number.
type serverError struct {
	failure
	number int
}

func (e *serverError) Error() string { return e.Text }

// caller asks the server. It implements what an ingest needs of the world, and is
// safe for concurrent use.
type caller struct{ free chan *conn }

var (
	_ ingest.Adder   = (*caller)(nil)
	_ thaw.ChunkSink = (*caller)(nil)
	_ ingest.Wrapper = (*caller)(nil)
	_ ingest.Objects = (*caller)(nil)
)

// workers is how many chunks can be on their way at a time, with a connection left
// for all else.
func (c *caller) workers() int { return max(cap(c.free)-1, 1) }

// call waits for a connection that is free, and for the answer.
func (c *caller) call(ctx context.Context, op byte, payload []byte) ([]byte, error) {
	answer, file, err := c.exchange(ctx, op, payload)
	if file != nil {
		_ = file.Close() // not asked for
	}
	return answer, err
}

func (c *caller) callJSON(ctx context.Context, op byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return c.call(ctx, op, text)
}

func (c *caller) exchange(ctx context.Context, op byte, payload []byte) ([]byte, *os.File, error) {
	var conn *conn
	select {
	case conn = <-c.free:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { c.free <- conn }()
	if err := conn.send(op, payload); err != nil {
		return nil, nil, thaw.Errorf("ask the server", thaw.Unavailable, "%w", err)
	}
	status, answer, file, err := conn.receive()
	if err != nil {
		return nil, file, thaw.Errorf("ask the server", thaw.Unavailable, "%w", err)
	}
	if status == answered {
		return append([]byte(nil), answer...), file, nil
	}
	var f failure
	if err := json.Unmarshal(answer, &f); err != nil {
		return nil, file, err
	}
	return nil, file, &thaw.Error{Kind: f.Kind, Err: &serverError{failure: f, number: f.Number}}
}

// Add implements [ingest.Adder].
func (c *caller) Add(ctx context.Context, sealed thaw.SealedChunk) (name thaw.ChunkName, fresh bool, err error) {
	answer, err := c.call(ctx, opChunk, sealed)
	if err == nil && len(answer) != 1+len(name) {
		err = unexpected("answer of bytes:", len(answer))
	}
	if err != nil {
		return name, false, err
	}
	copy(name[:], answer[1:])
	return name, answer[0] == 1, nil
}

// Has implements [thaw.ChunkSink]; Add is what is used.
func (c *caller) Has(context.Context, thaw.ChunkName) (bool, error) { return false, nil }

// Put implements [thaw.ChunkSink]; Add is what is used.
func (c *caller) Put(ctx context.Context, chunk thaw.NamedChunk) error {
	_, _, err := c.Add(ctx, chunk.Sealed())
	return err
}

// Sync implements [thaw.ChunkSink].
func (c *caller) Sync(ctx context.Context) error {
	_, err := c.call(ctx, opSync, nil)
	return err
}

// PutObject stores the manifest.
func (c *caller) PutObject(ctx context.Context, key string, data []byte) error {
	_, err := c.callJSON(ctx, opObject, object{key, data})
	return err
}

// Wrap implements [ingest.Wrapper]. The tenant is the server's to know.
func (c *caller) Wrap(ctx context.Context, _ thaw.TenantID, key, context []byte) ([]byte, error) {
	return c.callJSON(ctx, opWrap, wrapping{key, context})
}

func (c *caller) progress(p ingest.Progress) {
	_, _ = c.callJSON(context.Background(), opProgress, p) // lost only with the server
}

// layers are the layers as this process opens them.
func (c *caller) layers(list []layer) []ingest.Layer {
	var layers []ingest.Layer
	for i, l := range list {
		layers = append(layers, ingest.Layer{
			Digest: l.Digest, DiffID: l.DiffID, MediaType: l.MediaType, Bytes: l.Bytes, Public: l.Public, Kept: l.Kept,
			Open: func(ctx context.Context) (io.ReadCloser, error) {
				_, file, err := c.exchange(ctx, opOpen, strconv.AppendInt(nil, int64(i), 10))
				if err == nil && file == nil {
					err = noSuchLayer(i)
				}
				if err != nil {
					return nil, err
				}
				return &content{File: file, end: func() error {
					_, err := c.call(ctx, opEnd, strconv.AppendInt(nil, int64(i), 10))
					return err
				}}, nil
			},
		})
	}
	return layers
}

// content is a layer as the server sends it.
type content struct {
	*os.File
	end func() error // says whether the end is the layer's
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	if errors.Is(err, io.EOF) {
		if failed := c.end(); failed != nil {
			err = failed
		}
	}
	return n, err
}
