package accesstoken

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/waybill-token/waybill/internal/durable"
)

// The files of the store.
const (
	revocationsFile    = "revocations"
	revocationsEnd     = "revocations.end" // where the journal ends
	revocationsLock    = "revocations.lock"
	revocationsDamaged = "revocations.damaged" // what could not be read, for a person to look at
)

// maxEnds bounds the ends that are admitted while a disk fails again and again: that from
// before it failed, and those of the last attempts.
const maxEnds = 4

// spareLines is how many more lines than twice the revocations that are held a journal
// may have before it is written anew.
const spareLines = 256

// ErrTokenRevocationsInUse says that a store of this or another process has the folder.
// Processes that serve together need a store that they share.
var ErrTokenRevocationsInUse = durable.ErrInUse

// A journal is the file to which revocations are added, one line each, for as long as
// its process holds the lock, and the file that says where it ends.
//
// A revocation holds when both are on the disk: first its line, then the new end. So
// whenever the process is killed, at most one line stands behind the end, and nobody has
// been told of it. While another journal takes the place of the old one, either may be
// found, and both ends are admitted.
//
// While the folder is lost nothing is written: where it is now the next life would not look
// for it, and what has taken its place can be another store's.
type journal struct {
	folder  *durable.Folder
	replace func(name string, data []byte) error // in the folder
	file    *os.File                             // nil after a failure: the next addition writes the journal anew
	ends    []end                                // how the journal on the disk may end; one, if file is not nil
}

// openJournal takes the folder. The caller must close the journal, and write it anew
// before adding to it.
func openJournal(dir string) (*journal, error) {
	f, err := durable.Claim(dir, revocationsLock)
	if err != nil {
		return nil, err
	}
	return &journal{folder: f, replace: f.Replace}, nil
}

// read finds out what an earlier life left: see judge.
func (j *journal) read(newborn bool) (set *revokedSet, doubt, err error) {
	data, err := j.content(revocationsFile)
	if err != nil {
		return nil, nil, err
	}
	ends, err := j.content(revocationsEnd)
	if err != nil {
		return nil, nil, err
	}
	set, j.ends, doubt = judge(data, ends, newborn)
	if doubt != nil && data != nil {
		// A copy: until the new file takes its place, the damaged one must stand where the
		// next start finds it.
		err = j.replace(revocationsDamaged, data)
	}
	return set, doubt, err
}

// content is nil for a file that is missing.
func (j *journal) content(name string) ([]byte, error) { return present(j.folder.ReadFile(name)) }

func present(data []byte, err error) ([]byte, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// CheckTokenRevocations returns why [OpenTokenRevocations] would not know which tokens had been revoked, or a nil doubt when
// it would. It changes nothing. While a store has the folder, what it says may be wrong.
func CheckTokenRevocations(c TokenRevocationConfig) (doubt, err error) {
	data, err1 := present(os.ReadFile(filepath.Join(c.Dir, revocationsFile)))
	ends, err2 := present(os.ReadFile(filepath.Join(c.Dir, revocationsEnd)))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	_, _, doubt = judge(data, ends, c.NoHistory)
	return doubt, nil
}

// add puts one revocation at the end and waits for the disk. A nil journal keeps nothing.
// all is the set with it, for when the journal is better written anew.
func (j *journal) add(all *revokedSet, m mark, r reach) error {
	if j == nil {
		return nil
	}
	if err := j.folder.Lost(); err != nil {
		return errors.Join(err, j.abandon()) // once it is back, all must be written
	}
	if j.file == nil || j.ends[0].lines > 2*all.len()+spareLines {
		return j.rewrite(all)
	}
	line, last := appendLine(nil, j.ends[0], m, r)
	_, err := j.file.Write(line)
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		err = j.endAt(last)
	}
	if err != nil {
		// Half a line may be there, and another behind it would be damage.
		return errors.Join(err, j.abandon())
	}
	return nil
}

// endAt says on the disk that the journal ends there and nowhere else.
func (j *journal) endAt(e end) error {
	if err := j.replace(revocationsEnd, encodeEnds([]end{e})); err != nil {
		return err
	}
	j.ends = []end{e}
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

// rewrite replaces the journal, and has it ready for additions.
func (j *journal) rewrite(all *revokedSet) error {
	if err := j.abandon(); err != nil {
		return err
	}
	data, last := encodeJournal(all)
	either := append(slices.Clone(j.ends), last)
	if len(either) > maxEnds {
		either = slices.Delete(either, 1, 2)
	}
	if err := j.replace(revocationsEnd, encodeEnds(either)); err != nil {
		return err
	}
	j.ends = either // an error from here on leaves the old journal or the new one
	if err := j.replace(revocationsFile, data); err != nil {
		return err
	}
	if err := j.endAt(last); err != nil {
		return err
	}
	file, err := j.folder.Open(revocationsFile, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return err
	}
	j.file = file
	return nil
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.abandon(), j.folder.Close())
}
