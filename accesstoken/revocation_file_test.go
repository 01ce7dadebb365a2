package accesstoken

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/durable"
)

func openStore(tb testing.TB, dir string) *MemoryRevocations {
	tb.Helper()
	m, err := OpenRevocations(RevocationConfig{Dir: dir, Newborn: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

func wantRevoked(t *testing.T, m *MemoryRevocations, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if revoked, _ := m.Revoked(t.Context(), &Claims{ID: id, Issued: time.Now()}); !revoked {
			t.Errorf("%s is not revoked", id)
		}
	}
}

// A revocation that cannot be written holds nevertheless, is reported, and is written
// with the next one. A process that is killed between the two leaves no doubt.
func TestDiskThatFails(t *testing.T) {
	errDisk := errors.New("disk")
	failing := func(name string) func(*testing.T, *journal) {
		return func(_ *testing.T, j *journal) {
			j.replace = func(path string, data []byte) error {
				if filepath.Base(path) == name {
					return errDisk
				}
				return durable.Replace(path, data)
			}
		}
	}
	for name, fail := range map[string]func(*testing.T, *journal){
		"journal cannot be added to": func(t *testing.T, j *journal) {
			t.Helper()
			readOnly, err := os.Open(j.path(revocationsFile))
			if err != nil {
				t.Fatal(err)
			}
			j.file.Close()
			j.file = readOnly
		},
		"end cannot be replaced": failing(revocationsEnd),
		"one step further at a time": func(t *testing.T, j *journal) {
			t.Helper()
			j.abandon()
			steps, failed := 2, 0
			j.replace = func(path string, data []byte) error {
				steps--
				if steps < 0 {
					steps, failed = 2-failed%2, failed+1
					return errDisk
				}
				return durable.Replace(path, data)
			}
		},
		"journal cannot be replaced": func(t *testing.T, j *journal) { t.Helper(); j.abandon(); failing(revocationsFile)(t, j) },
	} {
		dir := t.TempDir()
		m := openStore(t, dir)
		if err := m.Revoke(t.Context(), Revocation{TokenID: "0"}); err != nil {
			t.Fatal(err)
		}
		fail(t, m.journal)
		for i := range 2 * maxEnds {
			if err := m.Revoke(t.Context(), Revocation{TokenID: fmt.Sprint("A", i)}); err == nil && i == 0 {
				t.Errorf("%s: no error", name)
			}
			wantRevoked(t, m, fmt.Sprint("A", i))
			wantKilledWithoutDoubt(t, dir, "0")
		}
		m.journal.replace = durable.Replace
		if err := m.Revoke(t.Context(), Revocation{TokenID: "B"}); err != nil {
			t.Error(err)
		}
		wantKilledWithoutDoubt(t, dir, "0", "A0", "B")
	}
}

// wantKilledWithoutDoubt judges the folder as the next life would if the process had been
// killed in this moment.
func wantKilledWithoutDoubt(t *testing.T, dir string, promised ...string) {
	t.Helper()
	j := &journal{dir: dir, replace: durable.Replace}
	found, doubt, err := j.read(true)
	if err != nil || doubt != nil {
		t.Error(err, doubt)
	}
	for _, id := range promised {
		if _, known := found.reaches[mark{tokenMark, id}]; !known {
			t.Errorf("%s is not revoked", id)
		}
	}
}

// A process can be killed, and the power can fail, at every step of every start and every
// revocation: what was promised holds, and nobody doubts.
func TestKilledAtEveryStep(t *testing.T) {
	dir := t.TempDir()
	var promised []string
	for life := range 3 {
		j, err := openJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		j.replace = func(path string, data []byte) error {
			if j.file != nil {
				wantTornWithoutDoubt(t, j, promised)
			}
			for n := 0; n <= len(data); n += 1 + len(data)/5 {
				if err := os.WriteFile(path+".new", data[:n], 0o600); err != nil {
					t.Fatal(err)
				}
				wantKilledWithoutDoubt(t, dir, promised...)
			}
			err := durable.Replace(path, data)
			wantKilledWithoutDoubt(t, dir, promised...)
			return err
		}
		m := &MemoryRevocations{limit: DefaultRevocationLimit, journal: j, opened: time.Now()}
		if err := m.load(true); err != nil || m.found != nil {
			t.Fatal(err, m.found)
		}
		for i := range 4 {
			if i == 2 {
				j.abandon() // so that the next one writes the journal anew
			}
			id := fmt.Sprintf("%d-%d", life, i)
			if err := m.Revoke(t.Context(), Revocation{TokenID: id}); err != nil {
				t.Fatal(err)
			}
			promised = append(promised, id)
			wantKilledWithoutDoubt(t, dir, promised...)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantTornWithoutDoubt is for the moment at which a line was added and the end was not yet
// moved: the line may have come to the disk up to any byte, with or without zeros in the
// place of the rest.
func wantTornWithoutDoubt(t *testing.T, j *journal, promised []string) {
	t.Helper()
	whole, err := os.ReadFile(j.path(revocationsFile))
	if err != nil {
		t.Fatal(err)
	}
	for n := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1; n < len(whole); n++ {
		for _, torn := range [][]byte{whole[:n], append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)} {
			if err := os.WriteFile(j.path(revocationsFile), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			wantKilledWithoutDoubt(t, j.dir, promised...)
		}
	}
	if err := os.WriteFile(j.path(revocationsFile), whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The journal does not grow with every revocation that there ever was.
func TestTheJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	m := openStore(t, dir)
	m.journal.replace = func(path string, data []byte) error { return os.WriteFile(path, data, 0o600) } // no need to wait for the disk
	for range 3 * spareLines {
		if err := m.Revoke(t.Context(), Revocation{Party: consumer}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(m.journal.path(revocationsFile))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(data, []byte("\n")); lines > spareLines+10 {
		t.Errorf("%d lines for one revocation", lines)
	}
	wantKilledWithoutDoubt(t, dir)
}
