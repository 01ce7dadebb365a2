package assertion

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// A Maker makes client assertions for one party. It is safe for concurrent use when its key is.
type Maker struct {
	// ClientID is the party's identifier, as the Participant Registry knows it.
	ClientID ishare.PartyID
	// Key is the private key of the party's seal: RSA, in memory or in hardware.
	Key crypto.Signer
	// Certificates is the chain of the seal, leaf first, up to and including a certificate that the server trusts.
	Certificates []*x509.Certificate
	// Algorithm is RS256 unless set. Servers of the 2.x framework accept nothing else.
	Algorithm jws.Algorithm
}

// Make makes an assertion for the server with this party identifier. It can be used once, within [Lifetime] from now.
func (m *Maker) Make(audience ishare.PartyID) (string, error) {
	now := time.Now()
	payload, err := json.Marshal(struct {
		Iss ishare.PartyID `json:"iss"`
		Sub ishare.PartyID `json:"sub"`
		Aud ishare.PartyID `json:"aud"`
		JTI string         `json:"jti"`
		Iat int64          `json:"iat"`
		Exp int64          `json:"exp"`
	}{
		Iss: m.ClientID, Sub: m.ClientID, Aud: audience,
		JTI: rand.Text(),
		Iat: now.Unix(), Exp: now.Add(Lifetime).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("assertion: payload: %w", err)
	}
	return jws.Sign(cmp.Or(m.Algorithm, jws.RS256), m.Key, m.Certificates, payload)
}
