// Package regular opens files that a server reads again and again while it runs.
package regular

import (
	"errors"
	"io/fs"
	"os"
)

// ErrOther says that something is no regular file.
var ErrOther = errors.New("it is a folder, a pipe or a device, and no regular file")

// Open opens a regular file, or one to which symbolic links lead, to be read. What is something else is not even opened: to
// open a named pipe waits for somebody who writes to it, and a device can be read without end. Its errors are of the type
// [*fs.PathError].
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrOther}
	}
	return os.Open(path)
}
