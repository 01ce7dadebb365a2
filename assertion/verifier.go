package assertion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// Lifetime is how long every client assertion lives: exp is iat plus this.
const Lifetime = 30 * time.Second

// MaxLeeway is the most by which clocks may be held to differ.
const MaxLeeway = 60 * time.Second

// maxCachedHeaders bounds the memory that is spent on headers of proven
// signers, in bytes of raw header. Only holders of a trusted certificate can add to it.
const maxCachedHeaders = 32 << 20

// A PartySource answers who a participant is. An error that wraps
// [ishare.ErrUnknownParty] is a definite no; any other error means that the
// source is out of reach. A record must not be changed once returned.
type PartySource interface {
	Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error)
}

// A FreshSource is a [PartySource] that may answer from memory, and can be asked for a record that was
// obtained just now. Before a party is refused by a record of its, the rules are applied again to a fresh one: the party
// may have renewed its compliance or its certificate a moment ago. A [Verifier] looks for this interface
// in [Config].Parties.
type FreshSource interface {
	PartySource
	FreshParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, error)
}

// A Gate bounds work. Enter takes a place, for which it may wait a short time, or returns why there is none. After
// work that had a place, Leave gives it back.
type Gate interface {
	Enter(ctx context.Context) error
	Leave()
}

// A Limiter bounds how often each of many keys may do something. Take counts one more time and returns zero, or
// how long it takes until the key may again.
type Limiter interface {
	Take(key string) (wait time.Duration)
}

// A RevocationChecker answers whether a trusted chain has been revoked: nil, an
// [*rule.Rejection] by certificate.revoked, or another error when it cannot tell.
type RevocationChecker interface {
	Check(ctx context.Context, chain *trust.Chain) error
}

// Config is what a [Verifier] judges by. There are no defaults: every field that
// is not marked optional must be set.
type Config struct {
	// Audience lists the identifiers by which this server may be addressed,
	// the canonical one first.
	Audience []ishare.PartyID
	// Trust judges certificate chains.
	Trust *trust.Validator
	// Parties knows the participants. Two more interfaces are looked for in it: a [FreshSource] is asked
	// again before a party is refused, and what a [MeteredSource] is asked for is bounded for each seal.
	Parties PartySource
	// Revocation knows which certificates are revoked.
	Revocation RevocationChecker
	// Replay remembers the assertions that were used.
	Replay replay.Store
	// Leeway is how far the client's clock may be off: 0 to [MaxLeeway]. It
	// applies to iat, nbf and exp, never to the life of 30 seconds.
	Leeway time.Duration
	// AllowExtraHeader lets header parameters pass that are neither alg, typ
	// and x5c nor one of those that change what is verified. Optional.
	AllowExtraHeader bool
	// Work bounds how many assertions keep the processors busy at once, up to their signature. Waiting for what
	// comes after that takes no place. Optional.
	Work Gate
	// FirstWork bounds those whose certificate chain was not validated before, apart from the others: that costs
	// many times as much, and a stranger can send chains that lead nowhere. Optional: Work.
	FirstWork Gate
	// Seals says how often each seal may ask, by its [ishare.Thumbprint]: it is what is proven before anybody
	// is asked who the client is, so that nobody uses up what is another's. Optional.
	Seals Limiter
	// Roles are framework roles that a client must hold, every one. Optional.
	Roles []string
	// Dataspaces are data spaces of which a client must be a member, every one.
	// Optional.
	Dataspaces []string
}

// A Verifier judges client assertions. It is safe for concurrent use.
type Verifier struct {
	config  Config
	signers *otter.Cache[string, *signer] // by raw header
	shares  *shares
}

// A signer is what a header says once its chain was trusted and a signature of
// its key was seen. The same header need not be judged twice.
type signer struct {
	opened *opened
	chain  *trust.Chain
}

// NewVerifier checks the configuration and returns a verifier for it.
func NewVerifier(c Config) (*Verifier, error) {
	switch {
	case len(c.Audience) == 0:
		return nil, errors.New("assertion: no audience")
	case slices.ContainsFunc(c.Audience, isNoPartyID):
		return nil, errors.New("assertion: an audience is not a party identifier")
	case c.Trust == nil || c.Parties == nil || c.Revocation == nil || c.Replay == nil:
		return nil, errors.New("assertion: Trust, Parties, Revocation and Replay must be set")
	case c.Leeway < 0 || c.Leeway > MaxLeeway:
		return nil, fmt.Errorf("assertion: leeway %s is not within 0 and %s", c.Leeway, MaxLeeway)
	}
	return newVerifier(c)
}

func newVerifier(c Config) (*Verifier, error) {
	signers, err := otter.New(&otter.Options[string, *signer]{
		MaximumWeight: maxCachedHeaders,
		Weigher:       func(header string, _ *signer) uint32 { return uint32(len(header)) },
	})
	if err != nil {
		return nil, fmt.Errorf("assertion: cache of signers: %w", err)
	}
	shares, err := newShares()
	if err != nil {
		return nil, fmt.Errorf("assertion: %w", err)
	}
	c.Audience = slices.Clone(c.Audience)
	return &Verifier{config: c, signers: signers, shares: shares}, nil
}

// isNoPartyID is true of the empty identifier, which an empty aud would match, and
// of a URL.
func isNoPartyID(id ishare.PartyID) bool {
	_, err := ishare.ParsePartyID(string(id))
	return err != nil
}

// A Client is a party that proved who it is with an assertion that nobody can
// use again. Only [Verifier.Verify] makes one.
type Client struct {
	party *ishare.Party
	id    ishare.PartyID
	chain *trust.Chain
}

// Party is the client's record. It must not be changed.
func (c *Client) Party() *ishare.Party { return c.party }

// ID is the identifier that the client used for itself: its canonical one, or
// one that its record lists under alsoKnownAs.
func (c *Client) ID() ishare.PartyID { return c.id }

// Thumbprint is the [ishare.Thumbprint] of the certificate that signed.
func (c *Client) Thumbprint() string { return c.chain.Thumbprint() }

// Verify judges a client assertion by every rule in the order of the catalogue.
// clientID is the client_id of the request. A client is returned only when every
// rule holds and the assertion is now used up.
//
// The error is an [*rule.Rejection] when the caller is at fault, an
// [*rule.Outage] when something that the server depends on is out of reach, and
// another error otherwise. The sighting is for the log, whatever the outcome:
// what could be read of the assertion, true or not.
func (v *Verifier) Verify(ctx context.Context, clientID ishare.PartyID, compact string) (*Client, UnverifiedInfo, error) {
	var seen UnverifiedInfo
	client, err := v.verify(ctx, clientID, compact, &seen)
	return client, seen, err
}

func (v *Verifier) verify(ctx context.Context, clientID ishare.PartyID, compact string, seen *UnverifiedInfo) (*Client, error) {
	at := time.Now()
	stated, proof, err := v.authenticateInTurn(ctx, compact, clientID, at, seen)
	if err != nil {
		return nil, err
	}
	client, err := v.admitOnce(ctx, stated, proof, at)
	return v.unlessEnded(stated, client, err)
}

// admitOnce applies the rules party.unknown to jti.replayed, which may wait for others.
func (v *Verifier) admitOnce(ctx context.Context, s *stated, p *proof, at time.Time) (*Client, error) {
	party, err := v.lookUp(ctx, s.issuer, p, at)
	if err != nil {
		return nil, err
	}
	member, err := v.admit(party, p, at, nil)
	if err != nil {
		member, err = v.admitAfresh(ctx, s.issuer, p, at, err)
	}
	if err != nil {
		return nil, err
	}
	current, err := v.checkRevocation(ctx, member)
	if err != nil {
		return nil, err
	}
	return v.use(ctx, s, current)
}

// authenticateInTurn is authenticate, within the bounds on work and on what one seal may ask for.
func (v *Verifier) authenticateInTurn(ctx context.Context, compact string, issuer ishare.PartyID, at time.Time, seen *UnverifiedInfo) (*stated, *proof, error) {
	gate := v.config.Work
	if header, _, _ := strings.Cut(compact, "."); v.config.FirstWork != nil && v.knownSigner(header, at) == nil {
		gate = v.config.FirstWork
	}
	if gate != nil {
		if err := gate.Enter(ctx); err != nil {
			return nil, nil, &rule.Outage{Rule: rule.UnavailableOverload, RetryAfter: time.Second, Cause: err}
		}
		defer gate.Leave()
	}
	stated, proof, err := v.authenticate(compact, issuer, at, seen)
	if err != nil || v.config.Seals == nil {
		return stated, proof, err
	}
	if wait := v.config.Seals.Take(proof.chain.Thumbprint()); wait > 0 {
		return nil, nil, &rule.Outage{Rule: rule.Limited, RetryAfter: wait, Cause: errTooOften}
	}
	return stated, proof, nil
}

var errTooOften = errors.New("the certificate has signed for too many tokens")

// authenticate applies the rules jwt.compact to jwt.signature: what the token says,
// and the proof that whoever holds the key of a trusted certificate says it.
func (v *Verifier) authenticate(compact string, issuer ishare.PartyID, at time.Time, seen *UnverifiedInfo) (*stated, *proof, error) {
	token, err := split(compact)
	if err != nil {
		return nil, nil, err
	}
	known := v.knownSigner(token.RawHeader(), at)
	if known == nil {
		known = &signer{}
		if known.opened, err = v.open(token, nil); err != nil {
			return nil, nil, err
		}
	}
	seen.certificate(known.opened)
	claimed, err := decodeClaims(token)
	if err != nil {
		return nil, nil, err
	}
	seen.claims(claimed)
	stated, err := v.judgeClaims(claimed, issuer, at, nil)
	if err != nil {
		return nil, nil, err
	}
	if known.chain == nil {
		if known.chain, err = v.config.Trust.Validate(known.opened.certificates, at, nil); err != nil {
			return nil, nil, err
		}
	}
	proof, err := prove(token, known.opened, known.chain)
	if err != nil {
		return nil, nil, err
	}
	// Remembered only now: whoever merely shows a certificate gets no place.
	v.remember(token.RawHeader(), known)
	stated.payload = token.Payload()
	return stated, proof, nil
}
