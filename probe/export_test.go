package probe

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"io"
	"net/http"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

// Cheaply has a run forge with keys that cost little.
func Cheaply(c Config) Config {
	c.newKey = testca.PooledKey
	return c
}

// CheapTestSeals is NewTestSeals with such keys.
func CheapTestSeals(key crypto.Signer, certificates, own []*x509.Certificate) (*TestSeals, error) {
	return newTestSeals(key, certificates, own, testca.PooledKey)
}

// Chain is that of the right seal.
func (s *TestSeals) Chain() []*x509.Certificate { return s.made["right"].Chain }

// Told is what would be told of an answer, and the verdicts of a case in which it must be a refusal, and one in which it
// must be a token.
func Told(status int, header http.Header, body []byte) (told string, refuse, accept Verdict, err error) {
	a, err := readAnswer(&http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(body))})
	if err != nil {
		return "", "", "", err
	}
	a.secrets = []string{a.token}
	if a.token == "" {
		a.secrets = nil
	}
	c := Case{Weight: Must}
	return a.told() + a.flaw(nil), mustRefuse(c, a).Verdict, mustAccept(c, a).Verdict, nil
}

// OtherParty is the identifier of nobody.
func OtherParty(id ishare.PartyID) ishare.PartyID { return otherParty(id) }
