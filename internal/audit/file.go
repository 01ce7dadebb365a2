package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/waybill-token/waybill/internal/durable"
)

// maxLine is more than any entry takes: each of its texts is bounded, and a byte takes six in JSON at the most.
const maxLine = 64 << 10

// A chain is where a trail goes on: the number and the hash of its last entry.
type chain struct {
	number uint64
	hash   string
}

// An end is what a file ends with.
type end struct {
	chain
	torn  []byte // behind the last whole line; empty: nothing
	ended bool   // with a line feed, or with nothing at all
}

// readEnd finds the end of a trail. An empty file has none: the zero chain.
func readEnd(f *os.File) (e end, err error) {
	info, err := f.Stat()
	if err != nil {
		return e, err
	}
	size := info.Size()
	from := max(0, size-2*maxLine)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return e, err
	}
	whole := bytes.LastIndexByte(b, '\n') + 1
	e.torn, e.ended = b[whole:], whole == len(b)
	if len(e.torn) > maxLine || whole == 0 && from > 0 {
		return e, fmt.Errorf("%s: %w", f.Name(), ErrDamaged)
	}
	if last, hash, err := parse(e.torn); err == nil { // all but the line feed
		e.chain, e.torn = chain{last.Number, hash}, nil
		return e, nil
	}
	if whole == 0 {
		return e, nil
	}
	b = b[:whole-1]
	last, hash, err := parse(b[bytes.LastIndexByte(b, '\n')+1:])
	if err != nil {
		return e, fmt.Errorf("%s: %w: the last line: %w", f.Name(), ErrDamaged, err)
	}
	e.chain = chain{last.Number, hash}
	return e, nil
}

// ErrDamaged says that a file does not end as a trail does.
var ErrDamaged = errors.New("it does not end as an audit trail does; the server begins another when it is moved away, and what it holds should be kept")

// Check finds out whether a trail could be opened at a path, and leaves everything as it is.
func Check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return err
		}
		return durable.CheckWritable(filepath.Dir(path))
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	if _, err := readEnd(file); err != nil {
		return err
	}
	// A folder that takes no other file may be as it should.
	if err := durable.CheckWritable(filepath.Dir(path)); errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// openFile opens a trail to be appended to, and makes the file if there is none.
func openFile(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
}
