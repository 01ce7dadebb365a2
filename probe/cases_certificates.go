package probe

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"slices"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// chainCases break the rules about the chain, as far as one can who has a seal and no CA.
func chainCases() []Case {
	arranged := func(least int, arrange func(chain []*x509.Certificate) []*x509.Certificate) func(*draft) {
		return func(d *draft) {
			if len(d.seal.Certificates) < least {
				d.unable = "the chain of the seal is too short for that"
				return
			}
			d.Assertion.Header.Set("x5c", isharetest.X5C(arrange(slices.Clone(d.seal.Certificates))...))
		}
	}
	forged := func(by func(*forge, Seal) (*testca.Identity, error)) func(*draft) {
		return func(d *draft) {
			if id, err := by(d.forge, d.seal); d.unless(err) {
				d.present(id)
			}
		}
	}
	return slices.Concat(refused(rule.CertificateUsage, []Case{
		{Name: "chain-reversed", Sends: "x5c stands in the reverse order, the root first.", Spec: "RFC 7515 section 4.1.6: the certificate of the key that signed must be the first", change: arranged(2, func(chain []*x509.Certificate) []*x509.Certificate {
			slices.Reverse(chain)
			return chain
		})},
	}), refused(rule.ChainOrder, []Case{
		{Name: "issuers-exchanged", Weight: Should, Sends: "The two certificates behind the leaf are exchanged.", change: arranged(3, func(chain []*x509.Certificate) []*x509.Certificate {
			chain[1], chain[2] = chain[2], chain[1]
			return chain
		})},
		{Name: "stranger-behind", Weight: Should, Sends: "A stranger's certificate, signed by itself, follows the chain.", change: func(d *draft) {
			if stranger, err := d.forge.selfSigned("Stranger"); d.unless(err) {
				d.Assertion.Header.Set("x5c", isharetest.X5C(append(slices.Clone(d.seal.Certificates), stranger.Certificate())...))
			}
		}},
		{Name: "last-link", Sends: "A CA with the names of the real one issued the seal, and the real root stands at the end in place of its own.", change: forged(func(f *forge, s Seal) (*testca.Identity, error) {
			id, err := f.mirror(s.Certificates)
			if err == nil {
				id.Chain[len(id.Chain)-1] = s.Certificates[len(s.Certificates)-1]
			}
			return id, err
		})},
	}), refused(rule.ChainIssuer, []Case{
		{Name: "seal-as-a-CA", Sends: "The seal issued another certificate in the client's name, whose key signed: every participant could pass as every other.", change: forged((*forge).below)},
	}), refused(rule.ChainUntrusted, []Case{
		{Name: "another-CA", Official: "certificate untrusted", Sends: "A CA that is not trusted issued the seal: all its names are those of the real one, and its keys are others.", change: forged(func(f *forge, s Seal) (*testca.Identity, error) {
			return f.mirror(s.Certificates)
		})},
		{Name: "self-signed", Sends: "The seal is signed by itself.", change: forged(func(f *forge, s Seal) (*testca.Identity, error) { return f.mirror(s.Certificates[:1]) })},
		{Name: "leaf-only", Weight: Should, Sends: "x5c holds the seal alone, without its issuers.", change: arranged(2, func(chain []*x509.Certificate) []*x509.Certificate { return chain[:1] })},
	}))
}

// present has the draft signed by another identity, with its chain in x5c.
func (d *draft) present(id *testca.Identity) {
	d.Assertion.Header.Set("x5c", isharetest.X5C(id.Chain...))
	d.Assertion.Key = &signer{Signer: id.Key}
	if key, ok := id.Key.(*ecdsa.PrivateKey); ok { // of P-256; RFC 7518 section 3.4
		d.Assertion.Header.Set("alg", "ES256")
		d.Assertion.Sign = func(signed string) []byte {
			digest := sha256.Sum256([]byte(signed))
			x, y, err := ecdsa.Sign(rand.Reader, key, digest[:])
			if err != nil {
				return nil
			}
			return append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)
		}
	}
}

// certificateCases are about seals that only a CA can make.
func certificateCases() []Case {
	right := Case{
		Name: "right/seal-of-the-test-CA", Weight: Ours, Needs: NeedsTestCA, Sends: "The seal is a right one that the test CA issued in the client's name.", Wants: "a token, if it is registered",
		Spec:  "iSHARE 3.0, certificates: what is registered decides; unless it is, little can be told about the other seals of the test CA",
		steps: func(_ Case, r *runner) *finding { return r.rightTestSeal() },
	}
	made := needing(NeedsTestCA, slices.Concat(refused(rule.CertificateKey, []Case{
		{Name: "1024-bits", Official: "certificate under 2048 bits", Sends: "The seal's key has 1024 bits.", steps: testSeal("1024-bits")},
		{Name: "ECDSA", Official: "certificate not RSA", Sends: "The seal's key is on the curve P-256, and alg is ES256.", steps: testSeal("ECDSA")},
	}), refused(rule.CertificateValidity, []Case{
		{Name: "expired", Official: "certificate expired", Sends: "The seal expired an hour ago.", steps: testSeal("expired")},
		{Name: "not-yet-valid", Sends: "The seal is valid from an hour from now, or from an hour after it was made.", steps: testSeal("not-yet-valid")},
		{Name: "issuer-expired", Sends: "The CA that issued the seal expired an hour ago.", steps: testSeal("issuer-expired")},
	}), refused(rule.CertificateUsage, []Case{
		{Name: "leaf-is-a-CA", Sends: "The seal is a CA.", steps: testSeal("leaf-is-a-CA")},
		{Name: "keyEncipherment", Sends: "The seal's key usage is keyEncipherment, and neither digitalSignature nor nonRepudiation.", steps: testSeal("keyEncipherment")},
	}), refused(rule.ChainIssuer, []Case{
		{Name: "no-keyCertSign", Sends: "The key usage of the CA that issued the seal lacks keyCertSign.", steps: testSeal("no-keyCertSign")},
	}), refused(rule.ChainOrder, []Case{
		{Name: "SHA-1", Weight: Should, Sends: "The seal is signed with SHA-1.", Spec: "iSHARE 3.0, certificates: SHA-256 or better", steps: testSeal("SHA-1")},
	}), refused(rule.PartyCertificate, []Case{
		{Name: "of-another-party", Official: "certificate of another party", Sends: "The seal is that of another party, whose identifier it holds.", steps: testSeal("of-another-party")},
	}), refused(rule.PartyUnknown, []Case{
		{Name: "not-a-participant", Official: "unknown client", Sends: "The client has a right seal of the test CA, and is no participant.", steps: testSeal("of-another-party", func(d *draft) {
			d.As(otherParty(d.seal.ClientID))
		})},
	})))
	return slices.Concat([]Case{right}, made, needing(NeedsRevoked, refused(rule.CertificateRevoked, []Case{
		{Name: "revoked", Weight: Should, Sends: "The seal is revoked.", Spec: "iSHARE 3.0, certificates: the receiver is responsible for their validation", steps: otherSeal(func(c Config) *Seal { return c.Revoked })},
	})), needing(NeedsInactive, refused(rule.PartyNotActive, []Case{
		{Name: "not-active", Official: "client not active", Sends: "The client is a participant that is not active.", steps: otherSeal(func(c Config) *Seal { return c.Inactive })},
	})))
}

func needing(what string, cases []Case) []Case {
	for i := range cases {
		cases[i].Needs = what
	}
	return cases
}

// partyCases are about who the client is, as far as one can try with one seal.
func partyCases() []Case {
	cases := refused(rule.PartyUnknown, []Case{
		{Name: "own-seal-for-another", Sends: "client_id, iss and sub are another party, and the seal is one's own.", Spec: "iSHARE 3.0, certificates: the seal belongs to the client", change: func(d *draft) { d.As(otherParty(d.seal.ClientID)) }},
	})
	cases[0].Rules = append(cases[0].Rules, rule.PartyCertificate.ID)
	return cases
}

// testSeal sends a request with a seal of the test CA.
func testSeal(name string, edits ...func(*draft)) func(Case, *runner) *finding {
	return func(c Case, r *runner) *finding {
		a, f := r.withTestSeal(name, edits...)
		if f != nil {
			return f
		}
		judged := mustRefuse(c, a)
		if a.refusal() && !slices.Contains(c.Rules, a.rule()) && r.rightTestSeal().Verdict != Pass {
			return skip("%s; but a right seal of the test CA is refused as well, so that the reason may be another", a.told())
		}
		return &judged
	}
}

// otherSeal sends a right request with another seal of which a run was told.
func otherSeal(which func(Config) *Seal) func(Case, *runner) *finding {
	return func(c Case, r *runner) *finding {
		a, f := r.send(func() *draft { return newDraft(*which(r.config), r.config.Audience, r.config.Scope, r.forge) })
		if f != nil {
			return f
		}
		return new(mustRefuse(c, a))
	}
}

// withTestSeal sends a request with a seal of the test CA.
func (r *runner) withTestSeal(name string, edits ...func(*draft)) (*answer, *finding) {
	id, err := r.config.TestSeals.identity(name)
	if err != nil {
		return nil, skip("the test CA cannot make this seal: %v", err)
	}
	return r.send(func() *draft {
		d := r.draft()
		d.present(id)
		for _, edit := range edits {
			edit(d)
		}
		return d
	})
}

// rightTestSeal finds out, once, whether a right seal of the test CA gets a token.
func (r *runner) rightTestSeal() *finding {
	if r.testSeal == nil {
		a, f := r.withTestSeal("right")
		switch {
		case f != nil:
			r.testSeal = f
		case a.token != "":
			r.testSeal = &finding{Pass, Accepted, a.told()}
		default:
			r.testSeal = skip("%s; register this seal for the client to learn more about those of the test CA", a.told())
		}
	}
	return r.testSeal
}
