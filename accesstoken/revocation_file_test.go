package accesstoken

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func openStore(tb testing.TB, dir string) *MemoryTokenRevocations {
	tb.Helper()
	m, err := OpenTokenRevocations(TokenRevocationConfig{Dir: dir, NoHistory: true})
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

func wantRevoked(t *testing.T, m *MemoryTokenRevocations, ids ...string) {
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
			j.replace = func(file string, data []byte) error {
				if file == name {
					return errDisk
				}
				return j.folder.Replace(file, data)
			}
		}
	}
	for name, fail := range map[string]func(*testing.T, *journal){
		"journal cannot be added to": func(t *testing.T, j *journal) {
			t.Helper()
			readOnly, err := j.folder.Open(revocationsFile, os.O_RDONLY)
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
			j.replace = func(name string, data []byte) error {
				steps--
				if steps < 0 {
					steps, failed = 2-failed%2, failed+1
					return errDisk
				}
				return j.folder.Replace(name, data)
			}
		},
		"journal cannot be replaced": func(t *testing.T, j *journal) { t.Helper(); j.abandon(); failing(revocationsFile)(t, j) },
	} {
		dir := t.TempDir()
		m := openStore(t, dir)
		if err := m.Revoke(t.Context(), TokenRevocation{TokenID: "0"}); err != nil {
			t.Fatal(err)
		}
		fail(t, m.journal)
		for i := range 2 * maxEnds {
			if err := m.Revoke(t.Context(), TokenRevocation{TokenID: fmt.Sprint("A", i)}); err == nil && i == 0 {
				t.Errorf("%s: no error", name)
			}
			wantRevoked(t, m, fmt.Sprint("A", i))
			wantKilledWithoutDoubt(t, dir, "0")
		}
		m.journal.replace = m.journal.folder.Replace
		if err := m.Revoke(t.Context(), TokenRevocation{TokenID: "B"}); err != nil {
			t.Error(err)
		}
		wantKilledWithoutDoubt(t, dir, "0", "A0", "B")
	}
}

// wantKilledWithoutDoubt judges the folder as the next life would if the process had been
// killed in this moment.
func wantKilledWithoutDoubt(t *testing.T, dir string, promised ...string) {
	t.Helper()
	var content [2][]byte
	for i, name := range []string{revocationsFile, revocationsEnd} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		content[i] = data
	}
	found, _, doubt := recoverJournal(content[0], content[1], true)
	if doubt != nil {
		t.Error(doubt)
	}
	for _, id := range promised {
		if _, known := found.effects[target{tokenTarget, id}]; !known {
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
		j.replace = func(name string, data []byte) error {
			if j.file != nil {
				wantTornWithoutDoubt(t, dir, promised)
			}
			for n := 0; n <= len(data); n += 1 + len(data)/5 {
				if err := os.WriteFile(filepath.Join(dir, name+".new"), data[:n], 0o600); err != nil {
					t.Fatal(err)
				}
				wantKilledWithoutDoubt(t, dir, promised...)
			}
			err := j.folder.Replace(name, data)
			wantKilledWithoutDoubt(t, dir, promised...)
			return err
		}
		m := &MemoryTokenRevocations{limit: DefaultTokenRevocationLimit, journal: j, opened: time.Now()}
		if err := m.load(true); err != nil || m.found != nil {
			t.Fatal(err, m.found)
		}
		for i := range 4 {
			if i == 2 {
				j.abandon() // so that the next one writes the journal anew
			}
			id := fmt.Sprintf("%d-%d", life, i)
			if err := m.Revoke(t.Context(), TokenRevocation{TokenID: id}); err != nil {
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
func wantTornWithoutDoubt(t *testing.T, dir string, promised []string) {
	t.Helper()
	path := filepath.Join(dir, revocationsFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1; n < len(whole); n++ {
		for _, torn := range [][]byte{whole[:n], append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)} {
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			wantKilledWithoutDoubt(t, dir, promised...)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever becomes of the folder, a revocation holds, is reported as not kept, and is written into no other
// folder. The first one after the folder is back is written with all of them.
func TestLostFolder(t *testing.T) {
	files := func(t *testing.T, dir string) (all []string) {
		t.Helper()
		if _, err := os.Stat(dir); err != nil {
			return []string{err.Error()}
		}
		for _, name := range names(t, dir) {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name+": "+string(data))
		}
		return all
	}
	aside := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Rename(dir, dir+".moved"); err != nil {
			t.Fatal(err)
		}
	}
	back := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".moved", dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		lose, find func(t *testing.T, dir string)
	}{
		"moved": {aside, back},
		"exchanged": {func(t *testing.T, dir string) {
			t.Helper()
			aside(t, dir)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}, back},
		"of another store": {func(t *testing.T, dir string) {
			t.Helper()
			aside(t, dir)
			if err := openStore(t, dir).Revoke(t.Context(), TokenRevocation{TokenID: "OTHER"}); err != nil {
				t.Fatal(err)
			}
		}, back},
		"without its lock": {func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, revocationsLock)); err != nil {
				t.Fatal(err)
			}
			openStore(t, dir)
		}, nil},
	} {
		for _, anew := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "revocations")
			m := openStore(t, dir)
			if err := errors.Join(m.Lost(), m.Revoke(t.Context(), TokenRevocation{TokenID: "0"})); err != nil {
				t.Fatal(err)
			}
			c.lose(t, dir)
			if anew {
				m.journal.abandon()
			}
			before := files(t, dir)
			lost := m.Lost()
			if err := m.Revoke(t.Context(), TokenRevocation{TokenID: "A"}); lost == nil || err == nil || err.Error() != "revocations: "+lost.Error() {
				t.Errorf("%s: %v, and Revoke says %v", name, lost, err)
			}
			wantRevoked(t, m, "0", "A")
			if after := files(t, dir); !slices.Equal(before, after) {
				t.Errorf("%s: the folder held %q, and now %q", name, before, after)
			}
			if c.find == nil {
				continue
			}
			c.find(t, dir)
			if err := errors.Join(m.Lost(), m.Revoke(t.Context(), TokenRevocation{TokenID: "B"})); err != nil {
				t.Errorf("%s: back: %v", name, err)
			}
			wantKilledWithoutDoubt(t, dir, "0", "A", "B")
		}
	}
}

// The journal does not grow with every revocation that there ever was.
func TestTheJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	m := openStore(t, dir)
	m.journal.replace = func(name string, data []byte) error { return os.WriteFile(filepath.Join(dir, name), data, 0o600) } // no need to wait for the disk
	for range 3 * spareLines {
		if err := m.Revoke(t.Context(), TokenRevocation{Party: consumer}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, revocationsFile))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(data, []byte("\n")); lines > spareLines+10 {
		t.Errorf("%d lines for one revocation", lines)
	}
	wantKilledWithoutDoubt(t, dir)
}
