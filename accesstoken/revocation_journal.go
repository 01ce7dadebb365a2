package accesstoken

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
// While the folder is lost nothing is written: where it is now the next start would not look
// for it, and what has taken its place can be another store's.
type journal struct {
	folder  *durable.Folder
	replace func(name string, data []byte) error // in the folder
	file    *os.File                             // nil after a failure: the next addition writes the journal anew
	ends    []journalEnd                         // how the journal on the disk may end; one, if file is not nil
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

// read finds out what an earlier run left: see recoverJournal.
func (j *journal) read(noHistory bool) (set *revocationSet, recoveryErr, err error) {
	data, err := durable.IfThere(j.folder.ReadFile(revocationsFile))
	if err != nil {
		return nil, nil, err
	}
	ends, err := durable.IfThere(j.folder.ReadFile(revocationsEnd))
	if err != nil {
		return nil, nil, err
	}
	set, j.ends, recoveryErr = recoverJournal(data, ends, noHistory)
	if recoveryErr != nil && data != nil {
		// A copy: until the new file takes its place, the damaged one must stand where the
		// next start finds it.
		err = j.replace(revocationsDamaged, data)
	}
	return set, recoveryErr, err
}

// CheckTokenRevocations returns as recoveryErr why [OpenTokenRevocations] would not know which tokens had been
// revoked; it is nil when it would. It changes nothing. While a store has the folder, what it says may be wrong.
func CheckTokenRevocations(c TokenRevocationConfig) (recoveryErr, err error) {
	_, recoveryErr, err = lookAtJournal(c.Dir, c.NoHistory)
	return recoveryErr, err
}

// lookAtJournal finds out what a journal holds, also one that a store has, and changes nothing: see recoverJournal.
func lookAtJournal(dir string, noHistory bool) (set *revocationSet, recoveryErr, err error) {
	data, err1 := durable.IfThere(os.ReadFile(filepath.Join(dir, revocationsFile)))
	ends, err2 := durable.IfThere(os.ReadFile(filepath.Join(dir, revocationsEnd)))
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, fmt.Errorf("revocations: %w", err)
	}
	set, _, recoveryErr = recoverJournal(data, ends, noHistory)
	return set, recoveryErr, nil
}

// add puts one revocation at the end and waits for the disk. A nil journal keeps nothing.
// all is the set with it, for when the journal is better written anew.
func (j *journal) add(all *revocationSet, t target, e effect) error {
	if j == nil {
		return nil
	}
	if err := j.folder.Lost(); err != nil {
		return errors.Join(err, j.abandon()) // once it is back, all must be written
	}
	if j.file == nil || j.ends[0].lines > 2*all.len()+spareLines {
		return j.rewrite(all)
	}
	line, last := appendLine(nil, j.ends[0], t, e)
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
func (j *journal) endAt(e journalEnd) error {
	if err := j.replace(revocationsEnd, encodeEnds([]journalEnd{e})); err != nil {
		return err
	}
	j.ends = []journalEnd{e}
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
func (j *journal) rewrite(all *revocationSet) error {
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

// The journal is lines of text, of which the first says what it is and in which version.
// A revocation is one line: its number, its target, its effect, and a sum, which covers the
// line and the sum of the line before. So a line that is altered, missing, doubled or out
// of place is found, and number and sum of the last line stand for the whole journal.
// They are kept in a second file, without which nobody could tell that the last lines are
// missing. The sums are against damage, not against forgery: who can write in the folder
// can do worse.
//
//	1 party did:ishare:EU.NL.NTRNL-10000001 1795435211 1795525212 0d2a0d3b7f5c1e5b9be1f2c7d1e3a4f6
//
// Version 1 had neither numbers nor chained sums. It is read, and written anew.
const (
	journalHeader    = "waybill revocations 2\n"
	oldJournalHeader = "waybill revocations 1\n"
	endsHeader       = "waybill revocations end 1\n"
)

// A journalEnd is where a journal ends: the number of its last line, and that line's sum.
type journalEnd struct {
	lines int
	sum   string
}

// startOf is the end of a journal without a line.
func startOf(header string) journalEnd { return journalEnd{sum: chain("", header)} }

// next is the end after one more line.
func (e journalEnd) next(text string) journalEnd {
	return journalEnd{lines: e.lines + 1, sum: chain(e.sum, text)}
}

// chain is the sum of a text that follows what has the sum before.
func chain(before, text string) string {
	sum := sha256.Sum256([]byte(before + "\n" + text))
	return hex.EncodeToString(sum[:16])
}

// appendLine adds the line that follows an end, and returns the end that it makes.
func appendLine(data []byte, after journalEnd, t target, e effect) ([]byte, journalEnd) {
	text := fmt.Sprintf("%d %s %s %d %d", after.lines+1, t.kind, t.value, e.through, e.until)
	next := after.next(text)
	return fmt.Appendf(data, "%s %s\n", text, next.sum), next
}

func encodeJournal(s *revocationSet) ([]byte, journalEnd) {
	data, last := []byte(journalHeader), startOf(journalHeader)
	if s != nil {
		for t, e := range s.effects {
			data, last = appendLine(data, last, t, e)
		}
	}
	return data, last
}

// A parsedJournal is what a journal holds.
type parsedJournal struct {
	set    *revocationSet // of all lines that can be read, those behind a fault included
	old    bool           // version 1
	before journalEnd     // where it would end without the last sound line
	last   journalEnd     // where its sound lines end
	behind []byte         // what stands behind them
	fault  error          // why what stands behind is no sound line; nil if it is at most a part of one
}

// readJournal reads either version.
func readJournal(data []byte) *parsedJournal {
	r := &parsedJournal{set: newRevocationSet(), behind: data}
	header, lines, _ := bytes.Cut(data, []byte("\n"))
	parse := parseLine
	switch string(header) + "\n" {
	case journalHeader:
	case oldJournalHeader:
		r.old, parse = true, parseOldLine
	default:
		r.fault = fmt.Errorf("it does not begin with %q; another version writes another line", journalHeader)
		return r
	}
	at := startOf(string(header) + "\n")
	r.before, r.last, r.behind = at, at, lines
	for {
		line, rest, whole := bytes.Cut(lines, []byte("\n"))
		if !whole {
			return r
		}
		t, e, next, err := parse(at, string(line))
		if err == nil {
			r.set.put(t, e)
		}
		switch {
		case r.fault != nil:
		case err != nil:
			r.fault = fmt.Errorf("line %d: %w", r.last.lines+2, err)
		default:
			r.before, r.last, r.behind = r.last, next, rest
		}
		at, lines = next, rest
	}
}

var errLine = errors.New("it is not a whole revocation that follows the line before")

// parseLine reads the line after an end. With an error, next is what the line says of
// itself, which is enough to read the lines behind it.
func parseLine(after journalEnd, line string) (t target, e effect, next journalEnd, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 6 {
		return target{}, effect{}, journalEnd{}, errLine
	}
	number, err := strconv.Atoi(fields[0])
	if err != nil {
		number = 0
	}
	t, e, err = parseRevocation(fields[1:5])
	stated := journalEnd{lines: number, sum: fields[5]}
	if err != nil {
		return target{}, effect{}, stated, err
	}
	// Written again it must be the same: that takes in the number, the sum and every spelling.
	if again, next := appendLine(nil, after, t, e); string(again) == line+"\n" {
		return t, e, next, nil
	}
	return target{}, effect{}, stated, errLine
}

// parseOldLine reads a line of version 1, in which a CRC is in the place of the sum.
func parseOldLine(after journalEnd, line string) (t target, e effect, next journalEnd, err error) {
	next = after.next(line)
	fields := strings.Split(line, " ")
	if len(fields) != 5 {
		return target{}, effect{}, next, errLine
	}
	if t, e, err = parseRevocation(fields[:4]); err != nil {
		return target{}, effect{}, next, err
	}
	text := fmt.Sprintf("%s %s %d %d", t.kind, t.value, e.through, e.until)
	if fmt.Sprintf("%s %08x", text, crc32.ChecksumIEEE([]byte(text))) != line {
		return target{}, effect{}, next, errLine
	}
	return t, e, next, nil
}

func parseRevocation(fields []string) (target, effect, error) {
	t := target{fields[0], fields[1]}
	through, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return target{}, effect{}, errLine
	}
	until, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil || t.check() != nil {
		return target{}, effect{}, errLine
	}
	return t, effect{through: through, until: until}, nil
}

// endsAt reports whether the journal ends there. One line may stand behind the end, whole
// or in part: a process that was killed was about to write it, and nobody had been told
// yet that it holds.
func (r *parsedJournal) endsAt(e journalEnd) bool {
	switch e {
	case r.last:
		i := bytes.IndexByte(r.behind, '\n')
		return i < 0 || i == len(r.behind)-1
	case r.before:
		return len(r.behind) == 0
	}
	return false
}

// encodeEnds says how a journal may end: in one way, or in several while one journal takes
// the place of another.
func encodeEnds(ends []journalEnd) []byte {
	data := []byte(endsHeader)
	for _, e := range ends {
		data = fmt.Appendf(data, "%d %s\n", e.lines, e.sum)
	}
	return fmt.Appendf(data, "%x\n", sha256.Sum256(data))
}

// parseEnds accepts exactly what encodeEnds writes of one end or more.
func parseEnds(data []byte) ([]journalEnd, error) {
	var ends []journalEnd
	for line := range strings.Lines(string(data)) {
		number, sum, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if lines, err := strconv.Atoi(number); ok && err == nil && lines >= 0 {
			ends = append(ends, journalEnd{lines, sum})
		}
	}
	if len(ends) == 0 || !bytes.Equal(encodeEnds(ends), data) {
		return nil, errors.New("what says where it ends is damaged, or of another version")
	}
	return ends, nil
}

var (
	errNoJournal = errors.New("there is none, and an earlier life may have kept one")
	errNoEnd     = errors.New("what says where it ends is missing")
)

// recoverJournal finds out what an earlier run left, from the contents of both files, nil for one
// that is missing. With a recoveryErr, revocations may be missing from the set. Without
// one, at is where the journal was known to end.
func recoverJournal(journal, ends []byte, noHistory bool) (set *revocationSet, at []journalEnd, recoveryErr error) {
	r := &parsedJournal{set: newRevocationSet()}
	if journal != nil {
		r = readJournal(journal)
	}
	if ends == nil { // a first start, or a journal of version 1
		switch {
		case journal == nil && noHistory:
			return r.set, nil, nil
		case journal == nil:
			return r.set, nil, errNoJournal
		case r.fault != nil:
			return r.set, nil, r.fault
		case !r.old:
			return r.set, nil, errNoEnd
		}
		return r.set, []journalEnd{r.last}, nil
	}
	at, err := parseEnds(ends)
	if err != nil {
		return r.set, nil, err
	}
	// A journal without a line may be missing: the first one is about to be made.
	fits := func(e journalEnd) bool { return r.endsAt(e) || journal == nil && e.lines == 0 }
	if i := slices.IndexFunc(at, fits); i >= 0 {
		return r.set, at[i : i+1], nil
	}
	last := at[len(at)-1]
	return r.set, nil, errors.Join(fmt.Errorf("%d lines of it can be relied upon, and it had %d", r.last.lines, last.lines), r.fault)
}
