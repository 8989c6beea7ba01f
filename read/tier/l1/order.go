// SPDX-License-Identifier: Apache-2.0

package l1

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/s3fifo"
)

// The saved order: magic with the version in its last byte, then an entry a
// file (name, size, queue, uses), then the SHA-256 of all before. It is a hint:
// which chunks are there is found by looking, and an order that can't be read
// is ignored.
const (
	orderMagic = "thawl1o\x01"
	orderEntry = 32 + 8 + 1 + 1
)

func (d *Disk) orderPath() string { return filepath.Join(d.dir, "order") }

func (d *Disk) saveOrder() error {
	d.mu.Lock()
	if !d.changed {
		d.mu.Unlock()
		return nil
	}
	d.changed = false
	b := make([]byte, 0, len(orderMagic)+d.files.Len()*orderEntry+sha256.Size)
	b = append(b, orderMagic...)
	for it := range d.files.Items() {
		b = append(b, it.Key[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(it.Value))
		queue := byte(0)
		if it.Main {
			queue = 1
		}
		b = append(b, queue, it.Uses)
	}
	d.mu.Unlock()
	sum := sha256.Sum256(b)
	tmp := filepath.Join(d.tmpDir(), "order")
	if err := os.WriteFile(tmp, append(b, sum[:]...), 0o600); err != nil {
		return thaw.Wrap("l1: save the order", err)
	}
	return thaw.Wrap("l1: save the order", os.Rename(tmp, d.orderPath()))
}

type item = s3fifo.Item[thaw.ChunkName, int64]

// parseOrder returns the entries of a saved order; nil if it is damaged.
func parseOrder(b []byte) []item {
	n := len(b) - len(orderMagic) - sha256.Size
	if n < 0 || n%orderEntry != 0 || !bytes.HasPrefix(b, []byte(orderMagic)) {
		return nil
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil
	}
	var items []item
	for e := range slices.Chunk(body[len(orderMagic):], orderEntry) {
		items = append(items, item{
			Key:   thaw.ChunkName(e[:32]),
			Value: int64(binary.BigEndian.Uint64(e[32:])),
			Main:  e[40] == 1,
			Uses:  e[41],
		})
	}
	return items
}

// load finds the files of an earlier process and puts them in the order it
// saved. Those it did not get to say anything of are entered last.
func (d *Disk) load() error {
	found, err := d.scan()
	if err != nil {
		return err
	}
	saved, _ := os.ReadFile(d.orderPath()) // absent or damaged: no hint
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range parseOrder(saved) {
		if size, ok := found[it.Key]; ok && size == it.Value {
			it.Cost = blockCost(size)
			d.enterLocked(it)
			delete(found, it.Key)
		}
	}
	for name, size := range found {
		d.enterLocked(item{Key: name, Value: size, Cost: blockCost(size)})
	}
	return nil
}

func (d *Disk) enterLocked(it item) {
	if !d.files.Restore(it) {
		d.doomed = append(d.doomed, chunkFile{it.Key, it.Value})
	}
}

// scan reads the names of the files, which say all there is to know. A file
// whose name is none of ours is left alone.
func (d *Disk) scan() (map[thaw.ChunkName]int64, error) {
	found := map[thaw.ChunkName]int64{}
	folders, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if len(folder.Name()) != 2 || !folder.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(d.dir, folder.Name()))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if f, ok := parseFileName(file.Name()); ok {
				found[f.name] = f.size
			}
		}
	}
	return found, nil
}

func parseFileName(s string) (chunkFile, bool) {
	hex, digits, ok := strings.Cut(s, ".")
	if !ok {
		return chunkFile{}, false
	}
	name, err := thaw.ParseChunkName(hex)
	if err != nil {
		return chunkFile{}, false
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size <= 0 || size > 2*thaw.MaxChunkBytes {
		return chunkFile{}, false
	}
	return chunkFile{name, size}, true
}
