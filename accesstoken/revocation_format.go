package accesstoken

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// The journal is lines of text, of which the first says what it is and in which version.
// A revocation is one line: its number, its mark, its reach, and a sum, which covers the
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

// An end is where a journal ends: the number of its last line, and that line's sum.
type end struct {
	lines int
	sum   string
}

// startOf is the end of a journal without a line.
func startOf(header string) end { return end{sum: chain("", header)} }

// next is the end after one more line.
func (e end) next(text string) end { return end{lines: e.lines + 1, sum: chain(e.sum, text)} }

// chain is the sum of a text that follows what has the sum before.
func chain(before, text string) string {
	sum := sha256.Sum256([]byte(before + "\n" + text))
	return hex.EncodeToString(sum[:16])
}

// appendLine adds the line that follows an end, and returns the end that it makes.
func appendLine(data []byte, after end, m mark, r reach) ([]byte, end) {
	text := fmt.Sprintf("%d %s %s %d %d", after.lines+1, m.kind, m.value, r.through, r.until)
	next := after.next(text)
	return fmt.Appendf(data, "%s %s\n", text, next.sum), next
}

func encodeJournal(s *revokedSet) ([]byte, end) {
	data, last := []byte(journalHeader), startOf(journalHeader)
	if s != nil {
		for m, r := range s.reaches {
			data, last = appendLine(data, last, m, r)
		}
	}
	return data, last
}

// A reading is what a journal holds.
type reading struct {
	set    *revokedSet // of all lines that can be read, those behind a fault included
	old    bool        // version 1
	before end         // where it would end without the last sound line
	last   end         // where its sound lines end
	behind []byte      // what stands behind them
	fault  error       // why what stands behind is no sound line; nil if it is at most a part of one
}

// readJournal reads either version.
func readJournal(data []byte) *reading {
	r := &reading{set: newRevokedSet(), behind: data}
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
		m, how, next, err := parse(at, string(line))
		if err == nil {
			r.set.put(m, how)
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
func parseLine(after end, line string) (m mark, r reach, next end, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 6 {
		return mark{}, reach{}, end{}, errLine
	}
	number, err := strconv.Atoi(fields[0])
	if err != nil {
		number = 0
	}
	m, r, err = parseRevocation(fields[1:5])
	stated := end{lines: number, sum: fields[5]}
	if err != nil {
		return mark{}, reach{}, stated, err
	}
	// Written again it must be the same: that takes in the number, the sum and every spelling.
	if again, next := appendLine(nil, after, m, r); string(again) == line+"\n" {
		return m, r, next, nil
	}
	return mark{}, reach{}, stated, errLine
}

// parseOldLine reads a line of version 1, in which a CRC is in the place of the sum.
func parseOldLine(after end, line string) (m mark, r reach, next end, err error) {
	next = after.next(line)
	fields := strings.Split(line, " ")
	if len(fields) != 5 {
		return mark{}, reach{}, next, errLine
	}
	if m, r, err = parseRevocation(fields[:4]); err != nil {
		return mark{}, reach{}, next, err
	}
	text := fmt.Sprintf("%s %s %d %d", m.kind, m.value, r.through, r.until)
	if fmt.Sprintf("%s %08x", text, crc32.ChecksumIEEE([]byte(text))) != line {
		return mark{}, reach{}, next, errLine
	}
	return m, r, next, nil
}

func parseRevocation(fields []string) (mark, reach, error) {
	m := mark{markKind(fields[0]), fields[1]}
	through, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return mark{}, reach{}, errLine
	}
	until, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil || m.check() != nil {
		return mark{}, reach{}, errLine
	}
	return m, reach{through: through, until: until}, nil
}

// endsAt reports whether the journal ends there. One line may stand behind the end, whole
// or in part: a process that was killed was about to write it, and nobody had been told
// yet that it holds.
func (r *reading) endsAt(e end) bool {
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
func encodeEnds(ends []end) []byte {
	data := []byte(endsHeader)
	for _, e := range ends {
		data = fmt.Appendf(data, "%d %s\n", e.lines, e.sum)
	}
	return fmt.Appendf(data, "%x\n", sha256.Sum256(data))
}

// parseEnds accepts exactly what encodeEnds writes of one end or more.
func parseEnds(data []byte) ([]end, error) {
	var ends []end
	for line := range strings.Lines(string(data)) {
		number, sum, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if lines, err := strconv.Atoi(number); ok && err == nil && lines >= 0 {
			ends = append(ends, end{lines, sum})
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

// judge finds out what an earlier life left, from the contents of both files, nil for one
// that is missing. An error is doubt: revocations may be missing from the set. Without
// one, at is where the journal was known to end.
func judge(journal, ends []byte, newborn bool) (set *revokedSet, at []end, doubt error) {
	r := &reading{set: newRevokedSet()}
	if journal != nil {
		r = readJournal(journal)
	}
	if ends == nil {
		at, doubt = r.withoutEnds(journal == nil, newborn)
		return r.set, at, doubt
	}
	at, err := parseEnds(ends)
	if err != nil {
		return r.set, nil, err
	}
	// A journal without a line may be missing: the first one is about to be made.
	fits := func(e end) bool { return r.endsAt(e) || journal == nil && e.lines == 0 }
	if i := slices.IndexFunc(at, fits); i >= 0 {
		return r.set, at[i : i+1], nil
	}
	last := at[len(at)-1]
	return r.set, nil, errors.Join(fmt.Errorf("%d lines of it can be relied upon, and it had %d", r.last.lines, last.lines), r.fault)
}

// withoutEnds judges what nothing says the end of: a first start, or a journal of version 1.
func (r *reading) withoutEnds(missing, newborn bool) ([]end, error) {
	switch {
	case missing && newborn:
		return nil, nil
	case missing:
		return nil, errNoJournal
	case r.fault != nil:
		return nil, r.fault
	case !r.old:
		return nil, errNoEnd
	}
	return []end{r.last}, nil
}
