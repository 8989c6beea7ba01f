// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/mount"
	"thaw.dev/thaw/read/proc"
)

// ClientConfig says how to run the two processes and what to keep.
type ClientConfig struct {
	RunDir string // made if absent; at most 90 bytes, for the sockets in it

	// Holder and Loader are the command lines of the two processes. With --adopt
	// the holder takes over the mount that the loader serves.
	Holder, Loader []string

	// IdleImages bounds the images that stay mounted while no sandbox uses
	// them, so that the next start finds the kernel's caches warm; zero means
	// 64. The one that was idle longest goes first.
	IdleImages int

	Output io.Writer    // of the processes; nil means os.Stderr
	Log    *slog.Logger // nil means slog.Default
}

// Client runs holder and loader and mounts images. It is safe for concurrent
// use.
type Client struct {
	config  ClientConfig
	control *http.Client
	images  mount.Images
	mounts  mounts
	opening sync.RWMutex // held for reading from an image's opening until it is mounted

	stop       context.CancelFunc
	supervised sync.WaitGroup // the supervisor, and reports of ended starts
}

// Start removes what a predecessor left in the run directory, starts holder
// and loader, and returns when the loader answers. Errors: [thaw.Unavailable]
// where the kernel is too old or the processes don't come up.
func Start(ctx context.Context, c ClientConfig) (*Client, error) {
	const op = "start the loader"
	if c.IdleImages == 0 {
		c.IdleImages = 64
	}
	if c.Output == nil {
		c.Output = os.Stderr
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if err := mount.CheckKernel(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	if err := CleanStale(c.RunDir); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	client := &Client{config: c}
	if err := client.makeFolders(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	socket := socketPath(c.RunDir)
	client.mounts.idleMax, client.mounts.lost = c.IdleImages, make(chan struct{})
	client.control = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 16,
	}}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	client.stop = stop
	processes, err := client.startBoth(life)
	if err != nil {
		stop()
		return nil, thaw.Wrap(op, err)
	}
	client.supervised.Go(func() { client.supervise(life, processes) })
	if _, err := client.Stats(ctx); err != nil {
		return nil, thaw.Wrap(op, errors.Join(err, client.Close(ctx)))
	}
	return client, nil
}

func (c *Client) makeFolders() error {
	run := c.config.RunDir
	for _, dir := range []string{run, openDir(run), holder.MountsDir(run), holder.FilesDir(run)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// CleanStale kills the processes and detaches the mounts that a crash left in
// the run directory. There must be no live client on it.
func CleanStale(runDir string) error {
	err := errors.Join(proc.KillRecorded(pidFile(runDir)), proc.KillRecorded(holder.PIDFile(runDir)),
		mount.DetachBelow(holder.MountsDir(runDir)), mount.Abort(holder.FilesDir(runDir)))
	if err != nil {
		return thaw.Wrap("clean "+runDir, err)
	}
	return thaw.Wrap("clean "+runDir, errors.Join(os.RemoveAll(openDir(runDir)), removeEmpty(holder.MountsDir(runDir))))
}

// removeEmpty removes the empty folders in dir. It never removes a file: if a
// mount were still there, its contents are not ours to touch.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	var failed []error
	for _, entry := range entries {
		failed = append(failed, ignoreMissing(os.Remove(filepath.Join(dir, entry.Name()))))
	}
	return errors.Join(failed...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close unmounts every image, ends the two processes and waits for them. Roots
// that are still attached fail from then on.
func (c *Client) Close(context.Context) error {
	c.stop()
	c.supervised.Wait()
	c.control.CloseIdleConnections()
	return CleanStale(c.config.RunDir)
}

const (
	// callTimeout bounds a call to the loader, its restart included.
	callTimeout = 20 * time.Second

	// callRetry is the pause before a call is tried again that found no loader.
	callRetry = 10 * time.Millisecond
)

// call makes a request of the control protocol. Where no loader answers, it is
// made again: every request may be repeated.
func call[Out any](ctx context.Context, c *Client, name string, in any) (Out, error) {
	op := "loader: " + name
	var out Out
	body, err := json.Marshal(in)
	if err != nil {
		return out, thaw.Wrap(op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		answered, err := c.post(ctx, name, body, &out)
		if err == nil || answered {
			return out, thaw.Wrap(op, err)
		}
		select {
		case <-ctx.Done():
			return out, thaw.Errorf(op, thaw.Unavailable, "the loader does not answer: %w", err)
		case <-time.After(callRetry):
		}
	}
}

// post sends a request once and reports whether it was answered at all.
func (c *Client) post(ctx context.Context, name string, body []byte, out any) (answered bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://loader/"+name, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	response, err := c.control.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(response.Body).Decode(&f); err != nil {
			return false, err
		}
		return true, thaw.Errorf("", thaw.ParseKind(f.Kind), "%s", f.Message)
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return false, err
	}
	return true, nil
}

// Stats returns what the loader has done since it was started.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return call[Stats](ctx, c, "stats", struct{}{})
}

// DropL1 empties the worker's own cache and returns the bytes it held. Images
// that are mounted keep what the kernel has cached of them; see
// [Client.DropKernel].
func (c *Client) DropL1(ctx context.Context) (bytes int64, err error) {
	return call[int64](ctx, c, "drop", struct{}{})
}

// DropL2 empties the zone's cache, for all workers, and returns the bytes it
// held; [thaw.NotFound] where there is none. Servers that don't answer are not
// emptied and are an error, the others are all the same.
func (c *Client) DropL2(ctx context.Context) (bytes int64, err error) {
	return call[int64](ctx, c, "drop-l2", struct{}{})
}

// Touched returns the chunks, by index and ascending, that recorded starts of
// the image have read.
func (c *Client) Touched(ctx context.Context, tenant thaw.TenantID, image thaw.ImageID) ([]int, error) {
	return call[[]int](ctx, c, "touched", imageRequest{Tenant: tenant, Image: image})
}
