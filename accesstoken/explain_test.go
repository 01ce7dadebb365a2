package accesstoken_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
)

// What a server has given is explained from its folders, also while it has them, and nothing is changed there.
func TestExplainFromTheFolders(t *testing.T) {
	t.Parallel()
	folder, journal := t.TempDir(), filepath.Join(t.TempDir(), "revocations")
	keys, err := accesstoken.OpenKeys(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	revoked, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: journal, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer revoked.Close()
	const party = "did:ishare:EU.NL.NTRNL-10000000"
	issuer, err := accesstoken.New(accesstoken.Config{Party: party, Lifetime: time.Hour, Keys: keys, Revoked: revoked})
	if err != nil {
		t.Fatal(err)
	}
	const client = "did:ishare:EU.NL.NTRNL-10000001"
	issue := func() (string, accesstoken.Claims) {
		token, claims, err := issuer.Issue(t.Context(), accesstoken.Claims{
			Party: client, Client: client, Scope: []string{"iSHARE"}, Thumbprint: "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
		})
		if err != nil {
			t.Fatal(err)
		}
		return token, claims
	}
	good, claims := issue()
	bad, of := issue()
	if err := revoked.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: of.ID}); err != nil {
		t.Fatal(err)
	}

	before := listing(t, folder) + listing(t, journal)
	readKeys, err := accesstoken.ReadKeys(folder)
	if err != nil {
		t.Fatal(err)
	}
	readRevoked, err := accesstoken.ReadTokenRevocations(journal)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := accesstoken.New(accesstoken.Config{Party: party, Lifetime: time.Hour, Keys: readKeys, Revoked: readRevoked})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if e := reader.Explain(t.Context(), good, now); e.Claims == nil || e.Claims.ID != claims.ID || e.Ours != nil || e.Expired != nil || e.Revoked != nil {
		t.Errorf("a good token: %+v", e)
	}
	// One thing that is wrong hides no other.
	if e := reader.Explain(t.Context(), bad, now.Add(2*time.Hour)); e.Claims == nil || !errors.Is(e.Expired, accesstoken.ErrExpired) || !errors.Is(e.Revoked, accesstoken.ErrRevoked) {
		t.Errorf("expired and revoked: %+v", e)
	}
	if e := reader.Explain(t.Context(), good[:len(good)-2], now); e.Claims != nil || !errors.Is(e.Ours, accesstoken.ErrInvalid) {
		t.Errorf("altered: %+v", e)
	}
	if after := listing(t, folder) + listing(t, journal); after != before {
		t.Errorf("the folders were %s, and are %s", before, after)
	}
}

// What cannot be read is an error, and nothing is made in its place.
func TestReadWhatIsNotThere(t *testing.T) {
	t.Parallel()
	absent := filepath.Join(t.TempDir(), "absent")
	if _, err := accesstoken.ReadKeys(absent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("keys: %v", err)
	}
	if _, err := accesstoken.ReadTokenRevocations(absent); err == nil {
		t.Error("revocations that are not there are taken for none")
	}
	if _, err := os.Stat(absent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "revocations"), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := accesstoken.ReadTokenRevocations(damaged); err == nil {
		t.Error("a damaged journal is taken for a whole one")
	}
}

// listing is the names and sizes of the files in a folder.
func listing(t *testing.T, folder string) (all string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all += entry.Name() + "=" + string(data) + "\n"
	}
	return all
}
