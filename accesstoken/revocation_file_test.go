package accesstoken

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A revocation that cannot be written holds nevertheless, is reported, and is written
// with the next one.
func TestDiskThatFails(t *testing.T) {
	dir := t.TempDir()
	m, err := OpenRevocations(RevocationConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(m.journal.path(revocationsFile))
	if err != nil {
		t.Fatal(err)
	}
	m.journal.file.Close()
	m.journal.file = readOnly // writing to it fails
	if err := m.Revoke(t.Context(), Revocation{TokenID: "A"}); err == nil {
		t.Error("no error")
	}
	want := func(m *MemoryRevocations, id string) {
		t.Helper()
		if revoked, _ := m.Revoked(t.Context(), &Claims{ID: id, Issued: time.Now()}); !revoked {
			t.Errorf("%s is not revoked", id)
		}
	}
	want(m, "A")
	if err := m.Revoke(t.Context(), Revocation{TokenID: "B"}); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	again, err := OpenRevocations(RevocationConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	want(again, "A")
	want(again, "B")
}

// oneOfEach is a set with a mark of each kind.
func oneOfEach() *revokedSet {
	s := newRevokedSet()
	now := time.Unix(1_795_435_211, 0)
	for _, r := range []Revocation{
		{TokenID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Expires: now.Add(time.Hour)},
		{Party: consumer},
		{Thumbprint: grant().Thumbprint},
	} {
		m, err := r.mark()
		if err != nil {
			panic(err)
		}
		s.put(m, reachOf(r, now))
	}
	s.put(everyone(), reach{through: now.Unix(), until: keepUntil(now)})
	return s
}

func TestRevocationsReadAsWritten(t *testing.T) {
	for _, s := range []*revokedSet{newRevokedSet(), oneOfEach()} {
		got, err := parseRevocations(encodeRevocations(s))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, cmp.AllowUnexported(revokedSet{}, mark{}, reach{})); diff != "" {
			t.Errorf("read otherwise than written (-want +got):\n%s", diff)
		}
	}
}

func TestLinesThatNobodyWrote(t *testing.T) {
	good := string(appendLine(nil, mark{partyMark, string(consumer)}, reach{1, 2}))
	line := func(m mark) string { return string(appendLine(nil, m, reach{1, 2})) }
	for name, lines := range map[string]string{
		"empty line":           "\n",
		"no sum":               "party urn:a 1 2\n",
		"other sum":            "party urn:a 1 2 00000000\n",
		"carriage return":      good[:len(good)-1] + "\r\n",
		"leading blank":        " " + good,
		"unknown kind":         line(mark{"issuer", "urn:a"}),
		"party that is none":   line(mark{partyMark, "a"}),
		"thumbprint too short": line(mark{certificateMark, "ab"}),
		"everyone by name":     line(mark{everyoneMark, "urn:a"}),
		"empty id":             line(mark{tokenMark, ""}),
		"zeros of a lost page": string(make([]byte, 100)) + "\n",
	} {
		s, err := parseRevocations([]byte(revocationsHeader + good + lines + good))
		if !errors.Is(err, errLine) || s.len() != 1 {
			t.Errorf("%s: %v, %d read", name, err, s.len())
		}
	}
	for _, data := range []string{"", "waybill revocations 2\n", "\n" + revocationsHeader, revocationsHeader[:10]} {
		if _, err := parseRevocations([]byte(data)); err == nil {
			t.Errorf("%q is accepted", data)
		}
	}
}

func FuzzRevocations(f *testing.F) {
	whole := encodeRevocations(oneOfEach())
	for _, seed := range [][]byte{
		whole, whole[:len(whole)-5], []byte(revocationsHeader), nil, []byte("waybill revocations 2\n"),
		append(bytes.Clone(whole), make([]byte, 64)...), append(bytes.Clone(whole), "party urn:a 1 2 00000000\n"...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseRevocations(data)
		if err != nil {
			return
		}
		for m := range s.reaches {
			if m.check() != nil {
				t.Errorf("%v is accepted", m)
			}
		}
		again, err := parseRevocations(encodeRevocations(s))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again, cmp.AllowUnexported(revokedSet{}, mark{}, reach{})); diff != "" {
			t.Errorf("written and read again it differs (-first +second):\n%s", diff)
		}
	})
}
