// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
)

// screen is what output is drawn for.
type screen struct {
	width  int  // in characters
	colors bool // a terminal that shows them, to a user who wants them
}

// The widths of drawings: where the width is not known, and the least.
const (
	usualWidth = 80
	leastWidth = 40
)

// screenOf looks at where output goes: COLUMNS wins over what the terminal says
// of itself.
func screenOf(w io.Writer) screen {
	s := screen{width: usualWidth}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		s.colors = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			s.width = width
		}
	}
	if width, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && width > 0 {
		s.width = width
	}
	s.width = max(s.width, leastWidth)
	return s
}
