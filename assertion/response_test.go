package assertion_test

import (
	"strings"
	"testing"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// answering is a reader of what the world's client answers to the server.
func (w *world) answering() assertion.ResponseVerifierConfig {
	return assertion.ResponseVerifierConfig{
		Issuer: client, Audience: []ishare.PartyID{server, serverAlias}, Trust: w.config.Trust, Revocation: w.revocation, Leeway: leeway,
	}
}

func newReader(t *testing.T, c assertion.ResponseVerifierConfig) *assertion.ResponseVerifier {
	t.Helper()
	r, err := assertion.NewResponseVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReader(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		r := newReader(t, w.answering())
		d := newDraft()
		d.payload["partyInfo"] = map[string]any{"id": "did:ishare:EU.NL.NTRNL-10000002"}
		compact := d.compact(t, w)
		for range 2 { // an answer may be read again
			payload, err := r.Read(t.Context(), compact)
			if err != nil || !strings.Contains(string(payload), `"partyInfo":{"id":"did:ishare:EU.NL.NTRNL-10000002"}`) {
				t.Errorf("payload %q, %v", payload, err)
			}
		}
		if got := w.asked(); got != (asked{revocation: 2}) {
			t.Errorf("asked %+v", got)
		}
	})
}

// Every rule counts that needs neither a party record nor a memory.
func TestReaderKeepsTheRules(t *testing.T) {
	for _, b := range breaches() {
		if group, _, _ := strings.Cut(b.rule.ID, "."); group == "party" || b.rule == rule.JTIReplayed {
			continue
		}
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			b.apply(t, w, d)
			payload, err := newReader(t, w.answering()).Read(t.Context(), d.compact(t, w))
			if ruleOf(err) != b.rule || payload != nil {
				t.Errorf("payload %q, %v, want %s", payload, err, b.rule.ID)
			}
		})
	}
}

// Every participant has a seal of the same CAs. None may speak as another.
func TestReaderKnowsTheIssuer(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		other, err := w.ca.Seal(testca.SealRequest{Organization: "Other", Identifier: "NTRNL-10000002"})
		if err != nil {
			t.Fatal(err)
		}
		nameless, err := w.ca.Seal(testca.SealRequest{Organization: string(client)})
		if err != nil {
			t.Fatal(err)
		}
		answer := func(by *testca.Identity) string {
			d := newDraft()
			d.header["x5c"], d.signer = encodeChain(by.Chain), by.Key
			return d.compact(t, w)
		}
		pinned := w.answering()
		pinned.Certificates = []string{ishare.Thumbprint(other.Certificate().Raw)}
		for _, test := range []struct {
			name   string
			config assertion.ResponseVerifierConfig
			by     *testca.Identity
			right  bool
		}{
			{"by name, its own seal", w.answering(), w.seal, true},
			{"by name, another participant's", w.answering(), other, false},
			{"by name, a seal that names nobody", w.answering(), nameless, false},
			{"by certificate, that one", pinned, other, true},
			{"by certificate, one that bears the name", pinned, w.seal, false},
		} {
			counted := w.asked()
			payload, err := newReader(t, test.config).Read(t.Context(), answer(test.by))
			if (err == nil) != test.right || (payload != nil) != test.right || ruleOf(err) != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			if !test.right && w.asked() != counted {
				t.Errorf("%s: revocation was asked", test.name)
			}
		}
		r := newReader(t, pinned)
		pinned.Certificates[0] = "changed by the caller"
		if _, err := r.Read(t.Context(), answer(other)); err != nil {
			t.Errorf("after the caller changed its list: %v", err)
		}
	})
}

func TestReaderWithoutAnAnswerAboutRevocation(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.revocation.err = errGone
		payload, err := newReader(t, w.answering()).Read(t.Context(), newDraft().compact(t, w))
		checkOutage(t, err, rule.UnavailableRevocation)
		if payload != nil {
			t.Error("the payload is told")
		}
	})
}

func TestNewReaderRefuses(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for name, spoil := range map[string]func(c *assertion.ResponseVerifierConfig){
			"no issuer":               func(c *assertion.ResponseVerifierConfig) { c.Issuer = "" },
			"a URL as issuer":         func(c *assertion.ResponseVerifierConfig) { c.Issuer = "https://example.com" },
			"no audience":             func(c *assertion.ResponseVerifierConfig) { c.Audience = nil },
			"empty audience":          func(c *assertion.ResponseVerifierConfig) { c.Audience = []ishare.PartyID{server, ""} },
			"no trust":                func(c *assertion.ResponseVerifierConfig) { c.Trust = nil },
			"no revocation":           func(c *assertion.ResponseVerifierConfig) { c.Revocation = nil },
			"negative leeway":         func(c *assertion.ResponseVerifierConfig) { c.Leeway = -1 },
			"leeway over the maximum": func(c *assertion.ResponseVerifierConfig) { c.Leeway = assertion.MaxLeeway + 1 },
		} {
			c := w.answering()
			spoil(&c)
			if r, err := assertion.NewResponseVerifier(c); err == nil || r != nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}
