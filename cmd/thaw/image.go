// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/dustin/go-humanize"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/chunkmap"
)

// imageCmd groups the commands on images.
type imageCmd struct {
	Inspect imageInspectCmd `cmd:"" help:"Show what an image holds, what it shares, and what a start read of it."`
}

// imageReport is what the server tells of an image.
type imageReport struct {
	Image        thaw.ImageID    `json:"image"`
	Source       string          `json:"source"` // digest of the OCI manifest
	Function     string          `json:"function,omitempty"`
	ImageBytes   int64           `json:"imageBytes"` // size of the flattened image
	LayerBytes   int64           `json:"layerBytes"` // uncompressed layers
	MetaBytes    int64           `json:"metaBytes"`
	StoredBytes  int64           `json:"storedBytes"` // sealed chunks, each once
	Files        int64           `json:"files"`
	Dirs         int64           `json:"dirs"`
	Links        int64           `json:"symlinks"`
	Chunks       int             `json:"chunks"`
	ZeroChunks   int             `json:"zeroChunks"`
	PublicChunks int             `json:"publicChunks"` // in the domain common to all tenants
	SharedChunks int             `json:"sharedChunks"` // also in another image of this store
	TouchedBytes int64           `json:"touchedBytes"` // sealed bytes of the touched chunks
	Touched      int             `json:"touchedChunks"`
	Cells        []chunkmap.Cell `json:"cells"` // JSON: base64, one byte a chunk
}

type imageInspectCmd struct {
	tenantFlags
	Image string `arg:"" help:"A function's name or ARN, the reference it was created from, or an image id or digest, of which the beginning is enough."`
	Out   string `short:"o" help:"Draw the map of chunks into this file, .png or .svg, instead of on the terminal." placeholder:"FILE" type:"path"`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Run prints the figures and the map.
func (c *imageInspectCmd) Run(ctx context.Context, std streams) error {
	var report imageReport
	path := "/v1/tenants/" + url.PathEscape(c.Tenant) + "/images?image=" + url.QueryEscape(c.Image)
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, path, nil, &report); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, report)
	}
	report.print(std.out)
	if c.Out != "" {
		return report.draw(c.Out)
	}
	fmt.Fprintln(std.out)
	const rows = 16
	s := screenOf(std.out)
	_, err = chunkmap.WriteTerminal(std.out, report.Cells, s.width, rows, !s.colors)
	return err
}

func (r imageReport) print(w io.Writer) {
	size := func(n int64) string { return humanize.IBytes(uint64(n)) }
	percent := func(part, whole int64) string {
		if whole == 0 {
			return "0 %"
		}
		return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
	}
	fmt.Fprintf(w, "image     %s\nsource    %s\n", r.Image, r.Source)
	fmt.Fprintf(w, "size      %s flattened, of which metadata %s; %s in layers; %s stored\n", size(r.ImageBytes), size(r.MetaBytes), size(r.LayerBytes), size(r.StoredBytes))
	fmt.Fprintf(w, "holds     %d files, %d directories, %d symlinks\n", r.Files, r.Dirs, r.Links)
	fmt.Fprintf(w, "chunks    %d: %d of zeros (not stored), %d public, %d also in other images\n", r.Chunks, r.ZeroChunks, r.PublicChunks, r.SharedChunks)
	if r.Touched == 0 {
		fmt.Fprintln(w, "start     none recorded yet: invoke the function once")
		return
	}
	fmt.Fprintf(w, "start     read %d chunks, %s: %s of what is stored\n", r.Touched, size(r.TouchedBytes), percent(r.TouchedBytes, r.StoredBytes))
}

// draw makes a picture of the map.
func (r imageReport) draw(path string) error {
	draw := chunkmap.WritePNG
	switch {
	case strings.HasSuffix(path, ".svg"):
		draw = chunkmap.WriteSVG
	case !strings.HasSuffix(path, ".png"):
		return thaw.Errorf("draw "+path, thaw.Invalid, "the file's name must end in .png or .svg")
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	columns := 1
	for columns*columns < len(r.Cells)*2 {
		columns++
	}
	name := r.Function
	if name == "" {
		name = "image " + r.Image.String()[:16]
	}
	caption := chunkmap.Caption{Title: "What a start of " + name + " reads", Lines: []string{
		"image " + r.Image.String(),
		fmt.Sprintf("%s in %d chunks of at most 256 KiB; %d chunks, %s, were read", humanize.IBytes(uint64(r.ImageBytes)), r.Chunks, r.Touched, humanize.IBytes(uint64(r.TouchedBytes))),
	}}
	if err := draw(file, r.Cells, columns, caption); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}
