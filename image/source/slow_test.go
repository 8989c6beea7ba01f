// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	thaw "thaw.dev/thaw"
)

// trickle sends n bytes after each pause. Its end is a connection that breaks.
type trickle struct {
	n     int
	pause time.Duration
	left  int
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	time.Sleep(r.pause)
	n := min(len(p), r.n, r.left)
	r.left -= n
	return n, nil
}

func (*trickle) Close() error { return nil }

// TestSlowRegistry: a registry that always sends something, and never enough, is
// given up, however often it breaks the connection; one that is just fast enough
// is not, and neither is a slow reader.
func TestSlowRegistry(t *testing.T) {
	const size = 32 << 20
	for name, c := range map[string]struct {
		conn    trickle
		connect time.Duration // that a connection takes
		reader  time.Duration // pause of the reader after each read
		slow    bool
	}{
		"a byte every three seconds":      {conn: trickle{n: 1, pause: 3 * time.Second, left: size}, slow: true},
		"a byte for each slow connection": {conn: trickle{n: 1, left: 1}, connect: 50 * time.Second, slow: true},
		"just fast enough":                {conn: trickle{n: 80 << 10, pause: time.Second, left: size}},
		"a reader that is slow":           {conn: trickle{n: 1 << 20, left: size}, reader: 20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := openStream(t.Context(), size, func(context.Context, int64) (io.ReadCloser, error) {
					time.Sleep(c.connect)
					conn := c.conn
					return &conn, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				begun, p := time.Now(), make([]byte, 1<<20)
				for err == nil {
					_, err = s.Read(p)
					time.Sleep(c.reader)
				}
				if slow := errors.Is(err, errSlow); slow != c.slow || !slow && !errors.Is(err, io.EOF) {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				if c.slow && (thaw.KindOf(err) != thaw.Unavailable || time.Since(begun) > 3*slowTime) {
					t.Errorf("given up after %v as %v", time.Since(begun), thaw.KindOf(err))
				}
			})
		})
	}
}
