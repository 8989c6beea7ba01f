// SPDX-License-Identifier: Apache-2.0

// Package chunkmap draws an image as a map of its chunks: one cell per chunk, in
// the order of the image's address space, so that one sees how little of an
// image a start has read. It draws for a terminal, as SVG and as PNG.
package chunkmap

import (
	"bufio"
	"fmt"
	"image/color"
	"io"
	"strings"
)

// Cell is what a chunk is to the start that the map shows.
type Cell uint8

// The cells. A chunk of zeros is stored nowhere; a touched chunk was read by
// the start, or fetched for it.
const (
	Zero Cell = iota
	Untouched
	Touched
)

// look is how a kind of cell is drawn, and what it is called in a legend.
type look struct {
	rgb   color.RGBA
	plain rune // without colours
	mark  rune // with them: the mark alone tells the kinds apart too
	words string
}

var looks = [...]look{
	Zero:      {color.RGBA{0xdd, 0xdd, 0xdd, 0xff}, '0', '·', "zeros, not stored"},
	Untouched: {color.RGBA{0x8f, 0xa8, 0xbf, 0xff}, '.', '▪', "not read"},
	Touched:   {color.RGBA{0xe8, 0x5d, 0x04, 0xff}, '#', '■', "read by a start"},
}

// kinds are the cells in the order of a legend.
var kinds = [...]Cell{Touched, Untouched, Zero}

// text is a cell on a terminal.
func (c Cell) text(plain bool) string {
	l := looks[c]
	if plain {
		return string(l.plain)
	}
	return fmt.Sprintf("\x1b[38;2;%d;%d;%dm%c\x1b[0m", l.rgb.R, l.rgb.G, l.rgb.B, l.mark)
}

// WriteTerminal draws the map in rows of columns cells, at most rows of them, and
// a legend; where the image has more chunks, a cell stands for several and shows
// Touched if any of them is. It returns how many chunks a cell stands for. With
// plain it uses ASCII and no colours.
func WriteTerminal(w io.Writer, cells []Cell, columns, rows int, plain bool) (int, error) {
	perCell := max(1, (len(cells)+columns*rows-1)/(columns*rows))
	bw := bufio.NewWriter(w)
	for i, n := 0, 0; i < len(cells); i, n = i+perCell, n+1 {
		if n > 0 && n%columns == 0 {
			fmt.Fprintln(bw)
		}
		fmt.Fprint(bw, strongest(cells[i:min(i+perCell, len(cells))]).text(plain))
	}
	fmt.Fprint(bw, "\n\n")
	scale := "one cell is one chunk"
	if perCell > 1 {
		scale = fmt.Sprintf("one cell is %d chunks", perCell)
	}
	at := 0
	for _, part := range append(kinds[:], Cell(len(looks))) {
		mark, words := "", scale
		if int(part) < len(looks) {
			mark, words = part.text(plain)+" ", looks[part].words
		}
		width := len(words)
		if mark != "" {
			width += 2
		}
		switch {
		case at > 0 && at+2+width > columns:
			fmt.Fprintln(bw)
			at = 0
		case at > 0:
			fmt.Fprint(bw, "  ")
			at += 2
		}
		fmt.Fprint(bw, mark+words)
		at += width
	}
	fmt.Fprintln(bw)
	return perCell, bw.Flush()
}

func strongest(cells []Cell) Cell {
	best := Zero
	for _, c := range cells {
		best = max(best, c)
	}
	return best
}

// Caption is what a picture says of its map.
type Caption struct {
	Title string
	Lines []string
}

// The measures of a picture, in pixels: a cell and the space beside it, a letter,
// and the margins.
const (
	side, gap = 8, 1
	pitch     = side + gap
	letter    = 7
	line      = 18
	margin    = 16
	axis      = 8 * letter // the numbers beside the rows
)

// picture is where everything stands.
type picture struct {
	Caption
	cells         []Cell
	columns, rows int
	top           int // of the map
	width, height int
}

func layout(cells []Cell, columns int, caption Caption) picture {
	p := picture{Caption: caption, cells: cells, columns: max(1, columns)}
	p.rows = (len(cells) + p.columns - 1) / p.columns
	p.Lines = append(p.Lines[:len(p.Lines):len(p.Lines)],
		fmt.Sprintf("One cell is one chunk, in the order of the image's addresses; a row is %d chunks.", p.columns),
		"The numbers count the chunks before a row.")
	p.top = margin + line*(len(p.Lines)+3)
	longest := len(p.Title)
	for _, l := range p.Lines {
		longest = max(longest, len(l))
	}
	p.width = max(margin*2+axis+p.columns*pitch, margin*2+longest*letter, margin*2+60*letter)
	p.height = p.top + p.rows*pitch + margin
	return p
}

// at is the corner of a cell.
func (p picture) at(i int) (x, y int) {
	return margin + axis + i%p.columns*pitch, p.top + i/p.columns*pitch
}

// numbered are the rows that have a number beside them.
func (p picture) numbered(do func(chunk, y int)) {
	step := max(1, (p.rows+9)/10)
	for step*pitch < line && step < p.rows {
		step++
	}
	for row := 0; row < p.rows; row += step {
		do(row*p.columns, p.top+row*pitch+side)
	}
}

// legend gives the place of each kind's sample and of its words.
func (p picture) legend(do func(kind Cell, x, y int, words string)) {
	x := margin
	for _, kind := range kinds {
		do(kind, x, p.top-line-side, looks[kind].words)
		x += side + letter + (len(looks[kind].words)+3)*letter
	}
}

// WriteSVG draws the map as SVG, all cells of a kind one shape.
func WriteSVG(w io.Writer, cells []Cell, columns int, caption Caption) error {
	p := layout(cells, columns, caption)
	bw := bufio.NewWriter(w)
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	fmt.Fprintf(bw, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="monospace" font-size="12">`+"\n", p.width, p.height)
	fmt.Fprintf(bw, "<title>%s</title>\n", escape(p.Title))
	fmt.Fprintln(bw, `<rect width="100%" height="100%" fill="white"/>`)
	fmt.Fprintf(bw, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", margin, margin+line/2, escape(p.Title))
	for i, l := range p.Lines {
		fmt.Fprintf(bw, `<text x="%d" y="%d">%s</text>`+"\n", margin, margin+line/2+line*(i+1), escape(l))
	}
	p.legend(func(kind Cell, x, y int, words string) {
		rgb := looks[kind].rgb
		fmt.Fprintf(bw, `<rect x="%d" y="%d" width="%d" height="%d" fill="#%02x%02x%02x"/>`, x, y, side, side, rgb.R, rgb.G, rgb.B)
		fmt.Fprintf(bw, `<text x="%d" y="%d">%s</text>`+"\n", x+side+letter, y+side, words)
	})
	p.numbered(func(chunk, y int) {
		fmt.Fprintf(bw, `<text x="%d" y="%d" text-anchor="end">%d</text>`+"\n", margin+axis-letter, y, chunk)
	})
	for kind := Zero; kind <= Touched; kind++ {
		rgb := looks[kind].rgb
		fmt.Fprintf(bw, `<path shape-rendering="crispEdges" fill="#%02x%02x%02x" d="`, rgb.R, rgb.G, rgb.B)
		for i, c := range cells {
			if c == kind {
				x, y := p.at(i)
				fmt.Fprintf(bw, "M%d %dh%dv%dh-%dz", x, y, side, side, side)
			}
		}
		fmt.Fprintln(bw, `"/>`)
	}
	fmt.Fprintln(bw, "</svg>")
	return bw.Flush()
}
