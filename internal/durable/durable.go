// Package durable writes files that are there after a power cut, and whole.
//
// A file is written under another name beside its own, forced to the disk, and only then
// given its name, which is forced to the disk as well. Only its owner can read it.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	// TemporaryPrefix begins the names under which [Create] writes, with a dot so that who
	// reads the folder passes them over. A crash leaves such a file behind, for the caller
	// to remove when it is old.
	TemporaryPrefix = ".new-"

	newSuffix = ".new" // ends the name under which Replace writes
)

// Replace puts a file in the place of any that is there. Whenever the power fails, the old
// one is there or the new one, whole; once Replace has returned nil, the new one.
//
// The caller sees to it that a file is replaced by one process at a time. What a crash leaves
// beside the file, under its name with ".new" behind it, goes with the next Replace or [Remove].
func Replace(path string, data []byte) error {
	temporary := path + newSuffix
	if err := remove(temporary); err != nil {
		return err
	}
	err := write(temporary, data)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, remove(temporary))
	}
	return syncFolder(filepath.Dir(path))
}

// Create makes a file, unless there is one of that name, which then stays and is no error. Of
// all processes that try at the same moment one wins, and when Create has returned nil, the
// file of whoever won is on the disk. The file system must have hard links.
func Create(path string, data []byte) error {
	temporary := filepath.Join(filepath.Dir(path), TemporaryPrefix+rand.Text())
	err := write(temporary, data)
	if err == nil {
		err = name(temporary, path)
	}
	if err := errors.Join(err, remove(temporary)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// name gives a file another name, if that is free. A hard link, other than a rename, never
// replaces a file.
func name(temporary, path string) error {
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("naming a new file (the folder's file system must have hard links): %w", err)
	}
	return nil
}

// Remove removes a file if it is there, and what a crash in [Replace] left beside it. Once it
// has returned nil, the file does not come back.
func Remove(path string) error {
	if err := errors.Join(remove(path), remove(path+newSuffix)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write writes a file that was not there, and waits for the disk.
func write(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncFolder makes names last that are new, other or gone. Windows cannot do it, and writes
// them through by itself.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
