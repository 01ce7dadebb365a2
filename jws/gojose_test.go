package jws_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/waybill-token/waybill/jws"
)

var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512}

// oracle reads a token with go-jose.
func oracle(compact string, key *rsa.PublicKey) ([]byte, error) {
	token, err := jose.ParseSignedCompact(compact, algorithms)
	if err != nil {
		return nil, err
	}
	return token.Verify(key)
}

// agree fails when this package accepts what go-jose does not, or with another
// payload. The other way round is as it should be: go-jose is more lenient.
func agree(tb testing.TB, compact string, key *rsa.PublicKey) (accepted bool) {
	tb.Helper()
	ours, err := accept(compact, key)
	if err != nil {
		return false
	}
	theirs, err := oracle(compact, key)
	if err != nil {
		tb.Errorf("accepted here, and refused by go-jose: %v\n%s", err, compact)
	} else if !bytes.Equal(ours, theirs) {
		tb.Errorf("payload %q here, and %q for go-jose\n%s", ours, theirs, compact)
	}
	return true
}

// spellings are headers that mean nearly the same; the placeholder is the value of x5c.
var spellings = []string{
	`{"alg":"RS256","typ":"JWT","x5c":X}`,
	`{"x5c":X,"typ":"JWT","alg":"RS256"}`,
	"\t{ \"alg\" : \"RS256\" ,\r\n \"typ\":\"JWT\", \"x5c\" :X } \n",
	`{"\u0061lg":"R\u00532\u00356","typ":"JWT","x5c":X}`,
	`{"\u0061lg":"RS25\u0036","t\u0079p":"\u004aWT","x5c":X}`,
	`{"alg":"RS384","typ":"JWT","x5c":X}`,
	`{"alg":"RS512","typ":"JWT","x5c":X}`,
	`{"alg":"PS256","typ":"JWT","x5c":X}`,
	`{"alg":"none","typ":"JWT","x5c":X}`,
	`{"alg":"RS256","alg":"RS256","typ":"JWT","x5c":X}`,
	`{"alg":"RS256","ALG":"none","typ":"JWT","x5c":X}`,
	`{"ALG":"RS256","typ":"JWT","x5c":X}`,
	`{"alg":"RS256","typ":"jwt","x5c":X}`,
	`{"alg":"RS256","typ":"JWT","x5c":X,"kid":"1"}`,
	`{"alg":"RS256","typ":"JWT","x5c":X,"crit":["exp"],"exp":1}`,
	`{"alg":"RS256","typ":"JWT","x5c":X,"b64":false,"crit":["b64"]}`,
	`{"alg":"RS256","typ":"JWT","x5c":X,"jku":"https://example.com"}`,
	`{"alg":"RS256","typ":"JWT","x5c":X,"x5c":X}`,
	`{"alg":"RS256","typ":"JWT","x5c":[]}`,
	`{"alg":"RS256","typ":"JWT","x5c":null}`,
	`{"alg":"RS256","typ":"JWT"}`,
	`{"alg":"RS256","typ":"JWT","x5c":X}{}`,
	`{"alg":"RS256","typ":"JWT","x5c":X,"":{}}`,
	`[{"alg":"RS256","typ":"JWT","x5c":X}]`,
	`null`, `{}`, ``,
}

func x5cOf(tb testing.TB) string {
	tb.Helper()
	header, _, _ := strings.Cut(sign(tb, jws.RS256, consumer(), "{}"), ".")
	text := string(raw(tb, header))
	return text[strings.Index(text, "[") : strings.Index(text, "]")+1]
}

func TestAgreesWithGoJose(t *testing.T) {
	me, x5c := consumer(), x5cOf(t)
	accepted := 0
	for _, spelling := range spellings {
		header := strings.Replace(spelling, "X", x5c, 1)
		for _, payload := range []string{`{"iss":"a"}`, "not JSON", "\x00\xff"} {
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				compact := forge(t, header, payload, me.Key, hash)
				if agree(t, compact, public(t, me)) {
					accepted++
				}
				if agree(t, compact, public(t, stranger())) {
					t.Errorf("%s: accepted with the key of another", spelling)
				}
			}
		}
	}
	if want := 7 * 3; accepted != want { // the first seven spellings, with the hash that they name
		t.Errorf("%d tokens were accepted, want %d", accepted, want)
	}
}

func TestGoJoseReadsWhatSignMakes(t *testing.T) {
	for _, alg := range []jws.Algorithm{jws.RS256, jws.RS384, jws.RS512} {
		compact := sign(t, alg, consumer(), `{"iss":"a"}`)
		if got, err := oracle(compact, public(t, consumer())); err != nil || string(got) != `{"iss":"a"}` {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
	}
}

// FuzzAgreesWithGoJose signs whatever header and payload the fuzzer thinks of, so
// that the signature is not what keeps it out.
func FuzzAgreesWithGoJose(f *testing.F) {
	me, x5c := consumer(), x5cOf(f)
	for _, spelling := range spellings {
		f.Add(spelling, `{"iss":"a"}`)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		header = strings.Replace(header, "X", x5c, 1)
		for name, hash := range map[string]crypto.Hash{"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512} {
			if strings.Contains(header, name) {
				agree(t, forge(t, header, payload, me.Key, hash), public(t, me))
				return
			}
		}
	})
}

// Wherever the bytes of a token are changed, go-jose would have to agree.
func FuzzTokenAgreesWithGoJose(f *testing.F) {
	me := consumer()
	compact := sign(f, jws.RS256, me, `{"iss":"a"}`)
	sum := sha256.Sum256([]byte(compact))
	f.Add(compact)
	f.Add(join(encode("{}"), encode("{}"), "AA"))
	f.Add("..")
	f.Fuzz(func(t *testing.T, s string) {
		if agree(t, s, public(t, me)) && sha256.Sum256([]byte(s)) != sum {
			t.Errorf("another token than the one that was signed is accepted:\n%s", s)
		}
	})
}
