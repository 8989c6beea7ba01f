// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/flatten"
)

// maxAccountBytes bounds the files that accounts changes, which are read into
// memory: 8 MiB of /etc/passwd name more than 100,000 users.
const maxAccountBytes = 8 << 20

// account is a file through which programs learn the names of users. edit
// returns what it is to hold, or nil if that is what it holds.
type account struct {
	path   string
	always bool // made where it is missing
	edit   func(old []byte) []byte
}

// accounts are these files. The function's user stands first, so that neither
// another entry for its number or name nor a last line without its end matters.
func accounts() []account {
	user := fmt.Sprintf("%s:x:%d:%d::%s:/sbin/nologin\n", thaw.UserName, thaw.UserID, thaw.GroupID, thaw.UserHome)
	group := fmt.Sprintf("%s:x:%d:\n", thaw.UserName, thaw.GroupID)
	return []account{
		{"etc/passwd", true, first(user)},
		{"etc/group", true, first(group)},
		{"etc/nsswitch.conf", false, askFiles},
	}
}

func first(line string) func([]byte) []byte {
	return func(old []byte) []byte {
		if bytes.HasPrefix(old, []byte(line)) {
			return nil
		}
		return append([]byte(line), old...)
	}
}

// askFiles makes an nsswitch.conf ask the files for users and groups before
// anything else.
func askFiles(old []byte) []byte {
	var out strings.Builder
	changed := false
	for line := range strings.Lines(string(old)) {
		name, services, ok := strings.Cut(line, ":")
		database := strings.TrimSpace(name)
		if fields := strings.Fields(services); ok && (database == "passwd" || database == "group") && (len(fields) == 0 || fields[0] != "files") {
			line, changed = name+": files "+strings.TrimLeft(services, " \t"), true
		}
		out.WriteString(line)
	}
	if !changed {
		return nil
	}
	return []byte(out.String())
}

// made is what stands above the image's layers: files that ingest made of
// theirs.
type made struct {
	files  [][]byte // by ordinal
	public bool     // all layers that they were made of are
}

// nameUser gives the function's user its name, in the files of a tree whose
// layers are all applied.
func (g *ingest) nameUser(ctx context.Context, e flatten.Editor) error {
	at := len(g.layers)
	g.made.public = len(g.layers) == 0 || g.layers[0].Public
	g.scanned = append(g.scanned, scanned{})
	s := layerScan{ingest: g, shadow: &flatten.Shadow{}, out: &g.scanned[at]}
	for _, a := range accounts() {
		source, ok, err := e.Find(a.path)
		if err != nil {
			return err
		}
		if !ok && !a.always {
			continue
		}
		old, err := g.bytesOf(ctx, a.path, source)
		if err != nil {
			return err
		}
		data := a.edit(old)
		if data == nil {
			continue
		}
		g.made.public = g.made.public && (len(old) == 0 || source.Layer == at || g.layers[source.Layer].Public)
		g.made.files = append(g.made.files, data)
		if err := e.Write(a.path, flatten.Source{Layer: at, Ordinal: len(g.made.files) - 1, Size: int64(len(data))}); err != nil {
			return err
		}
	}
	s.domain = g.layerDomain(at)
	g.files = 0 // these few bytes are not the image's to answer for
	return g.eachMade(func(f flatten.FileHeader, r io.Reader) error { return s.file(ctx, f, r) })
}

// eachMade shows the made files as a scan shows those of a layer.
func (g *ingest) eachMade(file func(flatten.FileHeader, io.Reader) error) error {
	for i, data := range g.made.files {
		if err := file(flatten.FileHeader{Ordinal: i, Size: int64(len(data))}, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

// bytesOf returns the bytes of a file: from what was made, from the hold, or
// from its layer, which is read once more.
func (g *ingest) bytesOf(ctx context.Context, path string, s flatten.Source) ([]byte, error) {
	if s.Ordinal < 0 {
		return nil, nil
	}
	if s.Size > maxAccountBytes {
		return nil, thaw.Errorf("", thaw.Invalid, "/%s of %d bytes is too large for the name of the function's user to be added: make it smaller than %d bytes", path, s.Size, maxAccountBytes)
	}
	if s.Layer == len(g.layers) {
		return g.made.files[s.Ordinal], nil // two of the paths lead to one file
	}
	data := make([]byte, s.Size)
	if at := g.scanned[s.Layer].held[s.Ordinal]; at != notHeld {
		return data, g.hold.read(data, at)
	}
	g.counters.total.Add(max(g.layers[s.Layer].Bytes, 0))
	g.rereading = true
	defer func() { g.rereading = false }()
	_, err := g.readLayer(ctx, s.Layer, flatten.ScanOptions{FilesOnly: true, File: func(f flatten.FileHeader, r io.Reader) error {
		if f.Ordinal != s.Ordinal {
			return nil
		}
		if f.Size != s.Size {
			return g.layers[s.Layer].corrupt("a file of it changed while it was read twice")
		}
		_, err := io.ReadFull(r, data)
		return err
	}})
	return data, err
}
