package assertion

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/trust"
)

// The stages, in their order. Each returns a type that only it can make, and
// takes those of the stages it depends on:
//
//	split → open → decodeClaims → judgeClaims → (trust.Validate) → prove → lookUp → admit → checkRevocation → use

// split: rule jwt.compact, apart from the header's encoding, which open checks.
func split(compact string) (*jws.Token, error) {
	token, err := jws.Split(compact)
	if err != nil {
		return nil, ishare.JWTCompact.Reject().From(err)
	}
	return token, nil
}

// opened is a header that keeps the rules jwt.header to jwt.x5c.
type opened struct {
	algorithm    jws.Algorithm
	certificates []*x509.Certificate
	thumbprint   string // of the first certificate
}

// opening is what the header's rules look at, and what they find.
type opening struct {
	header     *jws.Header
	allowExtra bool
	found      *opened
}

var headerTests = []ishare.Test[opening]{
	{Rule: ishare.JWTAlg, Check: algIsRSA},
	{Rule: ishare.JWTTyp, Check: typIsJWT},
	{Rule: ishare.JWTHeaderParameter, Check: headerHoldsNothingElse},
	{Rule: ishare.JWTX5C, Check: x5cHoldsCertificates},
}

func (v *Verifier) open(token *jws.Token, trail *ishare.Trail) (*opened, error) {
	header, err := openHeader(token, trail)
	if err != nil {
		return nil, err
	}
	o := opening{header: header, allowExtra: v.config.AllowExtraHeader, found: &opened{}}
	if err := ishare.Judge(trail, o, headerTests); err != nil {
		return nil, err
	}
	return o.found, nil
}

func openHeader(token *jws.Token, trail *ishare.Trail) (*jws.Header, error) {
	header, err := token.Header()
	if errors.Is(err, jws.ErrCompact) {
		rejection := ishare.JWTCompact.Reject().From(err)
		trail.Note(ishare.JWTCompact, rejection)
		return nil, rejection
	}
	if err != nil {
		rejection := ishare.JWTHeader.Reject().From(err)
		trail.Note(ishare.JWTHeader, rejection)
		return nil, rejection
	}
	trail.Note(ishare.JWTHeader, nil)
	return header, nil
}

func algIsRSA(o opening) *ishare.Rejection {
	name, ok := o.header.Text("alg")
	if !ok {
		return ishare.JWTAlg.Because("alg is missing or not a string")
	}
	alg, err := jws.ParseAlgorithm(name)
	if err != nil {
		return ishare.JWTAlg.Because("alg is %.20s, not RS256, RS384 or RS512", name)
	}
	o.found.algorithm = alg
	return nil
}

func typIsJWT(o opening) *ishare.Rejection {
	if typ, ok := o.header.Text("typ"); !ok || !strings.EqualFold(typ, "JWT") {
		return ishare.JWTTyp.Reject()
	}
	return nil
}

// dangerous header parameters change what is verified or name another key. No
// setting lets them pass.
var dangerous = []string{"crit", "jwk", "jku", "x5u", "b64"}

func headerHoldsNothingElse(o opening) *ishare.Rejection {
	for _, name := range o.header.Others("alg", "typ", "x5c") {
		if !o.allowExtra || slices.Contains(dangerous, name) {
			return ishare.JWTHeaderParameter.Because("the header holds %.40s besides alg, typ and x5c", name)
		}
	}
	return nil
}

func x5cHoldsCertificates(o opening) *ishare.Rejection {
	certificates, err := o.header.Certificates()
	if err != nil {
		sentence := strings.TrimPrefix(err.Error(), jws.ErrX5C.Error()+": ")
		return ishare.JWTX5C.Because("%.200s", sentence).From(err)
	}
	o.found.certificates = certificates
	o.found.thumbprint = ishare.Thumbprint(certificates[0].Raw)
	return nil
}

// knownSigner finds a header that was judged before, when its chain still holds.
func (v *Verifier) knownSigner(rawHeader string, at time.Time) *signer {
	known, ok := v.signers.GetIfPresent(rawHeader)
	if !ok || !v.config.Trust.Holds(known.chain, at) {
		return nil
	}
	return known
}

func (v *Verifier) remember(rawHeader string, s *signer) {
	if present, ok := v.signers.GetIfPresent(rawHeader); ok && present == s {
		return
	}
	// The header is a piece of the request's body, which must not live as long.
	v.signers.Set(strings.Clone(rawHeader), s)
}

// A proof is the possession of the leaf's private key by whoever made the token.
type proof struct {
	chain *trust.Chain
}

var signatureTests = []ishare.Test[signing]{
	{Rule: ishare.JWTSignature, Check: leafSigned},
}

// signing is what the signature's rule looks at. The key is of a safe size.
type signing struct {
	token     *jws.Token
	algorithm jws.Algorithm
	key       *rsa.PublicKey
}

// prove: the signature holds for the leaf of a trusted chain, and for no other
// certificate of x5c.
func prove(token *jws.Token, o *opened, chain *trust.Chain) (*proof, error) {
	s := signing{token: token, algorithm: o.algorithm, key: chain.Key()}
	if err := ishare.Judge(nil, s, signatureTests); err != nil {
		return nil, err
	}
	return &proof{chain: chain}, nil
}

func leafSigned(s signing) *ishare.Rejection {
	if err := s.token.Verify(s.algorithm, s.key); err != nil {
		return ishare.JWTSignature.Reject().From(err)
	}
	return nil
}

// An admitted party is a participant in good standing whose certificate signed.
type admitted struct {
	party *ishare.Party
	proof *proof
}

// applicant is what the rules about the party look at.
type applicant struct {
	party      *ishare.Party
	thumbprint string
	config     *Config
	at         time.Time
}

var partyTests = []ishare.Test[applicant]{
	{Rule: ishare.PartyNotActive, Check: partyComplies},
	{Rule: ishare.PartyCertificate, Check: certificateIsRegistered},
	{Rule: ishare.PartyPolicy, Check: partyHasWhatIsDemanded},
}

// lookUp asks who the party is: the first stage that may leave this machine, and
// it needs a proof.
func (v *Verifier) lookUp(ctx context.Context, id ishare.PartyID, _ *proof, trail *ishare.Trail) (*ishare.Party, error) {
	party, err := v.config.Parties.Party(ctx, id)
	if errors.Is(err, ishare.ErrUnknownParty) {
		rejection := ishare.PartyUnknown.Reject().From(err)
		trail.Note(ishare.PartyUnknown, rejection)
		return nil, rejection
	}
	if err == nil && party == nil {
		err = errors.New("the source answered with no record")
	}
	if err != nil {
		return nil, outage(ishare.UnavailableRegistry, err)
	}
	trail.Note(ishare.PartyUnknown, nil)
	return party, nil
}

// admit judges the standing of the party that made the proof.
func (v *Verifier) admit(party *ishare.Party, p *proof, at time.Time, trail *ishare.Trail) (*admitted, error) {
	a := applicant{party: party, thumbprint: p.chain.Thumbprint(), config: &v.config, at: at}
	if err := ishare.Judge(trail, a, partyTests); err != nil {
		return nil, err
	}
	return &admitted{party: party, proof: p}, nil
}

// admitAfresh gives a party that was refused by a record from memory the benefit of
// a fresh one: it may have renewed its compliance or its certificate a moment ago.
// When none is to be had, the refusal stands.
func (v *Verifier) admitAfresh(ctx context.Context, id ishare.PartyID, p *proof, at time.Time, refusal error) (*admitted, error) {
	source, ok := v.config.Parties.(FreshSource)
	if !ok {
		return nil, refusal
	}
	party, err := source.Fresh(ctx, id)
	if errors.Is(err, ishare.ErrUnknownParty) {
		return nil, ishare.PartyUnknown.Reject().From(err)
	}
	if err != nil || party == nil {
		return nil, refusal
	}
	return v.admit(party, p, at, nil)
}

func partyComplies(a applicant) *ishare.Rejection {
	if err := a.party.Compliant(a.at); err != nil {
		return ishare.PartyNotActive.Because("%v", err)
	}
	return nil
}

func certificateIsRegistered(a applicant) *ishare.Rejection {
	if !a.party.Certified(a.thumbprint, a.at) {
		return ishare.PartyCertificate.Reject()
	}
	return nil
}

func partyHasWhatIsDemanded(a applicant) *ishare.Rejection {
	for _, role := range a.config.Roles {
		if !a.party.HasRole(role, a.at) {
			return ishare.PartyPolicy.Because("the client lacks the role %s, which this server demands", role)
		}
	}
	for _, dataspace := range a.config.Dataspaces {
		if !a.party.MemberOf(dataspace, a.at) {
			return ishare.PartyPolicy.Because("the client is not a member of %s, which this server demands", dataspace)
		}
	}
	return nil
}

// unrevoked is an admitted party whose chain is not revoked.
type unrevoked struct{ *admitted }

func (v *Verifier) checkRevocation(ctx context.Context, a *admitted) (*unrevoked, error) {
	if err := v.askRevocation(ctx, a.proof.chain); err != nil {
		return nil, err
	}
	return &unrevoked{a}, nil
}

func (v *Verifier) askRevocation(ctx context.Context, chain *trust.Chain) error {
	err := v.config.Revocation.Check(ctx, chain)
	if err == nil || errors.As(err, new(*ishare.Rejection)) {
		return err
	}
	return outage(ishare.UnavailableRevocation, err)
}

// use marks the assertion used: the last stage, because whatever is remembered
// of an assertion that could still fail lets a stranger burn a client's values.
func (v *Verifier) use(ctx context.Context, s *stated, u *unrevoked) (*Client, error) {
	first, err := v.config.Replay.Use(ctx, replay.Pair{
		Issuer:   s.issuer,
		JTI:      s.jti,
		IssuedAt: s.issuedAt,
		Until:    s.expires.Add(v.config.Leeway),
	})
	if err != nil {
		return nil, outage(ishare.UnavailableState, err)
	}
	if !first {
		return nil, ishare.JTIReplayed.Reject()
	}
	return &Client{party: u.party, id: s.issuer, chain: u.proof.chain}, nil
}

// defaultRetry is what a client is told to wait when nothing better is known.
const defaultRetry = 5 * time.Second

// outage turns an error of something that we depend on into the answer that is
// neither yes nor no.
func outage(rule *ishare.Rule, err error) error {
	if errors.As(err, new(*ishare.Rejection)) {
		// It is about what somebody answered to us. Whoever looks for a rejection
		// would find it, and tell the client that it broke the rule.
		err = errors.New(err.Error())
	}
	if o := (*ishare.Outage)(nil); errors.As(err, &o) {
		return o
	}
	wait := defaultRetry
	if unsure := (*replay.UnsureError)(nil); errors.As(err, &unsure) {
		wait = unsure.RetryAfter
	}
	return &ishare.Outage{Rule: rule, RetryAfter: wait, Cause: fmt.Errorf("%s: %w", rule.ID, err)}
}
