// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"sync"
	"sync/atomic"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/view"
)

// images are the open images. Safe for concurrent use.
type images struct {
	options view.Options
	forget  func() // see Config.Forget
	pace    *pace

	mu   sync.Mutex
	byID map[thaw.ImageID]*imageFile
}

// add returns the file of an image, which opens itself when it is first read.
func (i *images) add(tenant thaw.TenantID, id thaw.ImageID) *imageFile {
	i.mu.Lock()
	defer i.mu.Unlock()
	if f := i.byID[id]; f != nil && f.tenant == tenant {
		return f
	}
	if i.byID == nil {
		i.byID = map[thaw.ImageID]*imageFile{}
	}
	f := &imageFile{tenant: tenant, id: id, options: i.options, forget: i.forget, pace: i.pace}
	i.byID[id] = f
	return f
}

// rest gives up what an image that is not mounted holds in memory. Its file opens
// itself again when it is read: so a start of the image that began meanwhile is
// not disturbed.
func (i *images) rest(id thaw.ImageID) {
	f, ok := i.get(id)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view, f.seen = nil, nil
}

// remove forgets an image whose file is not shown any more.
func (i *images) remove(id thaw.ImageID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, id)
}

func (i *images) get(id thaw.ImageID) (*imageFile, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f, ok := i.byID[id]
	return f, ok
}

// imageFile is an image as a file of the mount.
type imageFile struct {
	tenant  thaw.TenantID
	id      thaw.ImageID
	options view.Options
	forget  func()
	pace    *pace

	start atomic.Pointer[startWatch] // the one under way, nil else

	mu   sync.Mutex
	view *view.View // nil until it was opened; a failure is tried again
	seen *seen      // nil before the first read
}

// open returns the view. Whoever comes first opens it, the others wait.
func (f *imageFile) open(ctx context.Context) (*view.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.view == nil {
		v, err := view.Open(ctx, f.tenant, f.id, f.options)
		if err != nil {
			return nil, f.ourFault(err)
		}
		f.view = v
	}
	return f.view, nil
}

// ourFault is for what a mounted image lacks, which its reader did not name. A
// program that is told "no such file" would believe it.
// What is corrupt may be what is kept here: it is fetched again for the next
// reader.
func (f *imageFile) ourFault(err error) error {
	if err != nil && thaw.KindOf(err) == thaw.Corrupt {
		f.forget()
	}
	return thaw.OurFault("", err)
}

// Size returns the length of the image.
func (f *imageFile) Size(ctx context.Context) (int64, error) {
	v, err := f.open(ctx)
	if err != nil {
		return 0, err
	}
	return v.Size(), nil
}

// Read returns the bytes of the image from off on, as pieces.
func (f *imageFile) Read(ctx context.Context, off int64, n int) ([][]byte, error) {
	v, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	var pieces [][]byte
	if w := f.start.Load(); w != nil {
		pieces, err = w.read(ctx, v, off, n)
	} else {
		pieces, err = v.Read(ctx, off, n)
	}
	return pieces, f.ourFault(err)
}
