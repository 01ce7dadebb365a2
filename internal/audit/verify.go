package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Report is what [Verifier] has seen.
type Report struct {
	Entries       uint64    `json:"entries"`
	First         uint64    `json:"first"` // the number of the first entry
	Last          uint64    `json:"last"`
	From          time.Time `json:"from"`
	To            time.Time `json:"to"`
	ContinuesFrom string    `json:"continues_from,omitzero"` // the hash of an entry that is elsewhere; empty: it begins here
	Hash          string    `json:"hash"`                    // of the last entry
	Tokens        uint64    `json:"tokens"`                  // that were issued
	Torn          uint64    `json:"torn"`                    // places where a crash or a full disk cut lines short; the entry behind each says so
}

// A Verifier reads a trail in its files, the earliest first.
type Verifier struct {
	Report

	last chain
}

// A BrokenError says where a trail is not what a server has written.
type BrokenError struct {
	Line int
	Err  error
}

// Error has the line.
func (e *BrokenError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap is what is wrong.
func (e *BrokenError) Unwrap() error { return e.Err }

// Read goes on with the next file. The error is a [*BrokenError], or that of the reader.
func (v *Verifier) Read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 2*maxLine)
	var torn tornLines
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return torn.broken()
		case errors.Is(err, io.EOF):
			return cmp.Or(torn.broken(), error(&BrokenError{n, errors.New("it has no end: it was cut off, or a server was killed while it wrote and has not been started since")}))
		case errors.Is(err, bufio.ErrBufferFull):
			return cmp.Or(torn.broken(), error(&BrokenError{n, errNoEntry}))
		case err != nil:
			return err
		}
		line = line[:len(line)-1]
		entry, hash, flaw := parse(line)
		switch {
		case flaw != nil && torn.add(line, n, flaw):
			continue
		case flaw != nil || torn.why != nil && !torn.explainedBy(&entry):
			return torn.broken()
		}
		if flaw := v.follow(entry, hash, torn.why != nil); flaw != nil {
			return &BrokenError{n, flaw}
		}
		torn = tornLines{}
	}
}

// Torn lines are none, until the entry behind them has said why.
type tornLines struct {
	text []byte
	line int   // the number of the first
	why  error // it is none; nil: there are no such lines
}

// add reports whether a crash can have left so much.
func (t *tornLines) add(line []byte, number int, why error) bool {
	if t.why == nil {
		t.text, t.line, t.why = bytes.Clone(line), number, why
		return true
	}
	t.text = append(append(t.text, '\n'), line...)
	return len(t.text) <= maxLine
}

func (t *tornLines) explainedBy(e *Entry) bool {
	return e.Event == Opened && e.Torn == len(t.text) && e.TornSHA256 == sum(t.text)
}

// broken is an error when there are such lines.
func (t *tornLines) broken() error {
	if t.why == nil {
		return nil
	}
	return &BrokenError{t.line, t.why}
}

// follow takes an entry that holds by itself.
func (v *Verifier) follow(e Entry, hash string, torn bool) error {
	switch {
	case torn != (e.Torn > 0):
		return errors.New("it tells of a torn line that is not before it")
	case v.Entries == 0:
		v.First, v.From = e.Number, e.Time
		if e.Previous != noHash() {
			v.ContinuesFrom = e.Previous
		}
	case e.Previous != v.last.hash || e.Number != v.last.number+1:
		return fmt.Errorf("it is entry %d and does not follow entry %d before it: entries were taken out, put in or exchanged", e.Number, v.last.number)
	}
	if (e.Previous == noHash()) != (e.Number == 1) {
		return errors.New("only the first entry of all has none before it")
	}
	v.Entries++
	v.Last, v.To, v.Hash = e.Number, e.Time, hash
	if torn {
		v.Torn++
	}
	if e.Event == Token && e.Outcome == "issued" {
		v.Tokens++
	}
	v.last = chain{e.Number, hash}
	return nil
}
