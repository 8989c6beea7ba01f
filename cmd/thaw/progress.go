// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// ingestStatus is how far the server is with a function's image.
type ingestStatus struct {
	Done      int64 `json:"done"`  // bytes of the layers, as stored, read so far
	Total     int64 `json:"total"` // bytes of the layers, as stored
	NewChunks int   `json:"newChunks"`
	Shared    int   `json:"sharedChunks"`
}

// progress draws the bars of thaw deploy, on a terminal only.
type progress struct {
	bars   *mpb.Progress
	once   sync.Once
	mu     sync.Mutex // guards what is below
	ingest *mpb.Bar
	last   ingestStatus
}

func newProgress(w io.Writer, quiet bool) *progress {
	file, ok := w.(*os.File)
	if quiet || !ok || !isatty.IsTerminal(file.Fd()) {
		w = nil // mpb then draws nothing
	}
	return &progress{bars: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))}
}

// bar adds a bar with bytes, rate and time left.
func (p *progress) bar(what string, total int64, extra ...decor.Decorator) *mpb.Bar {
	right := append([]decor.Decorator{
		decor.CountersKibiByte("% .1f / % .1f"),
		decor.AverageSpeed(decor.SizeB1024(0), "  % .1f"),
		decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), "  done"),
	}, extra...)
	// A bar made with a total ends only by reaching it; this one ends when it is
	// told to, however far the last report was.
	bar := p.bars.AddBar(0, mpb.PrependDecorators(decor.Name(what, decor.WC{W: 8, C: decor.DindentRight})), mpb.AppendDecorators(right...))
	bar.SetTotal(total, false)
	return bar
}

// watchPush draws a push until stop is called. Nobody closes updates: the client
// library still reports what it reads of a layer after the push has failed.
// These reports are dropped, for as long as the process lives.
func (p *progress) watchPush(updates <-chan v1.Update) (stop func()) {
	stopped, drawn := make(chan struct{}), make(chan struct{})
	go func() {
		p.drawPush(updates, stopped)
		close(drawn)
		for range updates { //nolint:revive // so that no sender waits
		}
	}()
	return func() {
		close(stopped)
		<-drawn
	}
}

// drawPush draws the reports of a push until stopped is closed.
func (p *progress) drawPush(updates <-chan v1.Update, stopped <-chan struct{}) {
	var bar *mpb.Bar
	for {
		select {
		case <-stopped:
			if bar != nil {
				bar.SetTotal(-1, true)
			}
			return
		case u := <-updates:
			if u.Error != nil || u.Total == 0 {
				continue
			}
			if bar == nil {
				bar = p.bar("push", u.Total)
			}
			bar.SetTotal(u.Total, false)
			bar.SetCurrent(u.Complete)
		}
	}
}

// showIngest draws how far the server is.
func (p *progress) showIngest(s ingestStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s
	if s.Total == 0 {
		return
	}
	if p.ingest == nil {
		p.ingest = p.bar("ingest", s.Total, decor.Any(func(decor.Statistics) string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.last.describe()
		}))
	}
	p.ingest.SetCurrent(s.Done)
}

// close completes what is drawn; a second call does nothing.
func (p *progress) close() {
	p.once.Do(func() {
		p.mu.Lock()
		bar := p.ingest
		p.mu.Unlock()
		if bar != nil {
			bar.SetTotal(-1, true)
		}
		p.bars.Wait()
	})
}

func (s ingestStatus) describe() string {
	return fmt.Sprintf("  chunks: %d new, %d shared", s.NewChunks, s.Shared)
}
