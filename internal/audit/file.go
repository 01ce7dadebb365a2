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
	text  []byte // of which it was found
	torn  []byte // behind the last entry, up to a line feed at its end; empty: nothing
	ended bool   // with a line feed, or with nothing at all
}

// holds reports whether the file still has an entry that was written to it not long ago.
func (e *end) holds(c chain) bool {
	return bytes.Contains(e.text, []byte(hashMember+c.hash+`"}`))
}

// maxEnd bounds what is read of a file to find its end: more than what is written at once and was not told of to those who wait.
const maxEnd = 1 << 20

// readEnd finds the end of a trail. An empty file has none: the zero chain. Behind the last entry there can be what was torn of
// more than one, when the start after a crash was cut short too.
func readEnd(f *os.File) (e end, err error) {
	info, err := f.Stat()
	if err != nil {
		return e, err
	}
	size := info.Size()
	from := max(0, size-maxEnd)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return e, err
	}
	if len(b) == 0 {
		return end{ended: true}, nil
	}
	e.text = b
	b, e.ended = bytes.CutSuffix(b, []byte("\n"))
	for rest, until := b, len(b); ; until = len(rest) {
		at := bytes.LastIndexByte(rest, '\n') + 1
		line := rest[at:]
		last, hash, err := parse(line)
		if err == nil {
			e.chain, e.torn = chain{last.Number, hash}, b[min(until+1, len(b)):]
			break
		}
		open := until == len(b) && !e.ended // a crash may have left anything there, if there are entries before
		if len(b)-at > maxLine || !isCut(line) && (!open || at == 0) {
			return e, fmt.Errorf("%s: %w: the last line: %w", f.Name(), ErrDamaged, err)
		}
		if at == 0 {
			e.torn = b
			break
		}
		rest = rest[:at-1]
	}
	if from > 0 && e.chain == (chain{}) {
		return e, fmt.Errorf("%s: %w", f.Name(), ErrDamaged)
	}
	return e, nil
}

// isCut reports whether a line is the beginning of an entry, behind which a file system may have left zeros, and not a whole one
// that was changed.
func isCut(line []byte) bool {
	const begin = `{"number":`
	written := bytes.TrimRight(line, "\x00")
	n := min(len(written), len(begin))
	return len(line) > 0 && string(written[:n]) == begin[:n] && !bytes.HasSuffix(written, []byte(`"}`))
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

// openFile opens a trail to be appended to, and makes the file if there is none. A new one that must last has its name on the disk.
func openFile(path string, lasting bool) (*os.File, error) {
	info, missing := os.Stat(path)
	if missing == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil || missing == nil || !lasting {
		return file, err
	}
	if err := durable.SyncFolder(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lockPath is where the lock of a file is: beside the file itself, whatever link leads there.
func lockPath(path string) string {
	if at, err := filepath.EvalSymlinks(path); err == nil {
		path = at
	}
	return path + ".lock"
}

// errRemoved says that nobody can read what is written any more.
var errRemoved = errors.New("the file was removed while it was in use, with the entries in it")

// removed is an error when a file has no name any more. One that was moved away, to be followed by another, has one.
func removed(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !isUnlinked(info) {
		return nil
	}
	if found, err := os.Stat(file.Name()); err == nil && os.SameFile(info, found) { // a file system that counts no names
		return nil
	}
	return fmt.Errorf("%s: %w", file.Name(), errRemoved)
}
