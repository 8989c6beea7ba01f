// SPDX-License-Identifier: Apache-2.0

package chunkmap

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"strings"
	"testing"
)

func sample() []Cell {
	cells := make([]Cell, 250)
	for i := range cells {
		cells[i] = Untouched
	}
	cells[0], cells[99], cells[100], cells[249] = Touched, Touched, Zero, Touched
	return cells
}

func TestTerminalShowsEachChunk(t *testing.T) {
	var out strings.Builder
	per, err := WriteTerminal(&out, sample(), 100, 10, true)
	if err != nil || per != 1 {
		t.Fatalf("chunks a cell %d, error %v; want 1, none", per, err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 5 || lines[0][0] != '#' || lines[0][99] != '#' || lines[1][0] != '0' || lines[2] != strings.Repeat(".", 49)+"#" {
		t.Errorf("drew\n%s", out.String())
	}
}

func TestTerminalKeepsTouchedVisible(t *testing.T) {
	var out strings.Builder
	per, err := WriteTerminal(&out, sample(), 10, 5, true)
	if err != nil || per != 5 {
		t.Fatalf("chunks a cell %d, error %v; want 5, none", per, err)
	}
	drawing, legend, _ := strings.Cut(out.String(), "\n\n")
	if got := strings.Count(drawing, "#"); got != 3 {
		t.Errorf("%d touched cells, want 3:\n%s", got, out.String())
	}
	for _, words := range []string{"# read by a start", ". not read", "0 zeros", "one cell is 5 chunks"} {
		if !strings.Contains(legend, words) {
			t.Errorf("the legend lacks %q:\n%s", words, legend)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("plain output has escape codes")
	}
}

// TestLegendHasColours: the samples in the legend look as the cells do, and differ
// by their marks too.
func TestLegendHasColours(t *testing.T) {
	var out strings.Builder
	if _, err := WriteTerminal(&out, sample(), 100, 10, false); err != nil {
		t.Fatal(err)
	}
	_, legend, _ := strings.Cut(out.String(), "\n\n")
	marks := map[rune]bool{}
	for _, kind := range kinds {
		marks[looks[kind].mark] = true
		if !strings.Contains(legend, kind.text(false)+" "+looks[kind].words) {
			t.Errorf("the legend lacks the sample of %s:\n%q", looks[kind].words, legend)
		}
	}
	if len(marks) != len(kinds) {
		t.Error("two kinds have one mark")
	}
}

func TestPicturesHoldEachChunk(t *testing.T) {
	var svg, raster bytes.Buffer
	caption := Caption{Title: "What <f> reads", Lines: []string{"a & b"}}
	if err := WriteSVG(&svg, sample(), 50, caption); err != nil {
		t.Fatal(err)
	}
	var document struct {
		Title string   `xml:"title"`
		Texts []string `xml:"text"`
		Paths []struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal(svg.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	texts := strings.Join(document.Texts, "\n")
	for _, want := range []string{"What <f> reads", "a & b", "read by a start", "not read", "zeros", "One cell is one chunk", "\n200\n"} {
		if !strings.Contains(texts+"\n", want) {
			t.Errorf("the picture lacks %q:\n%s", want, texts)
		}
	}
	shapes := []int{}
	for _, p := range document.Paths {
		shapes = append(shapes, strings.Count(p.D, "z"))
	}
	if len(shapes) != 3 || shapes[0] != 1 || shapes[1] != 246 || shapes[2] != 3 {
		t.Errorf("shapes by kind %v, want [1 246 3]", shapes)
	}
	if err := WritePNG(&raster, sample(), 50, caption); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&raster)
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := img.At(layout(sample(), 50, caption).at(0)).RGBA(); r>>8 != 0xe8 || g>>8 != 0x5d || b>>8 != 0x04 {
		t.Errorf("the first cell is %x %x %x, want touched", r>>8, g>>8, b>>8)
	}
}
