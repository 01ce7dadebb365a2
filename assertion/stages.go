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
	"github.com/waybill-token/waybill/rule"
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
		return nil, flawed(rule.JWTCompact, "client_assertion is not a compact JWT: ", err)
	}
	return token, nil
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

var headerTests = []rule.Check[opening]{
	{Rule: rule.JWTAlg, Apply: algIsRSA},
	{Rule: rule.JWTTyp, Apply: typIsJWT},
	{Rule: rule.JWTHeaderParameter, Apply: headerHoldsNothingElse},
	{Rule: rule.JWTX5C, Apply: x5cHoldsCertificates},
}

func (v *Verifier) open(token *jws.Token, trail *rule.Trace) (*opened, error) {
	header, err := openHeader(token, trail)
	if err != nil {
		return nil, err
	}
	o := opening{header: header, allowExtra: v.config.AllowExtraHeader, found: &opened{}}
	if err := rule.Evaluate(trail, o, headerTests); err != nil {
		return nil, err
	}
	return o.found, nil
}

func openHeader(token *jws.Token, trail *rule.Trace) (*jws.Header, error) {
	header, err := token.Header()
	if errors.Is(err, jws.ErrCompact) {
		rejection := flawed(rule.JWTCompact, "client_assertion is not a compact JWT: ", err)
		trail.Record(rule.JWTCompact, rejection)
		return nil, rejection
	}
	if err != nil {
		rejection := flawed(rule.JWTHeader, "", err)
		trail.Record(rule.JWTHeader, rejection)
		return nil, rejection
	}
	trail.Record(rule.JWTHeader, nil)
	return header, nil
}

func algIsRSA(o opening) *rule.Rejection {
	name, rejection := o.textOf(rule.JWTAlg, "alg")
	if rejection != nil {
		return rejection
	}
	alg, err := jws.ParseAlgorithm(name)
	if err != nil {
		return rule.JWTAlg.Because("alg is %s, not RS256, RS384 or RS512", rule.Quote(name)).WithHint("%s", algHint(name))
	}
	o.found.algorithm = alg
	return nil
}

// algHint says what to do in place of another algorithm of RFC 7518.
func algHint(name string) string {
	const mend = "Sign with RS256 and the RSA key of your seal."
	switch upper := strings.ToUpper(name); {
	case strings.HasPrefix(upper, "RS") && upper != name:
		return "Write " + upper[:min(len(upper), 5)] + " in capitals: alg is compared with regard to case."
	case strings.HasPrefix(upper, "PS"):
		return mend + " PS256, PS384 and PS512 use the same key, with another padding (RSASSA-PSS), and are not accepted."
	case strings.HasPrefix(upper, "ES"), strings.HasPrefix(upper, "ED"):
		return mend + " This one takes a key on an elliptic curve, and no seal of iSHARE has one."
	case strings.HasPrefix(upper, "HS"):
		return mend + " An HMAC takes a secret that both sides know, and there is none."
	case upper == "NONE":
		return mend + " An assertion that is not signed proves nothing."
	}
	return mend
}

// textOf refuses a parameter that is missing or not a string.
func (o *opening) textOf(reason *rule.Rule, name string) (string, *rule.Rejection) {
	text, ok := o.header.Text(name)
	switch {
	case ok:
		return text, nil
	case o.header.Has(name):
		return "", reason.Because("%s is not a string", name)
	}
	for _, other := range o.header.Others() {
		if strings.EqualFold(other, name) {
			return "", reason.Because("%s is missing; the header holds %s, which is another name", name, rule.Quote(other)).
				WithHint("Write the name %s in small letters.", name)
		}
	}
	return "", reason.Because("%s is missing", name)
}

func typIsJWT(o opening) *rule.Rejection {
	typ, rejection := o.textOf(rule.JWTTyp, "typ")
	switch {
	case rejection != nil:
		return rejection
	case strings.EqualFold(typ, "JWT"):
		return nil
	case strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), "at+jwt"):
		return rule.JWTTyp.Because("typ is %s, not JWT", rule.Quote(typ)).
			WithHint("Set typ to JWT. This is the type of an access token (RFC 9068): make sure that client_assertion is your own assertion, and not a token.")
	}
	return rule.JWTTyp.Because("typ is %s, not JWT", rule.Quote(typ)).WithHint("Set typ to JWT in the header.")
}

// dangerous header parameters change what is verified or name another key. No
// setting lets them pass.
var dangerous = []string{"crit", "jwk", "jku", "x5u", "b64"}

func headerHoldsNothingElse(o opening) *rule.Rejection {
	others := slices.DeleteFunc(o.header.Others("alg", "typ", "x5c"), func(name string) bool {
		return o.allowExtra && !slices.Contains(dangerous, name)
	})
	if len(others) == 0 {
		return nil
	}
	shown := make([]string, 0, maxShown+1)
	for i, name := range others {
		if i == maxShown {
			shown = append(shown, fmt.Sprintf("%d more", len(others)-maxShown))
			break
		}
		shown = append(shown, strings.Trim(rule.Quote(name), "'"))
	}
	return rule.JWTHeaderParameter.Because("the header holds %s besides alg, typ and x5c", strings.Join(shown, " and ")).
		WithHint("%s", extraHint(others[0]))
}

func extraHint(name string) string {
	switch name {
	case "kid", "x5t", "x5t#S256":
		return "Leave " + name + " out: libraries add it by themselves when the key has an identifier. Take the identifier off the key, or remove the parameter before signing."
	case "jwk", "jku", "x5u":
		return "Leave " + name + " out: the key is that of the first certificate of x5c, and no other."
	case "crit", "b64", "zip", "enc", "cty":
		return "Leave " + name + " out: an assertion of iSHARE is a plain signed JWT."
	case "iss", "sub", "aud", "exp", "iat", "jti", "nbf":
		return "Put " + name + " into the payload, where claims stand, and not into the header."
	}
	return "Remove the parameter: the header holds alg, typ and x5c and nothing else."
}

func x5cHoldsCertificates(o opening) *rule.Rejection {
	certificates, err := o.header.Certificates()
	if err != nil {
		return flawed(rule.JWTX5C, "", err)
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

var signatureTests = []rule.Check[signing]{
	{Rule: rule.JWTSignature, Apply: leafSigned},
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
	if err := rule.Evaluate(nil, s, signatureTests); err != nil {
		return nil, err
	}
	return &proof{chain: chain}, nil
}

func leafSigned(s signing) *rule.Rejection {
	if err := s.token.Verify(s.algorithm, s.key); err != nil {
		return flawed(rule.JWTSignature, "", err)
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

var partyTests = []rule.Check[applicant]{
	{Rule: rule.PartyNotActive, Apply: partyComplies},
	{Rule: rule.PartyCertificate, Apply: certificateIsRegistered},
	{Rule: rule.PartyPolicy, Apply: partyHasWhatIsDemanded},
}

// admit judges the standing of the party that made the proof.
func (v *Verifier) admit(party *ishare.Party, p *proof, at time.Time, trail *rule.Trace) (*admitted, error) {
	a := applicant{party: party, thumbprint: p.chain.Thumbprint(), config: &v.config, at: at}
	if err := rule.Evaluate(trail, a, partyTests); err != nil {
		return nil, err
	}
	return &admitted{party: party, proof: p}, nil
}

func partyComplies(a applicant) *rule.Rejection {
	if err := a.party.Compliant(a.at); err != nil {
		return rule.PartyNotActive.Because("%v", err)
	}
	return nil
}

func certificateIsRegistered(a applicant) *rule.Rejection {
	if err := a.party.CheckCertificate(a.thumbprint, a.at); err != nil {
		return rule.PartyCertificate.Because("%v", err)
	}
	return nil
}

func partyHasWhatIsDemanded(a applicant) *rule.Rejection {
	for _, role := range a.config.Roles {
		if !a.party.HasRole(role, a.at) {
			return rule.PartyPolicy.Because("the client lacks the role %s, which this server demands", role).
				WithHint("Ask your registrar to add the role %s to your record, active today.", role)
		}
	}
	for _, dataspace := range a.config.Dataspaces {
		if !a.party.MemberOf(dataspace, a.at) {
			return rule.PartyPolicy.Because("the client is not a member of %s, which this server demands", dataspace).
				WithHint("Ask your registrar to add the membership of %s to your record, active today.", dataspace)
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

// askRevocation: the one refusal that a checker may give is that of its rule. Another is
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
func (v *Verifier) use(ctx context.Context, s *stated, u *unrevoked) (*Client, error) {
	first, err := v.config.Replay.Use(ctx, replay.Pair{
		Issuer:   s.issuer,
		JTI:      s.jti,
		IssuedAt: s.issuedAt,
		Until:    s.expires.Add(v.config.Leeway),
	})
	if err != nil {
		return nil, outage(rule.UnavailableState, err)
	}
	if !first {
		return nil, rule.JTIReplayed.Reject()
	}
	return &Client{party: u.party, id: s.issuer, chain: u.proof.chain}, nil
}

// unlessEnded is the outcome of an assertion, or the rejection by claim.exp when it is not a
// refusal and the assertion has ended since it came. Without this, somebody who came late would be told
// to come again; and a store that may forget a pair at its end could say yes twice
// to copies that were slow to reach it.
func (v *Verifier) unlessEnded(s *stated, c *Client, err error) (*Client, error) {
	rejection, _ := rule.Classify(err)
	if rejection != nil {
		return nil, err
	}
	late := time.Since(s.expires)
	if late < v.config.Leeway {
		return c, err
	}
	ended := rule.ClaimExp.Because("the assertion expired %s ago, while the server waited for what it depends on", late.Round(time.Second))
	if err != nil {
		ended.Cause = errors.New(err.Error()) // an outage that can be found would be the answer
	}
	return nil, ended
}

// defaultRetry is what a client is told to wait when nothing better is known.
const defaultRetry = 5 * time.Second

// outage turns an error of something that we depend on into the answer that is
// neither yes nor no.
func outage(reason *rule.Rule, err error) error {
	if _, o := rule.Classify(err); o != nil {
		return o
	}
	wait := defaultRetry
	if unsure := (*replay.UndecidedError)(nil); errors.As(err, &unsure) {
		wait = unsure.RetryAfter
	}
	return &rule.Outage{Rule: reason, RetryAfter: wait, Cause: err}
}
