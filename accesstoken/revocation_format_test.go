package accesstoken

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var unexported = cmp.AllowUnexported(revocationSet{}, target{}, effect{}, journalEnd{})

// oneOfEach is a set with a target of each kind.
func oneOfEach() *revocationSet {
	s := newRevocationSet()
	now := time.Unix(1_795_435_211, 0)
	for _, r := range []TokenRevocation{
		{TokenID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Expires: now.Add(time.Hour)},
		{Party: consumer},
		{Thumbprint: grant().Thumbprint},
	} {
		m, err := r.target()
		if err != nil {
			panic(err)
		}
		s.put(m, effectOf(r, now))
	}
	s.put(everyone(), effect{through: now.Unix(), until: now.Add(clockMargin).Unix() + 1})
	return s
}

func TestRevocationsReadAsWritten(t *testing.T) {
	for _, s := range []*revocationSet{newRevocationSet(), oneOfEach()} {
		data, last := encodeJournal(s)
		got, at, doubt := recoverJournal(data, encodeEnds([]journalEnd{{7, "other"}, last}), false)
		if doubt != nil {
			t.Fatal(doubt)
		}
		if diff := cmp.Diff(s, got, unexported); diff != "" {
			t.Errorf("read otherwise than written (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]journalEnd{last}, at, unexported); diff != "" {
			t.Errorf("ends elsewhere (-want +got):\n%s", diff)
		}
	}
}

// The files in testdata were written by an earlier release, which must stay able to read ours too.
func TestFilesOfBefore(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	data, ends := read(revocationsFile), read(revocationsEnd)
	got, at, doubt := recoverJournal(data, ends, false)
	if doubt != nil {
		t.Fatal(doubt)
	}
	if diff := cmp.Diff(oneOfEach(), got, unexported); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := encodeEnds(at); !bytes.Equal(again, ends) {
		t.Errorf("the end is written as %q", again)
	}
	again, last := []byte(journalHeader), startOf(journalHeader)
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
		of := target{strings.Fields(line)[1], strings.Fields(line)[2]}
		again, last = appendLine(again, last, of, got.effects[of])
	}
	if !bytes.Equal(again, data) {
		t.Errorf("the journal is written as %q", again)
	}
}

func TestLinesThatNobodyWrote(t *testing.T) {
	first, one := appendLine(nil, startOf(journalHeader), target{partyTarget, string(consumer)}, effect{through: 1, until: 2})
	line := func(m target) string {
		data, _ := appendLine(nil, one, m, effect{through: 1, until: 2})
		return string(data)
	}
	good := line(target{tokenTarget, "A"})
	foreign, _ := appendLine(nil, journalEnd{1, "of another journal"}, target{tokenTarget, "A"}, effect{through: 1, until: 2})
	for name, text := range map[string]string{
		"empty line":           "\n",
		"no sum":               "2 party urn:a 1 2\n",
		"other sum":            "2 party urn:a 1 2 00000000000000000000000000000000\n",
		"no number":            good[2:],
		"another number":       "3" + good[1:],
		"carriage return":      good[:len(good)-1] + "\r\n",
		"leading blank":        " " + good,
		"zero before a number": "0" + good,
		"the first again":      string(first),
		"of another journal":   string(foreign),
		"unknown kind":         line(target{"issuer", "urn:a"}),
		"party that is none":   line(target{partyTarget, "a"}),
		"thumbprint too short": line(target{certificateTarget, "ab"}),
		"everyone by name":     line(target{everyoneTarget, "urn:a"}),
		"empty id":             line(target{tokenTarget, ""}),
		"zeros of a lost page": string(make([]byte, 100)) + "\n",
	} {
		r := readJournal([]byte(journalHeader + string(first) + text))
		if !errors.Is(r.fault, errLine) || r.set.len() != 1 || r.last != one || string(r.behind) != text {
			t.Errorf("%s: %v, %d read, %q behind", name, r.fault, r.set.len(), r.behind)
		}
	}
	for _, data := range []string{"", "waybill revocations 3\n", "\n" + journalHeader, journalHeader[:10]} {
		if readJournal([]byte(data)).fault == nil {
			t.Errorf("%q is accepted", data)
		}
	}
}

// What stands behind a damaged line is read as well: a token that seems to be from after
// the damage may have been revoked there.
func TestLinesBehindAFault(t *testing.T) {
	data := []byte(journalHeader)
	at := startOf(journalHeader)
	for _, id := range []string{"A", "B", "C", "D"} {
		data, at = appendLine(data, at, target{tokenTarget, id}, effect{through: whenever, until: 1})
	}
	data = bytes.Replace(data, []byte("token B"), []byte("token X"), 1)
	set, _, doubt := recoverJournal(data, encodeEnds([]journalEnd{at}), false)
	for id, known := range map[string]bool{"A": true, "B": false, "X": false, "C": true, "D": true} {
		if _, ok := set.effects[target{tokenTarget, id}]; ok != known {
			t.Errorf("%s is known: %v", id, ok)
		}
	}
	if !errors.Is(doubt, errLine) {
		t.Errorf("doubt %v", doubt)
	}
}

func TestEndsThatNobodyWrote(t *testing.T) {
	good := encodeEnds([]journalEnd{{3, "ab"}, {0, "cd"}})
	if ends, err := parseEnds(good); err != nil || len(ends) != 2 {
		t.Errorf("%v, %v", ends, err)
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "no end": encodeEnds(nil), "negative": encodeEnds([]journalEnd{{-1, "ab"}}), "twice": append(good, good...),
		"a line more": append(bytes.Clone(good), '\n'), "another header": append([]byte("x"), good...),
	} {
		if ends, err := parseEnds(data); err == nil {
			t.Errorf("%s: %v", name, ends)
		}
	}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		if ends, err := parseEnds(flipped); err == nil {
			t.Errorf("flipped at %d: %v", i, ends)
		}
		if ends, err := parseEnds(good[:i]); err == nil {
			t.Errorf("cut at %d: %v", i, ends)
		}
	}
}

// Each file is cut at every byte, has every bit flipped, and is missing, while the other
// is as it was: nothing is lost without doubt.
func TestEveryDamageIsFound(t *testing.T) {
	journal, last := encodeJournal(oneOfEach())
	ends := encodeEnds([]journalEnd{last})
	want := func(what string, at int, journal, ends []byte) {
		t.Helper()
		if _, _, doubt := recoverJournal(journal, ends, true); doubt == nil {
			t.Errorf("%s at %d: no doubt", what, at)
		}
	}
	want("no journal", 0, nil, ends)
	want("no end", 0, journal, nil)
	flipped := func(data []byte, bit int) []byte {
		flipped := bytes.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		return flipped
	}
	for bit := range 8 * len(journal) {
		want("journal flipped", bit, flipped(journal, bit), ends)
		want("journal cut", bit/8, journal[:bit/8], ends)
	}
	for bit := range 8 * len(ends) {
		want("end flipped", bit, journal, flipped(ends, bit))
		want("end cut", bit/8, journal, ends[:bit/8])
	}
	if _, _, doubt := recoverJournal(nil, nil, false); !errors.Is(doubt, errNoJournal) {
		t.Errorf("nothing where something may have been: %v", doubt)
	}
}

// One line may stand behind the end, whole or in part. More were promised, and the end is
// that of an earlier time.
func TestLinesBehindTheEnd(t *testing.T) {
	data := []byte(journalHeader)
	ends := []journalEnd{startOf(journalHeader)}
	for _, id := range []string{"A", "B", "C"} {
		var next journalEnd
		data, next = appendLine(data, ends[len(ends)-1], target{tokenTarget, id}, effect{through: whenever, until: 1})
		ends = append(ends, next)
	}
	damaged := bytes.Replace(data, []byte("token C"), []byte("token X"), 1)
	twice := bytes.Replace(data, []byte("token B"), []byte("token X"), 1)
	for i, c := range []struct {
		journal []byte
		at      journalEnd
		sure    bool
	}{
		{data, ends[3], true},
		{data, ends[2], true},
		{data, ends[1], false},
		{data, ends[0], false},
		{append(bytes.Clone(data), "half"...), ends[3], true},
		{append(bytes.Clone(data), "half"...), ends[2], false},
		{append(bytes.Clone(data), "a line\n"...), ends[3], true},
		{append(bytes.Clone(data), "a line\nhalf"...), ends[3], false},
		{damaged, ends[3], false},
		{damaged, ends[2], true},
		{twice, ends[1], false},
	} {
		if _, _, doubt := recoverJournal(c.journal, encodeEnds([]journalEnd{c.at}), false); (doubt == nil) != c.sure {
			t.Errorf("case %d: doubt %v", i, doubt)
		}
	}
}

// FuzzRevocations: what is read without doubt can be written and read again, and no
// damage to a journal whose end is known goes without doubt unless it is all there.
func FuzzRevocations(f *testing.F) {
	whole, last := encodeJournal(oneOfEach())
	ends := encodeEnds([]journalEnd{last})
	old := []byte(oldJournalHeader + "party urn:a 1 2 0276b7a3\n")
	for _, journal := range [][]byte{
		whole, whole[:len(whole)-5], []byte(journalHeader), []byte(oldJournalHeader), old, nil, []byte("waybill revocations 3\n"),
		append(bytes.Clone(whole), make([]byte, 64)...), append(bytes.Clone(whole), "5 party urn:a 1 2 00000000\n"...),
	} {
		f.Add(journal, ends)
		f.Add(journal, []byte(nil))
	}
	f.Fuzz(func(t *testing.T, journal, stated []byte) {
		if got, _, doubt := recoverJournal(journal, ends, false); doubt == nil {
			if diff := cmp.Diff(oneOfEach(), got, unexported); diff != "" {
				t.Errorf("without doubt it differs (-promised +got):\n%s", diff)
			}
		}
		for _, stated := range [][]byte{stated, nil} {
			s, _, doubt := recoverJournal(journal, stated, false)
			if doubt != nil {
				continue
			}
			for m := range s.effects {
				if m.check() != nil {
					t.Errorf("%v is accepted", m)
				}
			}
			data, at := encodeJournal(s)
			again, _, err := recoverJournal(data, encodeEnds([]journalEnd{at}), false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, again, unexported); diff != "" {
				t.Errorf("written and read again it differs (-first +second):\n%s", diff)
			}
		}
	})
}
