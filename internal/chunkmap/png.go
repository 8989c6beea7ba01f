// SPDX-License-Identifier: Apache-2.0

package chunkmap

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"strconv"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// WritePNG draws the map as PNG.
func WritePNG(w io.Writer, cells []Cell, columns int, caption Caption) error {
	p := layout(cells, columns, caption)
	colors := color.Palette{color.White, color.Black}
	for _, l := range looks {
		colors = append(colors, l.rgb)
	}
	img := image.NewPaletted(image.Rect(0, 0, p.width, p.height), colors)
	text := func(x, y int, s string) {
		d := font.Drawer{Dst: img, Src: image.Black, Face: basicfont.Face7x13, Dot: fixed.P(x, y)}
		d.DrawString(s)
	}
	square := func(x, y int, kind Cell) {
		draw.Draw(img, image.Rect(x, y, x+side, y+side), image.NewUniform(looks[kind].rgb), image.Point{}, draw.Src)
	}
	text(margin, margin+line/2, p.Title)
	text(margin+1, margin+line/2, p.Title) // bold
	for i, l := range p.Lines {
		text(margin, margin+line/2+line*(i+1), l)
	}
	p.legend(func(kind Cell, x, y int, words string) {
		square(x, y, kind)
		text(x+side+letter, y+side, words)
	})
	p.numbered(func(chunk, y int) {
		s := strconv.Itoa(chunk)
		text(margin+axis-letter-len(s)*letter, y, s)
	})
	for i, c := range cells {
		x, y := p.at(i)
		square(x, y, c)
	}
	return png.Encode(w, img)
}
