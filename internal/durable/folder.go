package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/waybill-token/waybill/internal/permission"
)

// ErrInUse says that this or another process has the folder.
var ErrInUse = errors.New("the folder is in use by another process")

// A Dir is a folder that was opened, and the path at which it was found. While it is open, no
// other folder can be mistaken for it.
type Dir struct {
	path string
	root *os.Root
}

// OpenDir opens a folder. The caller must close it.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path, root}, nil
}

// Lost is an error when the folder is not at its path any more. It wraps [fs.ErrNotExist] when
// nothing is there.
func (d *Dir) Lost() error {
	opened, err := d.root.Stat(".")
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	found, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the folder %s was removed: %w", d.path, fs.ErrNotExist)
	case err != nil:
		return err
	case !os.SameFile(opened, found):
		return fmt.Errorf("another folder has taken the place of %s", d.path)
	}
	return nil
}

// Close lets go of the folder.
func (d *Dir) Close() error { return d.root.Close() }

// A Folder is one that a process has for itself, as long as it holds the lock on a file in it. Names
// are those of files in the folder that was claimed, wherever it is now, and never in one that
// has taken its place.
type Folder struct {
	Dir

	lock *flock.Flock
	name string // of the lock
}

// Claim makes the folder, for its owner alone, if it is not there, and takes the lock with the name.
// [ErrInUse] means that another process, or another Folder of this one, has it. The file of the lock
// stays when the process ends, and means nothing then: what counts is the kernel's lock on it. The
// caller must close the folder.
func Claim(dir, name string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	opened, err := OpenDir(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{Dir: *opened, lock: flock.New(filepath.Join(dir, name)), name: name}
	ok, err := f.lock.TryLock()
	switch {
	case err != nil:
		err = fmt.Errorf("lock the folder: %w", err)
	case !ok:
		err = fmt.Errorf("%s: %w", f.path, ErrInUse)
	default:
		err = f.locked()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// locked is an error when the lock in the folder is not the one that was taken: another process can
// then have taken it.
func (f *Folder) locked() error {
	taken, err := f.lock.Stat()
	if err != nil {
		return err
	}
	found, err := f.root.Stat(f.name)
	if err != nil || !os.SameFile(taken, found) {
		return fmt.Errorf("the lock %s was removed, so that another process may use the folder", filepath.Join(f.path, f.name))
	}
	return nil
}

// Lost is an error when the folder is not at its path any more, as with [Dir], or not this process's
// alone: what is written into it is then not found after a restart, or by another.
func (f *Folder) Lost() error {
	if err := f.Dir.Lost(); err != nil {
		return err
	}
	return f.locked()
}

// IfThere makes nil of a file that is missing. It takes what [Folder.ReadFile] or
// [os.ReadFile] returns.
func IfThere(data []byte, err error) ([]byte, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// ReadFile reads a file.
func (f *Folder) ReadFile(name string) ([]byte, error) { return f.root.ReadFile(name) }

// Open opens a file that is there, with the flags of [os.OpenFile].
func (f *Folder) Open(name string, flags int) (*os.File, error) {
	return f.root.OpenFile(name, flags, 0)
}

// Replace puts a file in the place of any that is there. Whenever the power fails, the old one is there
// or the new one, whole; once Replace has returned nil, the new one.
//
// What a crash leaves beside the file, under its name with ".new" behind it, goes with the next
// Replace or [Folder.Remove].
func (f *Folder) Replace(name string, data []byte) error {
	return f.replace(name, data, func(*os.File) error { return nil })
}

// Rewrite is Replace for a file that others may read: one that is there keeps its owner, group and mode. A new one
// belongs to whom the folder belongs to.
func (f *Folder) Rewrite(name string, data []byte) error {
	before, err := f.root.Stat(name)
	isNew := errors.Is(err, fs.ErrNotExist)
	if isNew {
		before, err = f.root.Stat(".")
	}
	if err != nil {
		return err
	}
	return f.replace(name, data, func(file *os.File) error {
		if isNew {
			return ownAs(file, before)
		}
		if owner, known := permission.OwnerOf(before); known {
			if err := file.Chown(owner.User, owner.Group); err != nil {
				return err
			}
		}
		return file.Chmod(before.Mode().Perm())
	})
}

// replace has the new file finished before it gets the name.
func (f *Folder) replace(name string, data []byte, finish func(*os.File) error) error {
	if err := f.locked(); err != nil {
		return err
	}
	temporary := name + newSuffix
	if err := Remove(f.root, temporary); err != nil {
		return err
	}
	err := write(f.root, temporary, data, finish)
	if err == nil {
		err = f.root.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, Remove(f.root, temporary))
	}
	return syncFolder(f.root)
}

// Remove removes a file if it is there, and what a crash in [Folder.Replace] left beside it. Once it has
// returned nil, the file does not come back.
func (f *Folder) Remove(name string) error {
	if err := f.locked(); err != nil {
		return err
	}
	if err := errors.Join(Remove(f.root, name), Remove(f.root, name+newSuffix)); err != nil {
		return err
	}
	return syncFolder(f.root)
}

// Close gives the folder to the next who claims it.
func (f *Folder) Close() error { return errors.Join(f.lock.Unlock(), f.Dir.Close()) }

// InUse reports whether a process has claimed the folder by the lock with the name. It leaves nothing behind.
func InUse(dir, name string) bool {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	lock := flock.New(path)
	free, err := lock.TryLock()
	if free {
		err = lock.Unlock()
	}
	return err == nil && !free
}

// SyncFolder makes names last that are new in a folder, other or gone.
func SyncFolder(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(root), root.Close())
}

// CheckWritable makes sure that a file can be made and written in a folder, which must be there. It leaves nothing behind.
func CheckWritable(dir string) error {
	file, err := os.CreateTemp(dir, TemporaryPrefix+"check-*")
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, os.Getpagesize())) // a full disk takes an empty file
	return errors.Join(err, file.Close(), os.Remove(file.Name()))
}

// CheckLocks makes sure that a lock keeps others out in the file system of a folder, which must be there. It leaves
// nothing behind.
func CheckLocks(dir string) error {
	file, err := os.CreateTemp(dir, TemporaryPrefix+"lock-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it tells nothing about locks
	if err := file.Close(); err != nil {
		return err
	}
	one, other := flock.New(file.Name()), flock.New(file.Name())
	defer one.Close()   //nolint:errcheck // as above
	defer other.Close() //nolint:errcheck // as above
	if _, err := one.TryLock(); err != nil {
		return fmt.Errorf("the file system of %s has no locks: %w", dir, err)
	}
	if both, err := other.TryLock(); err != nil || both {
		return fmt.Errorf("locks keep nobody out in the file system of %s, so that two servers could use it at once", dir)
	}
	return nil
}
