package assertion_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

func (w *world) maker() assertion.Maker {
	return assertion.Maker{ClientID: client, Key: w.seal.Key, Certificates: w.seal.Chain}
}

func TestMakerAndVerifierAgree(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		for _, alg := range []jws.Algorithm{"", jws.RS256, jws.RS384, jws.RS512} {
			m := w.maker()
			m.Algorithm = alg
			for _, audience := range []ishare.PartyID{server, serverAlias} {
				time.Sleep(999 * time.Millisecond)
				compact, err := m.Make(audience)
				if err != nil {
					t.Fatal(err)
				}
				checkAccepted(t, v, compact)
				checkRefused(t, v, compact, rule.JTIReplayed)
			}
		}
	})
}

// An assertion says what it must and nothing else, in whole seconds: servers of the
// 2.x framework take nothing but integers.
func TestMadeAssertion(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		time.Sleep(1999 * time.Millisecond)
		seen := map[string]bool{}
		for range 100 {
			m := w.maker()
			compact, err := m.Make(server)
			if err != nil {
				t.Fatal(err)
			}
			token, err := jws.Split(compact)
			if err != nil {
				t.Fatal(err)
			}
			header, err := token.Header()
			if err != nil {
				t.Fatal(err)
			}
			if alg, _ := header.Text("alg"); alg != "RS256" {
				t.Errorf("alg is %q, want RS256 unless another is set", alg)
			}
			var claims map[string]any
			if err := json.Unmarshal(token.Payload(), &claims); err != nil {
				t.Fatal(err)
			}
			jti, _ := claims["jti"].(string)
			if len(jti) < 22 || seen[jti] { // 128 bits and more
				t.Errorf("jti %q", jti)
			}
			seen[jti] = true
			want := map[string]any{
				"iss": string(client), "sub": string(client), "aud": string(server), "jti": jti,
				"iat": float64(946684801), "exp": float64(946684831),
			}
			if diff := cmp.Diff(want, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		}
	})
}

// failing is a key whose hardware was removed.
type failing struct{ crypto.Signer }

func (failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errGone }

func TestMakerRefuses(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for name, spoil := range map[string]func(m *assertion.Maker){
			"no key":                     func(m *assertion.Maker) { m.Key = nil },
			"no certificates":            func(m *assertion.Maker) { m.Certificates = nil },
			"key of another certificate": func(m *assertion.Maker) { m.Certificates = m.Certificates[1:] },
			"another algorithm":          func(m *assertion.Maker) { m.Algorithm = "PS256" },
			"party that is no UTF-8":     func(m *assertion.Maker) { m.ClientID = "\xff" },
		} {
			m := w.maker()
			spoil(&m)
			if compact, err := m.Make(server); err == nil || compact != "" {
				t.Errorf("%s: %.20q", name, compact)
			}
		}
		m := w.maker()
		m.Key = failing{m.Key}
		if _, err := m.Make(server); !errors.Is(err, errGone) {
			t.Errorf("%v does not tell why the key failed", err)
		}
	})
}
