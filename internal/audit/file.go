package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
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
		return e, fmt.Errorf("%s is no audit trail; move it away", f.Name())
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
		return e, fmt.Errorf("%s: the last line: %w; keep the file, and move it away for the server to begin another", f.Name(), err)
	}
	e.chain = chain{last.Number, hash}
	return e, nil
}

// openFile opens a trail to be appended to, and makes the file if there is none.
func openFile(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
}
