package assertion

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// A stage applies one or more rules. It takes from the walk what earlier stages have made, leaves there what
// it makes itself, and returns errSkipped when something that it needs is not there.
type stage struct {
	name  string // as on the page docs/architecture.md
	rules []*rule.Rule
	apply func(w *walk, ctx context.Context) error
	// perHeader stages depend on nothing but the header and the anchors. They are skipped for a header that was
	// proven before.
	perHeader bool
}

// authentication is the first half of the walk: what the assertion says, and the proof that whoever holds the key of a
// trusted certificate says it. It depends on the assertion, the anchors and the time, calls nobody and remembers
// nothing of an assertion that fails.
var authentication = []stage{
	{name: "split", rules: []*rule.Rule{rule.JWTCompact}, apply: (*walk).split},
	{name: "decodeHeader", rules: []*rule.Rule{rule.JWTHeader}, apply: (*walk).decodeHeader, perHeader: true},
	{name: "checkHeader", rules: []*rule.Rule{rule.JWTAlg, rule.JWTTyp, rule.JWTHeaderParameter}, apply: (*walk).checkHeader, perHeader: true},
	{name: "decodeCertificates", rules: []*rule.Rule{rule.JWTX5C}, apply: (*walk).decodeCertificates, perHeader: true},
	{name: "decodeClaims", rules: []*rule.Rule{rule.JWTPayload}, apply: (*walk).decodeClaims},
	{name: "checkClaims", rules: []*rule.Rule{
		rule.ClaimIss, rule.ClaimSub, rule.ClaimAud, rule.ClaimJTI, rule.ClaimIat, rule.ClaimExp, rule.ClaimLifetime, rule.ClaimNbf,
	}, apply: (*walk).checkClaims},
	{name: "validateChain", rules: []*rule.Rule{
		rule.CertificateKey, rule.CertificateValidity, rule.CertificateUsage, rule.ChainOrder, rule.ChainIssuer, rule.ChainUntrusted,
	}, apply: (*walk).validateChain, perHeader: true},
	{name: "verifySignature", rules: []*rule.Rule{rule.JWTSignature}, apply: (*walk).verifySignature},
}

// admission is the second half: whether the party that has proven itself gets in. It may wait for others.
var admission = []stage{
	{name: "lookUp", rules: []*rule.Rule{rule.PartyUnknown}, apply: (*walk).lookUp},
	{name: "checkParty", rules: []*rule.Rule{rule.PartyNotActive, rule.PartyCertificate, rule.PartyPolicy}, apply: (*walk).checkParty},
	{name: "checkRevocation", rules: []*rule.Rule{rule.CertificateRevoked}, apply: (*walk).checkRevocation},
	{name: "use", rules: []*rule.Rule{rule.JTIReplayed}, apply: (*walk).use},
}

// errSkipped: when serving, every stage before has succeeded, so that this is an error of our own.
var errSkipped = errors.New("assertion: a stage lacks what an earlier one makes")

// A walk is one assertion on its way through the stages, for serving and for explaining alike.
type walk struct {
	v        *Verifier
	compact  string
	clientID ishare.PartyID // by the request; when explaining, iss as far as it is a party identifier
	at       time.Time
	trace    *rule.Trace // nil when serving
	info     UnverifiedInfo

	// What the stages make. Each value is there once its stage has succeeded.
	token        *jws.Token          // split
	rawHeader    *jws.Header         // decodeHeader
	algorithm    jws.Algorithm       // checkHeader
	certificates []*x509.Certificate // decodeCertificates
	payload      *claimsInput        // decodeClaims
	claims       *validClaims        // checkClaims
	chain        *trust.Chain        // validateChain
	signer       *trust.Chain        // verifySignature: the chain whose leaf has signed
	signed       bool                // verifySignature: the first certificate has signed, whether it is trusted or not
	party        *ishare.Party       // lookUp
	admitted     *ishare.Party       // checkParty: in good standing
	current      *ishare.Party       // checkRevocation: admitted, by a chain that is not revoked
	client       *Client             // use

	// When serving, and the header was proven before, algorithm and chain are taken from there.
	known *knownHeader
}

// run applies stages in order. Serving ends at the first error. Explaining records rejections and goes on with
// every stage that has what it needs; only an error that is no rejection ends it, because after it nobody knows.
func (w *walk) run(ctx context.Context, stages []stage) error {
	for i := range stages {
		s := &stages[i]
		if s.perHeader && w.known != nil {
			continue
		}
		began := time.Time{}
		if w.v.config.Observe != nil {
			began = time.Now()
		}
		err := s.apply(w, ctx)
		if w.trace == nil {
			w.observe(ctx, s.name, began, err)
			if err != nil {
				return err
			}
			continue
		}
		rejection, _ := rule.Classify(err)
		switch {
		case rejection != nil:
			w.trace.Record(rejection.Rule, rejection)
		case err == nil && len(s.rules) == 1: // of several, each check was recorded by itself
			w.trace.Record(s.rules[0], nil)
		case err != nil && !errors.Is(err, errSkipped):
			return err
		}
	}
	return nil
}

// observe tells of a stage, or of another part of the walk, that has ended.
func (w *walk) observe(ctx context.Context, stage string, began time.Time, err error) {
	if w.v.config.Observe != nil {
		w.v.config.Observe(ctx, stage, began, err)
	}
}

// find looks whether the header was proven before. It decodes nothing: what it costs is one pass over the assertion,
// and if that cannot be taken apart, split says so.
func (w *walk) find() {
	if w.token, _ = jws.Cut(w.compact); w.token == nil {
		return
	}
	w.known = w.v.knownHeader(w.token.HeaderDigest(), w.at)
	if w.known == nil {
		w.v.first.Add(1)
	} else {
		w.v.known.Add(1)
		w.algorithm, w.chain = w.known.algorithm, w.known.proof.Chain(w.leaf)
		w.info.Thumbprint = w.chain.Thumbprint()
	}
}

// leaf reads the certificate that signs once more, of a header that was proven before.
func (w *walk) leaf() *x509.Certificate {
	header, err := w.token.Header()
	if err != nil {
		return nil
	}
	certificates, err := header.Certificates(w.v.config.Trust.Issuer)
	if err != nil {
		return nil
	}
	return certificates[0]
}

// split: rule jwt.compact, apart from the header's encoding, which decodeHeader checks.
func (w *walk) split(context.Context) (err error) {
	if w.token == nil {
		w.token, err = jws.Cut(w.compact)
	}
	if err == nil {
		err = w.token.Decode()
	}
	if err != nil {
		w.token = nil
		return flawed(rule.JWTCompact, "client_assertion is not a compact JWT: ", err)
	}
	return nil
}

// flawed refuses in the words of package jws.
func flawed(reason *rule.Rule, about string, err error) *rule.Rejection {
	flaw, ok := errors.AsType[*jws.FlawError](err)
	if !ok {
		return reason.Reject().From(err)
	}
	rejection := reason.Because("%s%s", about, flaw.Sentence)
	if flaw.Hint != "" {
		rejection.Hint = flaw.Hint
	}
	return rejection
}

func (w *walk) validateChain(context.Context) (err error) {
	if w.certificates == nil {
		return errSkipped
	}
	if w.v.config.Trust == nil {
		return trust.Judge(w.certificates, w.at, w.trace)
	}
	w.chain, err = w.v.config.Trust.Validate(w.certificates, w.at, w.trace)
	return err
}

// verifySignature: the signature holds for the leaf of a trusted chain, and for no other certificate of x5c.
// Explaining verifies the signature also when the chain is not trusted, as long as the leaf's key is safe to verify with.
func (w *walk) verifySignature(context.Context) error {
	var key *jws.Key
	if w.chain != nil {
		key = w.chain.Key()
	} else if rejection, applied := w.trace.Outcome(rule.CertificateKey); applied && rejection == nil {
		if public, ok := w.certificates[0].PublicKey.(*rsa.PublicKey); ok {
			key = jws.NewKey(public)
		}
	}
	if key == nil || w.algorithm == "" {
		return errSkipped
	}
	if err := w.token.Verify(w.algorithm, key); err != nil {
		return flawed(rule.JWTSignature, "", err)
	}
	w.signer, w.signed = w.chain, true
	w.info.Signed = w.signer != nil
	if w.trace == nil {
		w.v.remember(w)
	}
	return nil
}

// proven reports whether the client has proven who it is: by a chain that is trusted, or, in an explanation that does not
// know whom the server trusts, by its signature.
func (w *walk) proven() bool { return w.signer != nil || w.signed && w.v.config.Trust == nil }

// A knownHeader is what a header says once its chain was trusted and a signature of its key was seen. The same header
// need not be judged twice.
type knownHeader struct {
	algorithm jws.Algorithm
	proof     *trust.Proof
}

// knownHeader finds a header that was proven before, when its chain still holds.
func (v *Verifier) knownHeader(digest [sha256.Size]byte, at time.Time) *knownHeader {
	known, ok := v.headers.GetIfPresent(digest)
	if !ok || !v.config.Trust.Holds(known.proof, at) {
		return nil
	}
	return known
}

// remember is called when a signature was verified, and not before: whoever merely shows a certificate gets no place.
func (v *Verifier) remember(w *walk) {
	if w.known == nil {
		v.headers.Set(w.token.HeaderDigest(), &knownHeader{w.algorithm, w.chain.Proof})
	}
}

func (w *walk) checkRevocation(ctx context.Context) error {
	if w.signer == nil || w.clientID == "" || w.v.config.Revocation == nil {
		return errSkipped
	}
	if err := w.v.askRevocation(ctx, w.signer); err != nil {
		return err
	}
	w.current = w.admitted
	if _, off := w.v.config.Revocation.(revocation.Off); off && w.trace != nil {
		return errSkipped // an explanation does not claim what nobody was asked
	}
	return nil
}

// askRevocation: the one rejection that a checker may give is that of its rule. Another is
// about what somebody answered to the checker.
func (v *Verifier) askRevocation(ctx context.Context, chain *trust.Chain) error {
	err := v.config.Revocation.Check(ctx, chain)
	if err == nil {
		return nil
	}
	if rejection, _ := rule.Classify(err); rejection != nil && rejection.Rule == rule.CertificateRevoked {
		return rejection
	}
	return outage(rule.UnavailableRevocation, err)
}

// use marks the assertion used: the last stage, because whatever is remembered
// of an assertion that could still fail lets a stranger burn a client's values.
func (w *walk) use(ctx context.Context) error {
	if w.trace != nil || w.claims == nil || w.current == nil { // an explanation uses nothing up
		return errSkipped
	}
	first, err := w.v.config.Replay.Use(ctx, replay.Pair{
		Issuer:   w.clientID,
		JTI:      w.claims.jti,
		IssuedAt: w.claims.issuedAt,
		Until:    w.claims.expires.Add(w.v.leeway),
	})
	if err != nil {
		return outage(rule.UnavailableState, err)
	}
	if !first {
		return rule.JTIReplayed.Reject()
	}
	w.client = &Client{party: w.current, id: w.clientID, chain: w.signer}
	return nil
}

// unlessExpired is the outcome of the walk, or the rejection by claim.exp when the outcome is not a rejection and the
// assertion has expired since it came. Without this, somebody who came late would be told to come again; and a store
// that may forget a pair at its end could say yes twice to copies that were slow to reach it.
func (w *walk) unlessExpired(err error) error {
	rejection, _ := rule.Classify(err)
	if rejection != nil {
		return err
	}
	late := time.Since(w.claims.expires)
	if late < w.v.leeway {
		return err
	}
	expired := rule.ClaimExp.Because("the assertion expired %s ago, while the server waited for what it depends on", late.Round(time.Second))
	if err != nil {
		expired.Cause = errors.New(err.Error()) // an outage that can be found would be the answer
	}
	return expired
}

// defaultRetry is what a client is told to wait when nothing better is known.
const defaultRetry = 5 * time.Second

// outage turns an error of something that we depend on into the answer that is neither yes nor no.
func outage(reason *rule.Rule, err error) error {
	if _, o := rule.Classify(err); o != nil {
		return o
	}
	wait := defaultRetry
	if undecided, ok := errors.AsType[*replay.UndecidedError](err); ok {
		wait = undecided.RetryAfter
	}
	return &rule.Outage{Rule: reason, RetryAfter: wait, Cause: err}
}
