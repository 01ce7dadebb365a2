// Package kept keeps signed answers of others in a folder, for use after a restart while those who
// signed them are out of reach.
//
// The folder is a cache. Its readers verify what they find as if it had just been fetched, and can do
// without it. So nothing is forced to the disk, and a file that is damaged counts as absent.
//
// The time of modification of a file is the time until which it is of use. A copy of the folder
// that does not preserve it is an empty cache.
package kept

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/durable"
)

const (
	temporaryPrefix = ".new-"          // begins the names under which files are written
	temporaryLife   = time.Hour        // of one that a crash has left
	pruneInterval   = 10 * time.Minute // between removals of what has ended
	maxLife         = 10 * 365 * 24 * time.Hour
	batch           = 1024 // names that are read from the folder at once
)

var errDamaged = errors.New("the file is damaged")

// Limits bound a [Folder]. What ends soonest makes room for what is new.
type Limits struct {
	Files int   // in the folder
	Bytes int64 // in all files together
}

// A Folder keeps named bytes. A nil *Folder keeps nothing. It is safe for concurrent use, by
// several processes too, each of which holds its own writing to the limits.
type Folder struct {
	root   *os.Root
	limits Limits
	log    *slog.Logger

	mu        sync.Mutex // guards what follows, and the files
	files     map[string]file
	bytes     int64
	nextPrune time.Time // of what has ended
	failing   bool      // the last write failed, and that has been logged
	closed    bool
}

// A file is one that is in the folder.
type file struct {
	size  int64
	until time.Time
}

// Open opens the folder, makes it if it is not there, and removes what is of no use any more. When
// something cannot be kept later, that is logged once, until it can be again. A nil log means silence.
//
// A folder that is put in the place of this one later is never written into.
func Open(dir string, limits Limits, log *slog.Logger) (*Folder, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{root: root, limits: limits, log: log, files: map[string]file{}}
	if err := f.scan(time.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the folder %s: %w", dir, err), root.Close())
	}
	return f, nil
}

// scan reads what is in the folder. Files of other names than ours stay as they are.
func (f *Folder) scan(now time.Time) error {
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	for {
		entries, err := dir.ReadDir(batch)
		for _, entry := range entries {
			if err := f.scanFile(entry.Name(), now); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			f.nextPrune = now
			return f.makeRoom("", 0, now)
		}
		if err != nil {
			return err
		}
	}
}

// scanFile adds a file that is there to those that are known, or removes it when it is of no use.
func (f *Folder) scanFile(name string, now time.Time) error {
	info, err := f.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process has removed it meanwhile
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return nil
	case strings.HasPrefix(name, temporaryPrefix):
		if now.Sub(info.ModTime()) > temporaryLife {
			return f.removeFile(name)
		}
	case isFileName(name):
		f.add(name, file{info.Size(), info.ModTime()})
		return f.makeRoom("", 0, now) // so that what is known is bounded too
	}
	return nil
}

// Get returns what was last put under the name, as far as it is still there and whole.
func (f *Folder) Get(name string) ([]byte, bool) {
	if f == nil {
		return nil, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := fileName(name)
	if _, known := f.files[id]; !known || f.closed {
		return nil, false
	}
	data, err := f.read(id)
	if err != nil {
		_ = f.removeFile(id) // the next Put replaces it otherwise
		return nil, false
	}
	return data, true
}

// Put keeps the data under the name, in the place of any before, until that time. Ten years are
// the most; once the time has come it may be removed, and no sooner but to make room. What was there before
// is removed also when the data cannot be kept: it is not what was said last.
func (f *Folder) Put(name string, data []byte, until time.Time) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	now := time.Now()
	if limit := now.Add(maxLife); until.After(limit) { // file systems may not be able to store a later time
		until = limit
	}
	id := fileName(name)
	err := f.put(id, data, until, now)
	if err != nil {
		err = errors.Join(err, f.removeFile(id))
	}
	f.logFailure(err)
}

// Remove removes what is kept under the name, by another process too.
func (f *Folder) Remove(name string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.logFailure(f.removeFile(fileName(name)))
	}
}

// Len returns how many files are in the folder, and how many bytes.
func (f *Folder) Len() (files int, size int64) {
	if f == nil {
		return 0, 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.files), f.bytes
}

// Close closes the folder, which keeps nothing from then on. What is in it stays there.
func (f *Folder) Close() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.root.Close()
}

// logFailure logs that something cannot be kept, once until something could be kept again (nil).
func (f *Folder) logFailure(err error) {
	if err != nil && !f.failing {
		f.log.Warn("a signed answer cannot be kept for the next start", slog.String("folder", f.root.Name()), slog.Any("error", err))
	}
	f.failing = err != nil
}

func (f *Folder) put(id string, data []byte, until, now time.Time) error {
	size := int64(sha256.Size + len(data))
	if !now.Before(until) || size > f.limits.Bytes || f.limits.Files < 1 {
		return f.removeFile(id) // which is older
	}
	if err := f.makeRoom(id, size, now); err != nil {
		return err
	}
	temporary := temporaryPrefix + rand.Text()
	err := f.write(temporary, id, data, until)
	if err == nil {
		err = f.root.Rename(temporary, id)
	}
	if err != nil {
		return errors.Join(err, durable.Remove(f.root, temporary))
	}
	f.add(id, file{size, until})
	return nil
}

// write writes the data behind a sum of them and of the name that the file will have.
func (f *Folder) write(temporary, id string, data []byte, until time.Time) error {
	file, err := f.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(sum(id, data))
	if err == nil {
		_, err = file.Write(data)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return f.root.Chtimes(temporary, until, until)
}

func (f *Folder) read(id string) ([]byte, error) {
	info, err := f.root.Lstat(id)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > f.limits.Bytes { // opening a pipe would block
		return nil, errDamaged
	}
	file, err := f.root.Open(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, f.limits.Bytes))
	if err != nil {
		return nil, err
	}
	if len(content) < sha256.Size || !bytes.Equal(content[:sha256.Size], sum(id, content[sha256.Size:])) {
		return nil, errDamaged
	}
	return content[sha256.Size:], nil
}

// makeRoom removes what has ended, from time to time, and what ends soonest when a file of that name
// and size would be too many: an eighth more than it must, so that not every Put has to look for it.
func (f *Folder) makeRoom(id string, size int64, now time.Time) error {
	before, known := f.files[id]
	files, total := f.limits.Files, f.limits.Bytes-size+before.size
	if size > 0 && !known {
		files--
	}
	over := len(f.files) > files || f.bytes > total
	if !over && now.Before(f.nextPrune) {
		return nil
	}
	f.nextPrune = now.Add(pruneInterval)
	byEnd := slices.SortedFunc(maps.Keys(f.files), func(a, b string) int {
		return cmp.Or(f.files[a].until.Compare(f.files[b].until), cmp.Compare(a, b))
	})
	for _, other := range byEnd {
		enough := !over || len(f.files) <= files-files/8 && f.bytes <= total-total/8
		if enough && now.Before(f.files[other].until) {
			break
		}
		if other == id {
			continue
		}
		if err := f.removeFile(other); err != nil {
			return err
		}
	}
	return nil
}

func (f *Folder) add(id string, kept file) {
	f.bytes += kept.size - f.files[id].size
	f.files[id] = kept
}

// removeFile removes a file, known or not.
func (f *Folder) removeFile(id string) error {
	f.bytes -= f.files[id].size
	delete(f.files, id)
	return durable.Remove(f.root, id)
}

// fileName is made of a digest: parts of the name can come from strangers, and it must be no path, and bounded.
func fileName(name string) string {
	digest := sha256.Sum256([]byte(name))
	return hex.EncodeToString(digest[:])
}

func isFileName(name string) bool {
	digest, err := hex.DecodeString(name)
	return err == nil && len(digest) == sha256.Size && name == hex.EncodeToString(digest)
}

// sum tells what was put under this name from what is damaged or was put under another.
func sum(id string, data []byte) []byte {
	hash := sha256.New()
	hash.Write([]byte(id))
	hash.Write(data)
	return hash.Sum(nil)
}
