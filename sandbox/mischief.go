package sandbox

import (
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// A mischief is a way in which the registry can give answers that nobody may
// believe. Functions that are not set leave things right.
type mischief struct {
	name     string
	envelope func(*envelope)     // before it is signed
	forge    func(string) string // after it was signed
	body     func([]byte) []byte // as it is sent
	party    bool                // about another party than the one asked for
	signer   bool                // signed by another participant
}

var mischiefs = []mischief{
	{name: "wrong-signature", forge: spoilSignature},
	{name: "wrong-signer", signer: true},
	{name: "wrong-issuer", envelope: func(e *envelope) { e.Issuer, e.Subject = nobody, nobody }},
	{name: "wrong-audience", envelope: func(e *envelope) { e.Audience = nobody }},
	{name: "expired", envelope: func(e *envelope) { e.shift(-time.Hour) }},
	{name: "other-party", party: true},
	{name: malformed, body: func(b []byte) []byte { return b[:len(b)/2] }},
}

// nobody is a party that does not exist.
const nobody ishare.PartyID = "did:ishare:EU.NL.NTRNL-99999999"

func (e *envelope) shift(by time.Duration) {
	e.IssuedAt += int64(by / time.Second)
	e.Expires += int64(by / time.Second)
}

// spoilSignature changes the first character of the signature.
func spoilSignature(compact string) string {
	start := strings.LastIndexByte(compact, '.') + 1
	spoilt := byte('A')
	if compact[start] == spoilt {
		spoilt = 'B'
	}
	return compact[:start] + string(spoilt) + compact[start+1:]
}

// moods are the choices of the registry.
func moods() []string {
	names := outages()
	for _, m := range mischiefs {
		names = append(names, m.name)
	}
	return names
}

// mischiefOf is none for a mood that is no mischief.
func mischiefOf(mood string) mischief {
	for _, m := range mischiefs {
		if m.name == mood {
			return m
		}
	}
	return mischief{}
}
