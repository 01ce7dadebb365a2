package accesstoken_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/accesstoken/accesstokentest"
	"github.com/waybill-token/waybill/ishare"
)

const (
	ours   = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	theirs = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000001")
)

func openRevocations(tb testing.TB, c accesstoken.TokenRevocationConfig) *accesstoken.MemoryTokenRevocations {
	tb.Helper()
	m, err := accesstoken.OpenTokenRevocations(c)
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

func TestMemoryConforms(t *testing.T) {
	t.Run("kept", func(t *testing.T) {
		accesstokentest.Run(t, func(t *testing.T) accesstoken.TokenRevocations {
			return openRevocations(t, accesstoken.TokenRevocationConfig{Dir: t.TempDir(), NoHistory: true})
		})
	})
	t.Run("not kept", func(t *testing.T) {
		accesstokentest.Run(t, func(t *testing.T) accesstoken.TokenRevocations {
			return openRevocations(t, accesstoken.TokenRevocationConfig{})
		})
	})
}

// issuerWith makes an issuer that asks the store.
func issuerWith(tb testing.TB, revoked accesstoken.TokenRevocationChecker) *accesstoken.Issuer {
	tb.Helper()
	keys, err := accesstoken.OpenKeys(filepath.Join(tb.TempDir(), "keys"), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	issuer, err := accesstoken.New(accesstoken.Config{Party: ours, Lifetime: time.Hour, Keys: keys, Revoked: revoked})
	if err != nil {
		tb.Fatal(err)
	}
	return issuer
}

func issueTo(tb testing.TB, issuer *accesstoken.Issuer) (string, *accesstoken.Claims) {
	tb.Helper()
	token, claims, err := issuer.Issue(tb.Context(), accesstoken.Claims{
		Party: theirs, Client: "EU.EORI.NL000000001", Scope: ishare.Scope{ishare.ScopeISHARE},
		Thumbprint: ishare.Thumbprint([]byte("certificate")),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return token, &claims
}

func wantCheck(t *testing.T, issuer *accesstoken.Issuer, token string, want error) {
	t.Helper()
	c, err := issuer.Check(t.Context(), token)
	if !errors.Is(err, want) || (c != nil) != (want == nil) {
		t.Errorf("Check = %v, %v; want %v", c, err, want)
	}
}

// Whichever way a token is revoked, the check sees it at once, and a token that is
// issued afterwards is good.
func TestCheckSeesRevocations(t *testing.T) {
	for name, revocation := range map[string]func(*accesstoken.Claims) accesstoken.TokenRevocation{
		"token": func(c *accesstoken.Claims) accesstoken.TokenRevocation {
			return accesstoken.TokenRevocation{TokenID: c.ID, Expires: c.Expires}
		},
		"party": func(c *accesstoken.Claims) accesstoken.TokenRevocation {
			return accesstoken.TokenRevocation{Party: c.Party}
		},
		"client": func(c *accesstoken.Claims) accesstoken.TokenRevocation {
			return accesstoken.TokenRevocation{Party: c.Client}
		},
		"certificate": func(c *accesstoken.Claims) accesstoken.TokenRevocation {
			return accesstoken.TokenRevocation{Thumbprint: c.Thumbprint}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: t.TempDir(), NoHistory: true})
				issuer := issuerWith(t, store)
				token, claims := issueTo(t, issuer)
				wantCheck(t, issuer, token, nil)
				time.Sleep(time.Second)
				if err := store.Revoke(t.Context(), revocation(claims)); err != nil {
					t.Fatal(err)
				}
				wantCheck(t, issuer, token, accesstoken.ErrRevoked)
				wantCheck(t, issuer, token, accesstoken.ErrInvalid)
				time.Sleep(time.Second)
				later, _ := issueTo(t, issuer)
				wantCheck(t, issuer, later, nil)
				time.Sleep(time.Hour)
				wantCheck(t, issuer, token, accesstoken.ErrExpired)
			})
		})
	}
}

// A token of the second in which its party is revoked may be from before.
func TestTheSecondOfTheRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openRevocations(t, accesstoken.TokenRevocationConfig{})
		issuer := issuerWith(t, store)
		time.Sleep(100 * time.Millisecond)
		if err := store.Revoke(t.Context(), accesstoken.TokenRevocation{Party: theirs}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		token, _ := issueTo(t, issuer)
		wantCheck(t, issuer, token, accesstoken.ErrRevoked)
	})
}

// silent is a store that does not answer.
type silent struct{}

func (silent) Revoked(context.Context, *accesstoken.Claims) (bool, error) {
	return false, errors.New("no connection")
}

func TestFailingCheckerLetsNobodyIn(t *testing.T) {
	issuer := issuerWith(t, silent{})
	token, _ := issueTo(t, issuer)
	c, err := issuer.Check(t.Context(), token)
	if c != nil || err == nil || errors.Is(err, accesstoken.ErrInvalid) || errors.Is(err, accesstoken.ErrExpired) {
		t.Errorf("Check = %v, %v", c, err)
	}
}

// counting notes who asks.
type counting struct{ asked int }

func (c *counting) Revoked(context.Context, *accesstoken.Claims) (bool, error) {
	c.asked++
	return false, nil
}

// A stranger's text costs no look-up, which may be a call to another machine.
func TestOnlyGoodTokensAreLookedUp(t *testing.T) {
	store := &counting{}
	issuer := issuerWith(t, store)
	token, _ := issueTo(t, issuer)
	foreign, _ := issueTo(t, issuerWith(t, nil))
	for _, bad := range []string{"", "x", foreign, token[:len(token)-4] + "AAAA"} {
		wantCheck(t, issuer, bad, accesstoken.ErrInvalid)
	}
	if store.asked != 0 {
		t.Errorf("%d questions about bad tokens", store.asked)
	}
	wantCheck(t, issuer, token, nil)
	if store.asked != 1 {
		t.Errorf("%d questions about one good token", store.asked)
	}
}

// reopen ends a life and begins the next; after a crash nothing was closed, and only
// the lock is gone.
func reopen(t *testing.T, m *accesstoken.MemoryTokenRevocations, dir string) *accesstoken.MemoryTokenRevocations {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
}

func revokedIn(t *testing.T, m accesstoken.TokenRevocationChecker, c *accesstoken.Claims) bool {
	t.Helper()
	revoked, err := m.Revoked(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return revoked
}

func claimsOf(id string, issued time.Time) *accesstoken.Claims {
	return &accesstoken.Claims{ID: id, Party: theirs, Client: theirs, Thumbprint: ishare.Thumbprint([]byte(id)), Issued: issued}
}

func TestRevocationsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
	now := time.Now()
	one, all := claimsOf("ONE", now.Add(time.Hour)), claimsOf("ALL", now.Add(-time.Hour))
	for _, r := range []accesstoken.TokenRevocation{{TokenID: "ONE", Expires: now.Add(2 * time.Hour)}, {Party: theirs}} {
		if err := m.Revoke(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		m = reopen(t, m, dir)
		if err := m.RecoveryError(); err != nil {
			t.Errorf("doubt: %v", err)
		}
		if !revokedIn(t, m, one) || !revokedIn(t, m, all) || revokedIn(t, m, claimsOf("NEW", now.Add(time.Hour))) {
			t.Error("other tokens are revoked than before")
		}
		if m.Len() != 2 {
			t.Errorf("%d revocations are held", m.Len())
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
	if _, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true}); !errors.Is(err, accesstoken.ErrTokenRevocationsInUse) {
		t.Errorf("a second store: %v", err)
	}
}

func TestClosedStore(t *testing.T) {
	m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: t.TempDir(), NoHistory: true})
	if err := m.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "A"}); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "B"}); !errors.Is(err, accesstoken.ErrTokenRevocationsClosed) {
		t.Errorf("a revocation after the end: %v", err)
	}
	if !revokedIn(t, m, claimsOf("A", time.Now())) {
		t.Error("a check after the end has forgotten")
	}
}

// A store that is full refuses and forgets nothing; what is over makes room.
func TestFullStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openRevocations(t, accesstoken.TokenRevocationConfig{Limit: 2})
		revoke := func(id string, life time.Duration) error {
			return m.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: id, Expires: time.Now().Add(life)})
		}
		if err := errors.Join(revoke("A", time.Minute), revoke("B", 10*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := revoke("C", time.Hour); !errors.Is(err, accesstoken.ErrTokenRevocationsFull) {
			t.Errorf("one too many: %v", err)
		}
		if err := revoke("A", time.Hour); err != nil {
			t.Errorf("one that is there: %v", err)
		}
		if !revokedIn(t, m, claimsOf("A", time.Now())) || !revokedIn(t, m, claimsOf("B", time.Now())) {
			t.Error("one was forgotten")
		}
		time.Sleep(3 * time.Hour)
		if err := revoke("C", time.Hour); !errors.Is(err, accesstoken.ErrTokenRevocationsFull) {
			t.Errorf("while the clock alone says that A is over: %v", err)
		}
		time.Sleep(accesstoken.MaxLifetime - time.Hour)
		if err := revoke("C", time.Hour); err != nil || m.Len() != 1 {
			t.Errorf("after A and B are over: %v, %d held", err, m.Len())
		}
	})
}

// An hour after the last token has expired, nothing is held and checks cost nothing. A
// restart begins to count anew.
func TestRevocationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
		issued := time.Now()
		for _, r := range []accesstoken.TokenRevocation{{TokenID: "A", Expires: issued.Add(time.Hour)}, {Party: theirs}, {TokenID: "OLD", Expires: issued.Add(-3 * time.Hour)}} {
			if err := m.Revoke(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			time.Sleep(accesstoken.MaxLifetime + time.Hour - time.Second)
			if m.Len() != 3 || !revokedIn(t, m, claimsOf("A", issued)) {
				t.Errorf("forgotten within the margin for clocks: %d are held", m.Len())
			}
			m = reopen(t, m, dir)
		}
		time.Sleep(accesstoken.MaxLifetime + time.Hour + time.Second)
		if revokedIn(t, m, claimsOf("A", issued)) || m.Len() != 0 {
			t.Errorf("%d are held for ever", m.Len())
		}
	})
}

func revocationsPath(dir string) string { return filepath.Join(dir, "revocations") }

func TestRevokedWhileChecked(t *testing.T) {
	m := openRevocations(t, accesstoken.TokenRevocationConfig{})
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.Revoked(context.Background(), claimsOf("A", time.Now())) //nolint:usetesting // the test's own context may end first
				}
			}
		})
	}
	for i := range 500 {
		id := strings.Repeat("A", 1+i%100)
		if err := m.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: id}); err != nil {
			t.Error(err)
		}
		if !revokedIn(t, m, claimsOf(id, time.Now())) {
			t.Errorf("%s is not revoked", id)
		}
	}
	close(stop)
	group.Wait()
}

func TestRevocationsThatCannotOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]accesstoken.TokenRevocationConfig{
		"a file for a folder": {Dir: file}, "a negative limit": {Limit: -1},
	} {
		if m, err := accesstoken.OpenTokenRevocations(c); err == nil || m != nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(revocationsPath(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true}); err == nil {
		t.Error("a folder in the place of the file")
	}
	if err := os.Remove(revocationsPath(dir)); err != nil {
		t.Fatal(err)
	}
	openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true}) // the failed try has let go of the lock
}

// BenchmarkRevoked is what each check of a token pays.
func BenchmarkRevoked(b *testing.B) {
	for name, n := range map[string]int{"empty": 0, "1000": 1000} {
		b.Run(name, func(b *testing.B) {
			m := openRevocations(b, accesstoken.TokenRevocationConfig{})
			for i := range n {
				if err := m.Revoke(b.Context(), accesstoken.TokenRevocation{TokenID: strings.Repeat("A", 1+i%100) + string(rune('a'+i/100))}); err != nil {
					b.Fatal(err)
				}
			}
			c := claimsOf("SOMETHING", time.Now())
			b.ReportAllocs()
			for b.Loop() {
				if revoked, err := m.Revoked(b.Context(), c); revoked || err != nil {
					b.Fatal(revoked, err)
				}
			}
		})
	}
}
