// Package regular opens files that a server reads again and again while it runs.
package regular

import (
	"errors"
	"io/fs"
	"os"
)

// ErrOther says that something is no regular file.
var ErrOther = errors.New("it is a folder, a pipe or a device, and no regular file")

// Open opens a regular file, or one to which symbolic links lead, to be read. Anything else is refused without waiting: a named
// pipe would be waited for until somebody writes to it, and a device can be read without end. Its errors are of the type
// [*fs.PathError], with the Op "open".
func Open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|withoutWaiting, 0)
	if err != nil {
		return nil, err
	}
	// What was opened is looked at, and not the path, where something else may be by now.
	info, err := file.Stat()
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		err = cause.Err
	}
	if err == nil && !info.Mode().IsRegular() {
		err = ErrOther
	}
	if err != nil {
		_ = file.Close() // nothing was read
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return file, nil
}
