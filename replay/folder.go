package replay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/waybill-token/waybill/internal/durable"
)

// The files of a store.
const (
	lockFile     = "replay.lock"
	lifeFile     = "replay.life"
	handOverFile = "replay.hand-over"
)

// ErrInUse says that a store of this or another process has the folder. Processes that
// serve together need a store that they share.
var ErrInUse = durable.ErrInUse

// A folder is what a store keeps on the disk, for as long as it holds the lock.
type folder struct {
	*durable.Folder

	reached atomic.Int64 // what the mark of life says

	mu      sync.Mutex // for writing the mark
	mark    *os.File
	life    life // with the reach of the start
	settled bool // the mark is final
}

// read finds out what an earlier life left.
func (f *folder) read() past {
	var p past
	if data, err := f.ReadFile(lifeFile); err == nil {
		p.life, p.lifeErr = parseLife(data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		p.lifeErr = err
	}
	if data, err := f.ReadFile(handOverFile); err == nil {
		p.handOver, p.handOverErr = parseHandOver(data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		p.handOverErr = err
	}
	return p
}

// begin marks the new life and removes the hand-over, and both are on the disk before
// anybody is answered. Whichever of the two a power cut loses before that, the folder
// still tells the truth: nothing has been used yet.
func (f *folder) begin(l life) error {
	if err := f.Replace(lifeFile, l.encode()); err != nil {
		return err
	}
	mark, err := f.Open(lifeFile, os.O_WRONLY)
	if err != nil {
		return err
	}
	f.mark, f.life = mark, l
	f.reached.Store(l.reach)
	return f.Remove(handOverFile)
}

// raise notes that a pair issued before the second reach is about to be used. The
// writing is a copy into the kernel's memory, once a second at most, which outlives
// the process; see the package comment for what a power cut does. A nil folder keeps
// nothing.
func (f *folder) raise(reach int64) error {
	if f == nil || reach <= f.reached.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.settled:
		return ErrClosed
	case reach <= f.reached.Load():
		return nil
	}
	if _, err := f.mark.WriteAt(life{id: f.life.id, reach: reach, leeway: f.life.leeway}.encode(), 0); err != nil {
		return fmt.Errorf("mark of life: %w", err)
	}
	f.reached.Store(reach)
	return nil
}

// settle makes the mark final, and returns what it says: a use that comes too late must
// not raise it above what the hand-over says.
func (f *folder) settle() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = true
	return f.reached.Load()
}

// handOver leaves h for the next life. The mark is forced to the disk first: a mark
// that disagrees with the hand-over makes it a stray one. Another folder that has taken the
// path of this one gets nothing: it can be that of another store.
func (f *folder) handOver(h handOver) error {
	h.id = f.life.id
	if err := f.mark.Sync(); err != nil {
		return err
	}
	return f.Replace(handOverFile, h.encode())
}

// close lets go of the folder.
func (f *folder) close() error {
	var err error
	if f.mark != nil {
		err = f.mark.Close()
	}
	return errors.Join(err, f.Close())
}

// InUse reports whether a store has the folder, of this process or another. It leaves
// nothing behind.
func InUse(dir string) bool { return durable.InUse(dir, lockFile) }
