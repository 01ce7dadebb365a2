// Package regular opens files that a server reads again and again while it runs, and waits for none.
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
	file, err := OpenAny(path)
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

// OpenAny opens a file of any kind, such as the pipe that <(…) makes. A named pipe that nobody writes to is not waited for,
// and empty; where somebody does, reading waits for what is written.
func OpenAny(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|withoutWaiting, 0) }
