//go:build pkcs11 && cgo

package keyfile_test

import (
	"crypto/rsa"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/pkcs11/softhsm"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

func init() { keyfile.AcceptedKey = func() *rsa.PrivateKey { return consumer().party.Key } } //nolint:gochecknoinits // before the tokens are made

// A registered party has a CA that its servers trust.
type registered struct {
	ca    *isharetest.CA
	party *isharetest.Party
}

var consumer = sync.OnceValue(func() registered {
	ca := isharetest.NewCA()
	return registered{ca, ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")}
})

// An assertion signed in hardware is one that the verifier accepts.
func TestHardwareAssertionIsAccepted(t *testing.T) {
	t.Parallel()
	key := "pkcs11:token=waybill;object=accepted?module-path=" + keyfile.SoftHSM(t)
	party := consumer().party
	chain := keyfile.Place(t, "chain.pem", keyfile.CertPEM(party.Certificates...))
	pair, problems := keyfile.ReadSeal(keyfile.Files{Key: key, Password: softhsm.PIN, Certificates: chain}, time.Now())
	if pair == nil {
		t.Fatal(problems)
	}
	defer pair.Close()
	maker := assertion.Maker{ClientID: party.ID(), Key: pair.Signer(), Certificates: pair.Certificates}
	compact, err := maker.Make(isharetest.ProviderID)
	if err != nil {
		t.Fatal(err)
	}
	client, _, err := newVerifier(t, consumer().ca, party).Verify(t.Context(), party.ID(), compact)
	if err != nil || client.ID() != party.ID() {
		t.Errorf("client %v, error %v", client, err)
	}
}

func newVerifier(t *testing.T, ca *isharetest.CA, party *isharetest.Party) *assertion.Verifier {
	t.Helper()
	validator, err := trust.New(ca.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience: []ishare.PartyID{isharetest.ProviderID}, Trust: validator, Parties: isharetest.NewList(party),
		Revocation: revocation.Off{}, Replay: store,
	})
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}
