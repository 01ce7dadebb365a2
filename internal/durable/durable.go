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
	"runtime"

	"github.com/waybill-token/waybill/internal/permission"
)

const (
	// TemporaryPrefix begins the names under which [Create] writes, with a dot so that who
	// reads the folder passes them over. A crash leaves such a file behind, for the caller
	// to remove when it is old.
	TemporaryPrefix = ".new-"

	newSuffix = ".new" // ends the name under which [Folder.Replace] writes
)

// Create makes a file in a folder, unless there is one of that name, which then stays and is no
// error. The file belongs to whom the folder belongs to. Of all processes that try at the same moment one wins, and when Create has returned nil, the
// file of whoever won is on the disk. The file system must have hard links.
func Create(root *os.Root, name string, data []byte) error {
	temporary := TemporaryPrefix + rand.Text()
	folder, err := root.Stat(".")
	if err == nil {
		err = write(root, temporary, data, func(file *os.File) error { return ownAs(file, folder) })
	}
	if err == nil {
		// A hard link, other than a rename, never replaces a file.
		if err = root.Link(temporary, name); errors.Is(err, fs.ErrExist) {
			err = nil
		} else if err != nil {
			err = fmt.Errorf("naming a new file (the folder's file system must have hard links): %w", err)
		}
	}
	if err := errors.Join(err, Remove(root, temporary)); err != nil {
		return err
	}
	return syncFolder(root)
}

// ownAs gives a new file the owner of its folder: what root writes for the account of a server must be the server's.
func ownAs(file *os.File, folder fs.FileInfo) error {
	owner, known := permission.OwnerOf(folder)
	if !known || owner.User == os.Geteuid() {
		return nil
	}
	return file.Chown(owner.User, -1)
}

// Remove removes a file of a folder, if it is there.
func Remove(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write writes a file that was not there, has it finished, and waits for the disk.
func write(root *os.Root, name string, data []byte, finish func(*os.File) error) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = finish(file)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncFolder makes names last that are new, other or gone. Windows cannot do it, and writes
// them through by itself.
func syncFolder(root *os.Root) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
