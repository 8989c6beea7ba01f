// Package chunkmap draws an image as a map of its chunks: one cell a chunk, in
// the order of the image's address space, so that one sees how little of an
// image a start has read. It draws for a terminal, as SVG and as PNG.
package chunkmap

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
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

var palette = map[Cell]color.RGBA{
	Zero:      {0xee, 0xee, 0xee, 0xff},
	Untouched: {0xb8, 0xc4, 0xd0, 0xff},
	Touched:   {0xe8, 0x5d, 0x04, 0xff},
}

// side is the length of a cell's side in pixels, gap the space beside it.
const (
	side = 6
	gap  = 1
)

// WriteTerminal draws the map with block characters in rows of columns cells,
// at most rows of them; where the image has more chunks, a cell stands for
// several and shows Touched if any of them is. It returns how many chunks a
// cell stands for. With plain it uses ASCII instead of colours.
func WriteTerminal(w io.Writer, cells []Cell, columns, rows int, plain bool) (int, error) {
	perCell := max(1, (len(cells)+columns*rows-1)/(columns*rows))
	bw := bufio.NewWriter(w)
	for i, n := 0, 0; i < len(cells); i, n = i+perCell, n+1 {
		if n > 0 && n%columns == 0 {
			fmt.Fprintln(bw)
		}
		c := strongest(cells[i:min(i+perCell, len(cells))])
		if plain {
			fmt.Fprint(bw, string(" .#"[c]))
			continue
		}
		rgb := palette[c]
		fmt.Fprintf(bw, "\x1b[38;2;%d;%d;%dm■\x1b[0m", rgb.R, rgb.G, rgb.B)
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

// WriteSVG draws the map as SVG, each run of equal cells in a row one shape.
func WriteSVG(w io.Writer, cells []Cell, columns int) error {
	bw := bufio.NewWriter(w)
	rows := (len(cells) + columns - 1) / columns
	const pitch = side + gap
	fmt.Fprintf(bw, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" shape-rendering="crispEdges">`+"\n",
		columns*pitch+gap, rows*pitch+gap)
	fmt.Fprintln(bw, `<rect width="100%" height="100%" fill="white"/>`)
	for kind := Zero; kind <= Touched; kind++ {
		rgb := palette[kind]
		fmt.Fprintf(bw, `<path fill="#%02x%02x%02x" d="`, rgb.R, rgb.G, rgb.B)
		for i, c := range cells {
			if c == kind {
				fmt.Fprintf(bw, "M%d %dh%dv%dh-%dz", i%columns*pitch+gap, i/columns*pitch+gap, side, side, side)
			}
		}
		fmt.Fprintln(bw, `"/>`)
	}
	fmt.Fprintln(bw, "</svg>")
	return bw.Flush()
}

// WritePNG draws the map as PNG.
func WritePNG(w io.Writer, cells []Cell, columns int) error {
	rows := (len(cells) + columns - 1) / columns
	const pitch = side + gap
	colors := color.Palette{color.White, palette[Zero], palette[Untouched], palette[Touched]}
	img := image.NewPaletted(image.Rect(0, 0, columns*pitch+gap, rows*pitch+gap), colors)
	for i, c := range cells {
		x, y := i%columns*pitch+gap, i/columns*pitch+gap
		for dy := range side {
			for dx := range side {
				img.SetColorIndex(x+dx, y+dy, uint8(c)+1)
			}
		}
	}
	return png.Encode(w, img)
}
