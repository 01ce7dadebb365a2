package accesstoken_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
)

const journalName, endName = "revocations", "revocations.end"

// revoked is how many tokens the damaged journals had revoked.
const revoked = 50

func idOf(i int) string { return fmt.Sprintf("TOKEN-%d", i) }

// files are a folder's, by name. A file that is absent is missing.
type files map[string][]byte

func read(t *testing.T, dir string) files {
	t.Helper()
	all := files{}
	for _, name := range []string{journalName, endName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all[name] = data
	}
	return all
}

// with is the folder with another file in it.
func (f files) with(name string, data []byte) files {
	changed := maps.Clone(f)
	changed[name] = data
	return changed
}

func (f files) without(names ...string) files {
	changed := maps.Clone(f)
	for _, name := range names {
		delete(changed, name)
	}
	return changed
}

func (f files) put(t *testing.T, dir string) {
	t.Helper()
	for name, data := range f {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// lived is what a life of 50 revocations leaves after each of them.
func lived(t *testing.T) []files {
	t.Helper()
	dir := t.TempDir()
	m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
	states := []files{read(t, dir)}
	for i := range revoked {
		if err := m.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: idOf(i)}); err != nil {
			t.Fatal(err)
		}
		states = append(states, read(t, dir))
	}
	return states
}

// damages makes damaged folders of the states of a life, of every kind, by name.
func damages(states []files) map[string]files {
	last := states[len(states)-1]
	all := map[string]files{
		"journal removed":      last.without(journalName),
		"end removed":          last.without(endName),
		"both removed":         last.without(journalName, endName),
		"journal empty":        last.with(journalName, nil),
		"end empty":            last.with(endName, nil),
		"journal of version 1": last.with(journalName, []byte("waybill revocations 1\n")),
	}
	journal, ends := last[journalName], last[endName]
	lines := bytes.SplitAfter(bytes.TrimSuffix(journal, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(lines[len(lines)-1], '\n')
	arranged := func(kind string, i int, arrange func([][]byte) [][]byte) {
		all[fmt.Sprint("line ", i, " ", kind)] = last.with(journalName, bytes.Join(arrange(slices.Clone(lines)), nil))
	}
	for i := range lines {
		arranged("gone", i, func(l [][]byte) [][]byte { return slices.Delete(l, i, i+1) })
		arranged("doubled", i, func(l [][]byte) [][]byte { return slices.Insert(l, i, l[i]) })
		arranged("moved to the end", i, func(l [][]byte) [][]byte { return append(slices.Delete(l, i, i+1), lines[i]) })
		arranged("and all behind it gone", i, func(l [][]byte) [][]byte { return l[:i] })
	}
	flip := func(data []byte, i int) []byte {
		flipped := bytes.Clone(data)
		flipped[i] ^= 1 << (i % 8)
		return flipped
	}
	for i := range 50 {
		at := i * len(journal) / 50
		all[fmt.Sprint("journal cut at ", at)] = last.with(journalName, journal[:at])
		all[fmt.Sprint("journal flipped at ", at)] = last.with(journalName, flip(journal, at))
		zeros := append(bytes.Clone(journal[:at]), make([]byte, len(journal)-at)...)
		all[fmt.Sprint("journal zero from ", at)] = last.with(journalName, zeros)
	}
	for i := 0; i < len(ends); i += 4 {
		all[fmt.Sprint("end cut at ", i)] = last.with(endName, ends[:i])
		all[fmt.Sprint("end flipped at ", i)] = last.with(endName, flip(ends, i))
	}
	for i, state := range states[:len(states)-1] {
		all[fmt.Sprint("journal from after ", i)] = last.with(journalName, state[journalName])
		all[fmt.Sprint("end from after ", i)] = last.with(endName, state[endName])
	}
	return all
}

// Whatever is damaged, no token that was revoked comes back to life: its revocation is
// read all the same, or everything from before the start is refused, and the store says so.
func TestDamagedJournals(t *testing.T) {
	all := damages(lived(t))
	if len(all) < 400 {
		t.Errorf("only %d damaged journals", len(all))
	}
	groups := slices.Collect(slices.Chunk(slices.Sorted(maps.Keys(all)), 64))
	t.Run("group", func(t *testing.T) {
		for _, group := range groups {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for _, name := range group {
					if err := readDamaged(t, t.TempDir(), all[name]); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
	})
}

// readDamaged begins a life on a damaged folder.
func readDamaged(t *testing.T, dir string, damaged files) error {
	t.Helper()
	damaged.put(t, dir)
	m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir})
	doubt := m.RecoveryError() != nil
	issued := time.Now().Add(-time.Minute)
	for i := range revoked {
		c := claimsOf(idOf(i), issued)
		if !doubt { // then the revocation itself must be known, whenever the token was issued
			c.Issued = time.Now().Add(time.Hour)
		}
		if !revokedIn(t, m, c) {
			return fmt.Errorf("token %d is good again (doubt: %w)", i, m.RecoveryError())
		}
	}
	if revokedIn(t, m, claimsOf("OTHER", issued)) != doubt || revokedIn(t, m, claimsOf("LATER", time.Now().Add(time.Minute))) {
		return fmt.Errorf("other tokens are refused than are told: %w", m.RecoveryError())
	}
	kept, err := os.ReadFile(filepath.Join(dir, "revocations.damaged"))
	if _, there := damaged[journalName]; doubt && there && (err != nil || !bytes.Equal(kept, damaged[journalName])) {
		return fmt.Errorf("the damaged file is not kept: %w", err)
	}
	return nil
}

// The doubt is told until the tokens that it is about have expired, over restarts.
func TestDoubtIsToldUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir}) // not known to be newborn
		old := claimsOf("A", time.Now())
		for range 3 {
			if m.RecoveryError() == nil || !revokedIn(t, m, old) {
				t.Errorf("at %v: doubt %v", time.Now(), m.RecoveryError())
			}
			time.Sleep(accesstoken.MaxLifetime / 4)
			m = reopen(t, m, dir)
		}
		time.Sleep(accesstoken.MaxLifetime/4 + time.Hour + time.Second)
		if err := m.RecoveryError(); err != nil {
			t.Errorf("after a day: %v", err)
		}
	})
}

// A first start and a journal of version 1 are read without doubt, and so is either once
// more when the first start was killed at any step.
func TestFirstStartAndUpgrade(t *testing.T) {
	oldLine := func(text string) []byte {
		return fmt.Appendf(nil, "%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
	}
	until := time.Now().Add(25 * time.Hour).Unix()
	one := oldLine(fmt.Sprintf("token A 9223372036854775807 %d", until))
	two := oldLine(fmt.Sprintf("party urn:b %d %d", time.Now().Unix(), until))
	old := bytes.Join([][]byte{[]byte("waybill revocations 1\n"), one, two}, nil)
	for name, c := range map[string]struct {
		found   files
		newborn bool
		held    int
	}{
		"nothing":                     {files{}, true, 0},
		"version 1":                   {files{journalName: old}, false, 2},
		"version 1, cut in last line": {files{journalName: old[:len(old)-5]}, false, 1},
		"version 1, nothing revoked":  {files{journalName: []byte("waybill revocations 1\n")}, false, 0},
	} {
		dir := t.TempDir()
		c.found.put(t, dir)
		for range 3 {
			m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: c.newborn})
			if m.RecoveryError() != nil || m.Len() != c.held {
				t.Errorf("%s: doubt %v, %d held", name, m.RecoveryError(), m.Len())
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			c.newborn = false // there are keys by now
		}
	}
	damaged := bytes.Replace(old, []byte("urn:b"), []byte("urn:c"), 1)
	dir := t.TempDir()
	files{journalName: damaged}.put(t, dir)
	if m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir}); m.RecoveryError() == nil {
		t.Error("a damaged journal of version 1 is believed")
	}
}

// BenchmarkRevoke is what a revocation costs with a disk below it.
func BenchmarkRevoke(b *testing.B) {
	m := openRevocations(b, accesstoken.TokenRevocationConfig{Dir: b.TempDir(), NoHistory: true})
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Revoke(b.Context(), accesstoken.TokenRevocation{TokenID: "A" + rand.Text()[:2]}); err != nil {
			b.Fatal(err)
		}
	}
}
