package accesstoken

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/waybill-token/waybill/internal/durable"
)

// The files of the store. The lock stays when the process ends, and means nothing
// then: what counts is the kernel's lock on it.
const (
	revocationsFile    = "revocations"
	revocationsLock    = "revocations.lock"
	revocationsDamaged = "revocations.damaged" // what could not be read, for a person to look at
)

// ErrRevocationsInUse says that a store of this or another process has the folder.
// Processes that serve together need a store that they share.
var ErrRevocationsInUse = errors.New("the folder of revocations is in use by another process")

// A journal is the file to which revocations are added, one line each, for as long as
// its process holds the lock.
type journal struct {
	dir   string
	lock  *flock.Flock
	file  *os.File // nil after a failure: the next addition writes the file anew
	lines int      // in the file
	doubt error
}

// openJournal reads the file and writes it anew, with what is not over.
func openJournal(dir string, now time.Time) (*journal, *revokedSet, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	j := &journal{dir: dir, lock: flock.New(filepath.Join(dir, revocationsLock))}
	ok, err := j.lock.TryLock()
	if err != nil {
		return nil, nil, fmt.Errorf("lock the folder: %w", err)
	}
	if !ok {
		return nil, nil, fmt.Errorf("%s: %w", dir, ErrRevocationsInUse)
	}
	kept, err := j.begin(now)
	if err != nil {
		return nil, nil, errors.Join(err, j.close())
	}
	return j, kept, nil
}

func (j *journal) begin(now time.Time) (*revokedSet, error) {
	found, err := j.read(now)
	if err != nil {
		return nil, err
	}
	kept := found.living(now.Unix())
	return kept, j.rewrite(kept)
}

// read finds out what an earlier life left. Damage is no error: it revokes everything
// issued so far, besides what could be read.
func (j *journal) read(now time.Time) (*revokedSet, error) {
	data, err := os.ReadFile(j.path(revocationsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := parseRevocations(data)
	if err == nil {
		return found, nil
	}
	j.doubt = fmt.Errorf("%w: %w", errDamaged, err)
	found.put(everyone(), reach{through: now.Unix(), until: keepUntil(now.Add(MaxLifetime))})
	// A copy: until the new file takes its place, the damaged one must stand where the
	// next start finds it.
	return found, durable.Replace(j.path(revocationsDamaged), data)
}

// add puts one revocation at the end of the file and waits for the disk. A nil journal
// keeps nothing. all is the set with it, for when the file is better written anew.
func (j *journal) add(all *revokedSet, m mark, r reach) error {
	if j == nil {
		return nil
	}
	if j.file == nil || j.lines > 2*all.len()+1000 {
		return j.rewrite(all)
	}
	_, err := j.file.Write(appendLine(nil, m, r))
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// Half a line may be there, and another behind it would be damage.
		return errors.Join(err, j.abandon())
	}
	j.lines++
	return nil
}

func (j *journal) abandon() error {
	file := j.file
	j.file = nil
	if file == nil {
		return nil
	}
	return file.Close()
}

// rewrite replaces the file, and has it ready for additions.
func (j *journal) rewrite(all *revokedSet) error {
	if err := j.abandon(); err != nil {
		return err
	}
	if err := durable.Replace(j.path(revocationsFile), encodeRevocations(all)); err != nil {
		return err
	}
	file, err := os.OpenFile(j.path(revocationsFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	j.file, j.lines = file, all.len()
	return nil
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.abandon(), j.lock.Unlock())
}

func (j *journal) path(name string) string { return filepath.Join(j.dir, name) }

// The file is lines of text, of which the first says what it is and in which version. A
// revocation is one line: its mark, its reach, and a sum against damage (not against
// forgery: who can write in the folder can do worse).
//
//	party did:ishare:EU.NL.NTRNL-10000001 1795435211 1795525212 9ae3f1c0
const revocationsHeader = "waybill revocations 1\n"

func encodeRevocations(s *revokedSet) []byte {
	data := []byte(revocationsHeader)
	if s == nil {
		return data
	}
	for m, r := range s.reaches {
		data = appendLine(data, m, r)
	}
	return data
}

func appendLine(data []byte, m mark, r reach) []byte {
	text := fmt.Sprintf("%s %s %d %d", m.kind, m.value, r.through, r.until)
	return fmt.Appendf(data, "%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// parseRevocations reads a file. A last line that lacks its end was cut short by a crash
// before anybody was told that it holds, and is passed over. An error is about anything
// else that appendLine did not write; the set is then what could be read besides.
func parseRevocations(data []byte) (*revokedSet, error) {
	s := newRevokedSet()
	lines, ok := bytes.CutPrefix(data, []byte(revocationsHeader))
	if !ok {
		return s, fmt.Errorf("it does not begin with %q; another version writes another line", revocationsHeader)
	}
	var first error
	for number := 2; ; number++ {
		line, rest, whole := bytes.Cut(lines, []byte("\n"))
		if !whole {
			return s, first
		}
		lines = rest
		m, r, err := parseLine(string(line))
		if err == nil {
			s.put(m, r)
		} else if first == nil {
			first = fmt.Errorf("line %d: %w", number, err)
		}
	}
}

var errLine = errors.New("it is not a whole revocation")

func parseLine(line string) (mark, reach, error) {
	fields := strings.Split(line, " ")
	if len(fields) != 5 {
		return mark{}, reach{}, errLine
	}
	m := mark{markKind(fields[0]), fields[1]}
	through, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return mark{}, reach{}, errLine
	}
	until, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil {
		return mark{}, reach{}, errLine
	}
	r := reach{through: through, until: until}
	// Written again it must be the same: that takes in the sum and every spelling.
	if m.check() != nil || string(appendLine(nil, m, r)) != line+"\n" {
		return mark{}, reach{}, errLine
	}
	return m, r, nil
}
