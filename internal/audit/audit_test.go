package audit_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/internal/audit"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

func open(tb testing.TB, path string, required bool) *audit.Trail {
	tb.Helper()
	trail, err := audit.Open(audit.Config{File: path, Required: required, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return trail
}

func closed(tb testing.TB, trail *audit.Trail) {
	tb.Helper()
	if err := trail.Close(); err != nil {
		tb.Error(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func verified(texts ...[]byte) (audit.Report, error) {
	var v audit.Verifier
	for _, text := range texts {
		if err := v.Read(bytes.NewReader(text)); err != nil {
			return v.Report, err
		}
	}
	return v.Report, nil
}

func wantWhole(t *testing.T, texts ...[]byte) audit.Report {
	t.Helper()
	report, err := verified(texts...)
	if err != nil {
		t.Errorf("%v in\n%s", err, bytes.Join(texts, []byte("----\n")))
	}
	return report
}

// issued is a decision for a token with the number.
func issued(n int) *tokenendpoint.Decision {
	return &tokenendpoint.Decision{
		Outcome: tokenendpoint.Issued, ClientID: "did:ishare:EU.NL.NTRNL-10000001", Remote: "192.0.2.1:4711", Correlation: fmt.Sprint("C", n),
		Seen: assertion.UnverifiedInfo{Thumbprint: strings.Repeat("ab", 32), JTIHash: "0123456789abcdef", Signed: true},
		Granted: &accesstoken.Claims{
			Party: "did:ishare:EU.NL.NTRNL-10000001", ID: fmt.Sprint("T", n), Scope: ishare.Scope{"iSHARE"},
		},
	}
}

// refused is one for none, of somebody who has signed or not.
func refused(signed bool) *tokenendpoint.Decision {
	d := issued(0)
	d.Outcome, d.Granted, d.Rule, d.Seen.Signed = tokenendpoint.Refused, nil, rule.ClaimAud, signed
	return d
}

func put(t *testing.T, trail *audit.Trail, decisions ...*tokenendpoint.Decision) {
	t.Helper()
	for _, d := range decisions {
		if err := trail.Token(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
}

// small is a trail of two starts.
func small(t *testing.T) (path string, text []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.jsonl")
	trail := open(t, path, false)
	trail.Act(audit.Started, "", nil)
	put(t, trail, issued(1), refused(true))
	if err := trail.Revocation(t.Context(), tokenadmin.Revocation{Caller: "kong", What: accesstoken.TokenRevocation{TokenID: "T1"}}); err != nil {
		t.Error(err)
	}
	closed(t, trail)
	trail = open(t, path, false)
	trail.Act(audit.Reloaded, "", errors.New("no such file"))
	closed(t, trail)
	return path, read(t, path)
}

func TestTrail(t *testing.T) {
	_, text := small(t)
	report := wantWhole(t, text)
	if report.Entries != 7 || report.First != 1 || report.Last != 7 || report.Tokens != 1 || report.ContinuesFrom != "" {
		t.Errorf("%+v", report)
	}
	for _, part := range []string{
		`"event":"token","outcome":"issued","party":"did:ishare:EU.NL.NTRNL-10000001","client_id":"did:ishare:EU.NL.NTRNL-10000001"`,
		`"jti_hash":"0123456789abcdef","token_id":"T1","scope":"iSHARE","remote":"192.0.2.1:4711","correlation":"C1"`,
		`"outcome":"refused","rule":"claim.aud"`, `"event":"revocation","token_id":"T1","caller":"kong"`, `"event":"reloaded","outcome":"failed"`,
	} {
		if !bytes.Contains(text, []byte(part)) {
			t.Errorf("%s is not in\n%s", part, text)
		}
	}
}

// Whatever byte is changed, verify finds it.
func TestOneChangedByte(t *testing.T) {
	_, text := small(t)
	for i := range text {
		for _, other := range []byte{text[i] ^ 1, text[i] ^ 0x20, '\n', ' ', '}'} {
			changed := bytes.Clone(text)
			if changed[i] = other; other == text[i] {
				continue
			}
			if _, err := verified(changed); err == nil {
				t.Errorf("%q in place of %q at %d is not found", other, text[i], i)
			}
		}
	}
}

// Nor can lines be taken out but at the end, put in, exchanged or doubled.
func TestOtherLines(t *testing.T) {
	_, text := small(t)
	lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	join := func(parts ...[][]byte) []byte {
		var all []byte
		for _, part := range parts {
			all = append(all, bytes.Join(part, nil)...)
		}
		return append(bytes.TrimSuffix(all, []byte("\n")), '\n')
	}
	for i := 1; i < len(lines)-1; i++ {
		for name, changed := range map[string][]byte{
			"without":           join(lines[:i], lines[i+1:]),
			"twice":             join(lines[:i+1], lines[i:]),
			"swapped":           join(lines[:i-1], lines[i:i+1], lines[i-1:i], lines[i+1:]),
			"and an empty line": join(lines[:i], [][]byte{[]byte("\n")}, lines[i:]),
		} {
			if _, err := verified(changed); err == nil {
				t.Errorf("line %d %s is not found", i, name)
			}
		}
	}
	whole, half := join(lines), join(lines[:3])
	if report := wantWhole(t, half); report.Hash == wantWhole(t, whole).Hash {
		t.Error("a trail that was cut off has the hash of the whole one")
	}
}

// What a crash leaves of a line stands behind the next start, which tells of it.
func TestTorn(t *testing.T) {
	path, text := small(t)
	end := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	for length := end; length < len(text); length++ {
		if err := os.WriteFile(path, text[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := verified(text[:length]); (err == nil) != (length == end) {
			t.Errorf("cut at %d: %v", length, err)
		}
		trail := open(t, path, false)
		put(t, trail, issued(2))
		closed(t, trail)
		now := read(t, path)
		report := wantWhole(t, now)
		if torn := length > end && length < len(text)-1; report.Torn != map[bool]uint64{true: 1}[torn] || report.Tokens != 2 || !bytes.HasPrefix(now, text[:length]) {
			t.Errorf("cut at %d: %+v", length, report)
		}
		if report.Torn > 0 {
			now[length-1] ^= 1
			if _, err := verified(now); err == nil {
				t.Errorf("cut at %d: a change of what was torn is not found", length)
			}
		}
	}
}

// A start after a crash can be cut short too, and so can the next one. What they leave is told of as one.
func TestTornTwice(t *testing.T) {
	_, text := small(t)
	end := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	whole, last := text[:end], text[end:]
	begin := `{"number":8,"time":"2026-11-30T10:00:00Z","ev`
	for name, torn := range map[string]string{
		"behind a torn line":      string(last[:len(last)/2]) + "\n" + begin,
		"one byte of it":          string(last[:len(last)/2]) + "\n",
		"and once more":           string(last[:20]) + "\n" + begin + "\n" + begin[:3],
		"with zeros of the disk":  string(last[:20]) + "\x00\x00\x00\n" + begin,
		"with nothing but zeros":  "\x00\x00\x00\n\x00\x00",
		"of a line without an LF": string(last[:len(last)-1]) + "\n" + begin, // which is an entry
	} {
		for _, before := range [][]byte{whole, nil} {
			if before == nil && name == "of a line without an LF" {
				continue // whose number is no first one
			}
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			cut := append(bytes.Clone(before), torn...)
			if err := os.WriteFile(path, cut, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := audit.Check(path); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			trail := open(t, path, true)
			put(t, trail, issued(2))
			closed(t, trail)
			now := read(t, path)
			if report := wantWhole(t, now); report.Torn != 1 || !bytes.HasPrefix(now, cut) {
				t.Errorf("%s: %+v", name, report)
			}
			now[len(before)+1] ^= 1
			if _, err := verified(now); err == nil {
				t.Errorf("%s: a change of what was torn is not found", name)
			}
		}
	}
}

// A server does not go on behind what is no trail, and says what to do.
func TestDamagedEnd(t *testing.T) {
	path, text := small(t)
	text[len(text)-10] ^= 1
	cut := append(bytes.Clone(text), `{"number":8,`...) // a start that was cut short hides nothing
	for _, other := range [][]byte{
		text, cut, []byte("hello\n"), []byte("hello"), []byte("\n"), append(bytes.Clone(wholePart(text)), '\n'), bytes.Repeat([]byte("x"), 1<<20),
	} {
		if err := os.WriteFile(path, other, 0o600); err != nil {
			t.Fatal(err)
		}
		trail, err := audit.Open(audit.Config{File: path, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("opened; it has now %d bytes", len(read(t, path)))
			closed(t, trail)
		} else if checked := audit.Check(path); !errors.Is(err, audit.ErrDamaged) || !errors.Is(checked, audit.ErrDamaged) {
			t.Errorf("%v; Check: %v", err, checked)
		}
		if !bytes.Equal(read(t, path), other) {
			t.Error("it was changed")
		}
	}
	if _, err := audit.Open(audit.Config{File: t.TempDir(), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a folder was opened")
	}
}

// wholePart is a trail without its last line.
func wholePart(text []byte) []byte { return text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1] }

// A file that somebody removes while it is in use takes no entries: nobody could read them. The chain goes on in another.
func TestRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	trail := open(t, path, true)
	put(t, trail, issued(1))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 5; n++ {
		if err := trail.Token(t.Context(), issued(n)); err == nil && !bytes.Contains(read(t, path), fmt.Appendf(nil, `"token_id":"T%d",`, n)) {
			t.Errorf("token %d has no line", n)
		}
	}
	put(t, trail, issued(5))
	closed(t, trail)
	if report := wantWhole(t, read(t, path)); report.First != 3 || report.ContinuesFrom == "" {
		t.Errorf("%+v", report)
	}
}

// logrotate moves a file away and says so. The chain goes on in the next one.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	trail := open(t, path, false)
	put(t, trail, issued(1))
	if err := trail.Reopen(); err != nil { // nothing was moved
		t.Error(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put(t, trail, issued(2)) // as long as nobody says so
	if err := trail.Reopen(); err != nil {
		t.Error(err)
	}
	put(t, trail, issued(3))
	closed(t, trail)
	first, second := read(t, path+".1"), read(t, path)
	if report := wantWhole(t, first, second); report.Entries != 5 || report.Tokens != 3 {
		t.Errorf("%+v", report)
	}
	if report := wantWhole(t, second); report.ContinuesFrom != wantWhole(t, first).Hash || report.First != 4 {
		t.Errorf("%+v", report)
	}
	if _, err := verified(second, first); err == nil {
		t.Error("the order of files does not matter")
	}
}

// Nobody can cut a trail off behind the back of a server that runs, and have it go on there.
func TestCutOffWhileItRuns(t *testing.T) {
	for name, change := range map[string]func(lines [][]byte) [][]byte{
		"as it was":    func(lines [][]byte) [][]byte { return lines },
		"cut off":      func(lines [][]byte) [][]byte { return lines[:3] },
		"another one":  func([][]byte) [][]byte { _, text := small(t); return [][]byte{text, text[:0]} },
		"begun anew":   func(lines [][]byte) [][]byte { return lines[:0] },
		"its last one": func(lines [][]byte) [][]byte { return lines[len(lines)-2:] },
	} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		trail := open(t, path, true)
		put(t, trail, issued(1), issued(2), issued(3), issued(4))
		before := read(t, path)
		if err := errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, bytes.Join(change(bytes.SplitAfter(before, []byte("\n"))), nil), 0o600), trail.Reopen()); err != nil {
			t.Fatal(err)
		}
		put(t, trail, issued(5))
		closed(t, trail)
		now := read(t, path)
		report, err := verified(now)
		if bad := name == "cut off" || name == "another one"; (err != nil) != bad {
			t.Errorf("%s: %v, %+v", name, err, report)
		}
		if name == "begun anew" {
			wantWhole(t, before, now)
		}
	}
}

// When there is nothing at the path that can be written, the file before stays in use.
func TestRotationFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	trail := open(t, path, true)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := trail.Reopen(); err == nil {
		t.Error("a folder was opened")
	}
	put(t, trail, issued(1))
	closed(t, trail)
	if report := wantWhole(t, read(t, path+".1")); report.Tokens != 1 {
		t.Errorf("%+v", report)
	}
}

func TestOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	trail := open(t, path, false)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{path, link} {
		if _, err := audit.Open(audit.Config{File: same, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, audit.ErrInUse) {
			t.Errorf("%s: %v", same, err)
		}
	}
	closed(t, trail)
	closed(t, open(t, path, false))
	wantWhole(t, read(t, path))
	before := read(t, path)
	for _, good := range []string{path, filepath.Join(filepath.Dir(path), "another")} {
		if err := audit.Check(good); err != nil {
			t.Error(err)
		}
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 2 || !bytes.Equal(read(t, path), before) {
		t.Errorf("Check has left %v", names)
	}
}

// Many write at once, and each has its line when it is told so.
func TestManyAtOnce(t *testing.T) {
	for _, required := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		trail := open(t, path, required)
		var group sync.WaitGroup
		const clients, each = 16, 25
		for i := range clients {
			group.Go(func() {
				for j := range each {
					n := i*each + j
					put(t, trail, issued(n))
					if !bytes.Contains(read(t, path), fmt.Appendf(nil, `"token_id":"T%d",`, n)) {
						t.Errorf("token %d has no line", n)
					}
				}
			})
		}
		group.Wait()
		closed(t, trail)
		if report := wantWhole(t, read(t, path)); report.Tokens != clients*each {
			t.Errorf("%+v", report)
		}
	}
}

// What anybody can send fills no disk; how many there were is told.
func TestJunkFillsNoTrail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		trail := open(t, path, false)
		const junk = 5000
		eager := refused(true)
		eager.Outcome, eager.Rule = tokenendpoint.Unavailable, rule.Limited
		for range junk {
			put(t, trail, refused(false), eager)
		}
		put(t, trail, refused(true), issued(1))
		time.Sleep(2 * logsum.Interval)
		synctest.Wait()
		closed(t, trail)
		text := read(t, path)
		report := wantWhole(t, text)
		const full = 100
		if report.Entries != 1+2*full+2+2 {
			t.Errorf("%+v", report)
		}
		for _, what := range []string{`"outcome":"refused","rule":"claim.aud"`, `"outcome":"unavailable","rule":"` + rule.Limited.ID + `"`} {
			if more := fmt.Sprintf(`%s,"more":%d,`, what, junk-full); !bytes.Contains(text, []byte(more)) {
				t.Errorf("%s is not there", more)
			}
		}
	})
}

// Texts that strangers choose are bounded, and cannot break a line or the reader.
func TestOddTexts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	trail := open(t, path, false)
	for _, text := range []string{strings.Repeat("\x00", 1<<16), strings.Repeat("ü", 1000), "\xff\xfe", "a\nb", `","hash":"`} {
		d := issued(1)
		d.ClientID, d.Remote, d.Granted.Scope = ishare.PartyID(text), text, ishare.Scope{text}
		put(t, trail, d)
	}
	closed(t, trail)
	text := read(t, path)
	if report := wantWhole(t, text); report.Tokens != 5 {
		t.Errorf("%+v", report)
	}
	if n := bytes.Count(text, []byte(`…"`)); n != 2*3 { // of two that are too long
		t.Errorf("%d texts are told to be cut", n)
	}
}

// What whoever made a file has written in the place of a hash is not shown to anybody.
func TestPreviousIsAHash(t *testing.T) {
	for previous, want := range map[string]bool{
		strings.Repeat("a1", 32): true, strings.Repeat("A1", 32): false, "": false, "00": false, strings.Repeat("0", 63) + `\u001b`: false,
		"00\\nlast hash: " + strings.Repeat("1", 32): false,
	} {
		body := `{"number":2,"time":"2026-11-30T10:00:00Z","event":"opened","previous":"` + previous + `"`
		line := fmt.Sprintf("%s,\"hash\":\"%x\"}\n", body, sha256.Sum256([]byte(body)))
		if report, err := verified([]byte(line)); (err == nil) != want {
			t.Errorf("%q: %v, %+v", previous, err, report)
		}
	}
}

// After Close there is no entry, and with required no token.
func TestClosed(t *testing.T) {
	for _, required := range []bool{false, true} {
		trail := open(t, filepath.Join(t.TempDir(), "audit.jsonl"), required)
		closed(t, trail)
		if err := trail.Token(t.Context(), issued(1)); (err != nil) != required {
			t.Errorf("required %v: %v", required, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"number":1,"time":"2026-01-01T00:00:00Z","event":"opened","previous":"` + strings.Repeat("0", 64) + `","hash":"` + strings.Repeat("0", 64) + "\"}\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := verified(text)
		if err == nil && report.Entries > 0 {
			if again, err := verified(text); err != nil || again != report {
				t.Errorf("%+v, then %+v, %v", report, again, err)
			}
		}
	})
}

// Whatever a file holds, a server goes on behind it or leaves it as it is, as Check says before.
func FuzzEnd(f *testing.F) {
	line := func(body string) string {
		return fmt.Sprintf("%s,\"hash\":\"%x\"}\n", body, sha256.Sum256([]byte(body)))
	}
	whole := line(`{"number":1,"time":"2026-01-01T00:00:00Z","event":"opened","previous":"` + strings.Repeat("0", 64) + `"`)
	for _, torn := range []string{"", whole[:100], whole[:100] + "\n", whole[:100] + "\n" + whole[:20], "\x00\x00", "\n", "hello\n"} {
		f.Add([]byte(torn))
		f.Add([]byte(whole + torn))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		checked := audit.Check(path)
		trail, err := audit.Open(audit.Config{File: path, Log: slog.New(slog.DiscardHandler)})
		if (err == nil) != (checked == nil) {
			t.Errorf("Check: %v, Open: %v", checked, err)
		}
		if err != nil {
			if !bytes.Equal(read(t, path), text) {
				t.Error("it was changed")
			}
			return
		}
		closed(t, trail)
		if !bytes.HasPrefix(read(t, path), text) {
			t.Error("what was there is not there any more")
		}
		if before, err := verified(text); err == nil {
			if report := wantWhole(t, read(t, path)); report.Entries != before.Entries+1 {
				t.Errorf("%+v, then %+v", before, report)
			}
		}
	})
}
