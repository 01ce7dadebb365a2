package assertion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// ResponseVerifierConfig is what a [ResponseVerifier] judges by. Every field that is not marked
// optional must be set.
type ResponseVerifierConfig struct {
	// Issuer is the party that answers: the iss of its tokens.
	Issuer ishare.PartyID
	// Certificates are [ishare.Thumbprint]s of the seals by which the issuer may
	// sign. Without any, the identifier that the seal names must be the
	// issuer's: see [ishare.CertificateIDs]. Optional.
	Certificates []string
	// Audience lists our own identifiers.
	Audience []ishare.PartyID
	// Trust judges the issuer's chain.
	Trust *trust.Validator
	// Revocation knows which certificates are revoked.
	Revocation RevocationChecker
	// Leeway is as in [Config].
	Leeway time.Duration
}

// A ResponseVerifier judges the iSHARE JWTs with which a party answers our requests: a
// Participant Registry's party records and trusted list. The rules are those of
// client assertions, apart from what needs a registry or a memory. It is safe for
// concurrent use.
type ResponseVerifier struct {
	verifier     *Verifier
	issuer       ishare.PartyID
	certificates []string
}

// NewResponseVerifier checks the configuration and returns a reader for it.
func NewResponseVerifier(c ResponseVerifierConfig) (*ResponseVerifier, error) {
	switch {
	case isNoPartyID(c.Issuer):
		return nil, errors.New("assertion: the issuer is not a party identifier")
	case len(c.Audience) == 0 || slices.ContainsFunc(c.Audience, isNoPartyID):
		return nil, errors.New("assertion: no audience, or one that is not a party identifier")
	case c.Trust == nil || c.Revocation == nil:
		return nil, errors.New("assertion: Trust and Revocation must be set")
	case c.Leeway < 0 || c.Leeway > MaxLeeway:
		return nil, fmt.Errorf("assertion: leeway %s is not within 0 and %s", c.Leeway, MaxLeeway)
	}
	v, err := newVerifier(Config{Audience: c.Audience, Trust: c.Trust, Revocation: c.Revocation, Leeway: c.Leeway})
	if err != nil {
		return nil, err
	}
	return &ResponseVerifier{verifier: v, issuer: c.Issuer, certificates: slices.Clone(c.Certificates)}, nil
}

// errNotIssuer says that a participant signed who is not the one we asked.
var errNotIssuer = errors.New("assertion: the certificate is not the issuer's")

// Read returns the payload of a token that the issuer signed for us.
//
// The error is an [*rule.Rejection] by the rule that the token breaks, an
// [*rule.Outage] when revocation could not be found out, or another error when
// the seal is not the issuer's.
func (r *ResponseVerifier) Read(ctx context.Context, compact string) ([]byte, error) {
	stated, err := r.read(ctx, compact, time.Now())
	if err != nil {
		return nil, err
	}
	return stated.payload, nil
}

// ReadKept is [ResponseVerifier.Read] for a token that was kept since it was received: its claims are judged as of
// the time when it was issued, which is returned too, and which must have come; the seal is judged as of
// then and as of now, by the present anchors and the present revocations.
func (r *ResponseVerifier) ReadKept(ctx context.Context, compact string) (payload []byte, issued time.Time, err error) {
	token, err := split(compact)
	if err != nil {
		return nil, time.Time{}, err
	}
	claimed, err := decodeClaims(token)
	if err != nil {
		return nil, time.Time{}, err
	}
	iat, rejection := numberOf(rule.ClaimIat, "iat", claimed.Iat)
	now := hearing{at: time.Now(), leeway: r.verifier.config.Leeway}
	if rejection == nil {
		rejection = now.ahead(rule.ClaimIat, "iat", iat)
	}
	if rejection != nil {
		return nil, time.Time{}, rejection
	}
	stated, err := r.read(ctx, compact, iat)
	if err != nil {
		return nil, time.Time{}, err
	}
	return stated.payload, stated.issuedAt, nil
}

var errNoLonger = errors.New("assertion: the issuer's certificates are not trusted any more")

// read judges a token as of a time, and its seal as of now besides.
func (r *ResponseVerifier) read(ctx context.Context, compact string, at time.Time) (*stated, error) {
	var seen UnverifiedInfo
	stated, proof, err := r.verifier.authenticate(compact, r.issuer, at, &seen)
	if err != nil {
		return nil, err
	}
	if !r.verifier.config.Trust.Holds(proof.chain, time.Now()) {
		return nil, errNoLonger
	}
	if !r.isIssuer(proof.chain) {
		return nil, errNotIssuer
	}
	if err := r.verifier.askRevocation(ctx, proof.chain); err != nil {
		return nil, err
	}
	return stated, nil
}

// isIssuer holds the seal against the party: any participant has a seal of a
// trusted CA, and could otherwise speak as the registry.
func (r *ResponseVerifier) isIssuer(chain *trust.Chain) bool {
	if len(r.certificates) > 0 {
		return slices.Contains(r.certificates, chain.Thumbprint())
	}
	return slices.Contains(ishare.CertificateIDs(chain.Leaf()), r.issuer)
}
