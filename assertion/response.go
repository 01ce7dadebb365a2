package assertion

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// ResponseVerifierConfig is what a [ResponseVerifier] judges by. Every field that is not marked optional must be set.
type ResponseVerifierConfig struct {
	// Issuer is the party that answers: the iss of its tokens.
	Issuer ishare.PartyID
	// Certificates are [ishare.Thumbprint]s of the seals by which the issuer may sign. Without any, the identifier that
	// the seal names must be the issuer's: see [ishare.CertificateIDs]. Optional.
	Certificates []string
	// Audience lists our own identifiers.
	Audience []ishare.PartyID
	// Trust judges the issuer's chain.
	Trust *trust.Validator
	// Revocation knows which certificates are revoked.
	Revocation RevocationChecker
	// Leeway is how far the issuer's clock may be off: 0 to [MaxLeeway].
	Leeway time.Duration
}

// A ResponseVerifier judges the iSHARE JWTs with which a party answers our requests: a Participant Registry's party
// records and trusted list. The rules are those of client assertions, apart from what needs a registry or a memory. It
// is safe for concurrent use.
type ResponseVerifier struct {
	verifier     *Verifier
	issuer       ishare.PartyID
	certificates []string
}

// NewResponseVerifier checks the configuration and returns a verifier for it.
func NewResponseVerifier(c ResponseVerifierConfig) (*ResponseVerifier, error) {
	if isNoPartyID(c.Issuer) {
		return nil, errors.New("assertion: the issuer is not a party identifier")
	}
	v, err := newVerifier(Config{Audience: c.Audience, Trust: c.Trust, Revocation: c.Revocation}, c.Leeway)
	if err != nil {
		return nil, err
	}
	return &ResponseVerifier{verifier: v, issuer: c.Issuer, certificates: slices.Clone(c.Certificates)}, nil
}

// errNotIssuer says that a participant signed who is not the one we asked.
var errNotIssuer = errors.New("assertion: the certificate is not the issuer's")

var errNoLonger = errors.New("assertion: the issuer's certificates are not trusted any more")

// Read returns the payload of a token that the issuer signed for us.
//
// The error is an [*rule.Rejection] by the rule that the token breaks, an [*rule.Outage] when revocation could not be
// found out, or another error when the seal is not the issuer's.
func (r *ResponseVerifier) Read(ctx context.Context, compact string) ([]byte, error) {
	w, err := r.verify(ctx, compact, time.Now())
	if err != nil {
		return nil, err
	}
	return w.token.Payload(), nil
}

// ReadKept is [ResponseVerifier.Read] for a token that was kept since it was received: its claims are judged as of
// the time when it was issued, which is returned too, and which must have come; the seal is judged as of
// then and as of now, by the present anchors and the present revocations.
func (r *ResponseVerifier) ReadKept(ctx context.Context, compact string) (payload []byte, issued time.Time, err error) {
	w := &walk{v: r.verifier, clientID: r.issuer, compact: compact, at: time.Now()}
	if err := w.run(ctx, []stage{{apply: (*walk).split}, {apply: (*walk).decodeClaims}}); err != nil {
		return nil, time.Time{}, err
	}
	iat, rejection := timeOf(rule.ClaimIat, "iat", w.payload.iat)
	if rejection == nil {
		rejection = claimsInput{at: w.at, leeway: r.verifier.leeway}.notAhead(rule.ClaimIat, "iat", iat)
	}
	if rejection != nil {
		return nil, time.Time{}, rejection
	}
	if w, err = r.verify(ctx, compact, iat); err != nil {
		return nil, time.Time{}, err
	}
	return w.token.Payload(), w.claims.issuedAt, nil
}

// verify judges a token as of a time, and its seal as of now besides.
func (r *ResponseVerifier) verify(ctx context.Context, compact string, at time.Time) (*walk, error) {
	w := &walk{v: r.verifier, clientID: r.issuer, compact: compact, at: at}
	if err := w.run(ctx, authentication); err != nil {
		return nil, err
	}
	if !r.verifier.config.Trust.Holds(w.signer.Proof, time.Now()) {
		return nil, errNoLonger
	}
	// Any participant has a seal of a trusted CA, and could otherwise speak as the issuer.
	isIssuer := slices.Contains(r.certificates, w.signer.Thumbprint())
	if len(r.certificates) == 0 {
		isIssuer = slices.Contains(ishare.CertificateIDs(w.signer.Leaf()), r.issuer)
	}
	if !isIssuer {
		return nil, errNotIssuer
	}
	if err := r.verifier.askRevocation(ctx, w.signer); err != nil {
		return nil, err
	}
	return w, nil
}
