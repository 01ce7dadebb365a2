package accesstoken

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A sharedLog is one that several copies read.
type sharedLog struct {
	mu    sync.Mutex
	lines []string
	err   error // of the next addition
}

func (l *sharedLog) add(_ context.Context, lines []TokenRevocationLine) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range lines {
		if l.err == nil && !slices.Contains(l.lines, line.Text) {
			l.lines = append(l.lines, line.Text)
		}
	}
	return l.err
}

func isRevoked(t *testing.T, s *SharedTokenRevocations, c *Claims) bool {
	t.Helper()
	revoked, err := s.Revoked(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return revoked
}

// A copy is good for a second, from when the log was read, and never before it was.
func TestAgeOfACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &sharedLog{}
		s := NewSharedTokenRevocations(log.add)
		c := &Claims{ID: "A", Issued: time.Now()}
		old := func(when string) {
			t.Helper()
			if revoked, err := s.Revoked(t.Context(), c); revoked || !errors.Is(err, ErrTokenRevocationsOld) {
				t.Errorf("%s: %v, %v", when, revoked, err)
			}
		}
		old("before anything was read")
		read := time.Now()
		time.Sleep(400 * time.Millisecond)
		if err := s.Learn(nil, read); err != nil {
			t.Fatal(err)
		}
		time.Sleep(600 * time.Millisecond)
		if isRevoked(t, s, c) {
			t.Error("revoked")
		}
		time.Sleep(time.Microsecond)
		old("after a second")
		if err := s.Learn([]string{"token A 1 2 3"}, time.Now()); err == nil {
			t.Error("a line that is none is learnt")
		}
		old("after a line that cannot be read")
		if err := s.Learn([]string{"token A 9223372036854775807 4000000000", "token B 1 2 3"}, time.Now()); err == nil || s.Age() <= MaxTokenRevocationAge {
			t.Error("a line that is none makes the copy new")
		}
		if err := s.Learn(nil, time.Now()); err != nil || !isRevoked(t, s, c) {
			t.Error("the line beside it was lost")
		}
	})
}

// What one has revoked, the others learn, with the margin for clocks that are ahead; what the log did not take is told.
func TestSharedRevocation(t *testing.T) {
	log := &sharedLog{}
	here, there := NewSharedTokenRevocations(log.add), NewSharedTokenRevocations(log.add)
	for _, s := range []*SharedTokenRevocations{here, there} {
		if err := s.Learn(nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := here.Revoke(t.Context(), TokenRevocation{Party: "urn:a"}); err != nil {
		t.Fatal(err)
	}
	ahead := &Claims{ID: "A", Party: "urn:a", Issued: now.Add(sharedClockMargin)}
	if !isRevoked(t, here, ahead) || isRevoked(t, there, ahead) {
		t.Error("it does not hold at once where it was made, or elsewhere before it was read")
	}
	if err := there.Learn(log.lines, time.Now()); err != nil || !isRevoked(t, there, ahead) {
		t.Errorf("it does not hold elsewhere: %v", err)
	}
	later := &Claims{ID: "B", Party: "urn:a", Issued: now.Add(time.Minute)}
	if isRevoked(t, here, later) || isRevoked(t, there, later) {
		t.Error("a token of after is revoked")
	}
	log.err = errors.New("out of reach")
	if err := here.Revoke(t.Context(), TokenRevocation{TokenID: "B"}); !errors.Is(err, log.err) {
		t.Error(err)
	}
	log.err, log.lines = nil, nil // it has lost its memory
	if err := log.add(t.Context(), there.Lines()); err != nil || len(log.lines) != 1 {
		t.Errorf("%q was given back", log.lines)
	}
	if err := there.Learn([]string{RevokeAllLine(now).Text}, time.Now()); err != nil || !isRevoked(t, there, &Claims{ID: "C", Issued: now}) || isRevoked(t, there, &Claims{ID: "C", Issued: now.Add(time.Minute)}) {
		t.Error("what everybody is revoked by hits others, or nobody")
	}
}

// A log in which there is room for one more never finds the copy full, whatever that held before.
func TestCopyOfALogThatForgets(t *testing.T) {
	s := NewSharedTokenRevocations((&sharedLog{}).add)
	s.copied.limit = 10
	lines := func(name string, until time.Duration) (texts []string) {
		for i := range s.copied.limit {
			line := sharedLine(target{tokenTarget, name + strconv.Itoa(i)}, effect{through: whenever, until: time.Now().Add(until).Unix()})
			texts = append(texts, line.Text)
		}
		return texts
	}
	for _, texts := range [][]string{lines("over", -time.Minute), lines("new", time.Hour)} {
		if err := s.Learn(texts, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if !isRevoked(t, s, &Claims{ID: "new9", Issued: time.Now()}) {
		t.Error("a new revocation was not learnt")
	}
	if err := s.Learn(lines("more", time.Hour), time.Now()); !errors.Is(err, ErrTokenRevocationsFull) || !isRevoked(t, s, &Claims{ID: "new0", Issued: time.Now()}) {
		t.Errorf("more than there is room for: %v", err)
	}
}

// What a folder holds goes to the log, and nobody takes the folder for complete afterwards.
func TestVacateTokenRevocations(t *testing.T) {
	revokedIn := func(lines []TokenRevocationLine, kind string) bool {
		return slices.ContainsFunc(lines, func(l TokenRevocationLine) bool { return strings.HasPrefix(l.Text, kind) })
	}
	vacate := func(dir string) []TokenRevocationLine {
		t.Helper()
		lines, err := VacateTokenRevocations(dir)
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	dir := t.TempDir()
	if lines := vacate(dir); len(lines) > 0 {
		t.Errorf("an empty folder holds %v", lines)
	}
	m := openStore(t, dir)
	if err := m.Revoke(t.Context(), TokenRevocation{TokenID: "A"}); err != nil {
		t.Fatal(err)
	}
	if _, err := VacateTokenRevocations(dir); !errors.Is(err, ErrTokenRevocationsInUse) {
		t.Errorf("it is in use: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is another start with the log
		if lines := vacate(dir); len(lines) != 1 || !revokedIn(lines, "token A ") {
			t.Errorf("%v", lines)
		}
	}
	if m = openStore(t, dir); m.RecoveryError() == nil {
		t.Error("the folder counts as complete")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, revocationsFile), []byte(journalHeader), 0o600); err != nil {
		t.Fatal(err)
	}
	if lines := vacate(dir); !revokedIn(lines, "everyone ") {
		t.Errorf("what the journal held is not known, and the log gets %v", lines)
	}
}

func FuzzSharedLine(f *testing.F) {
	for _, seed := range []string{"token A 9223372036854775807 1", "party urn:a 1 2", "everyone - 1 2", "party a b 1 2", "token A +1 2", "token A 1 2 ", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		what, how, err := parseSharedLine(text)
		if err == nil && (what.check() != nil || sharedLine(what, how).Text != text) {
			t.Errorf("%q: %v, %v", text, what, how)
		}
	})
}
