package assertion

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// Lifetime is how long every client assertion lives: exp is iat plus this.
const Lifetime = 30 * time.Second

// MaxLeeway is the most by which clocks may be held to differ.
const MaxLeeway = replay.MaxLeeway

// DefaultKnownClients is how many clients are known when [Config] says nothing.
const DefaultKnownClients = 100_000

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
// [*rule.Rejection] by certificate.revoked, or another error when it cannot tell. It must take what it wants of the
// chain's leaf, [trust.Chain.Leaf], before Check returns: it may be read from the request.
type RevocationChecker interface {
	Check(ctx context.Context, chain *trust.Chain) error
}

// Config is what a [Verifier] judges by. There are no defaults: every field that is not marked optional must be set.
type Config struct {
	// Audience lists the identifiers by which this server may be addressed, the canonical one first.
	Audience []ishare.PartyID
	// Trust judges certificate chains.
	Trust *trust.Validator
	// Parties knows the participants. Two more interfaces are looked for in it: a [FreshSource] is asked
	// again before a party is refused, and what a [MeteredSource] is asked for is bounded for each seal.
	Parties PartySource
	// Revocation knows which certificates are revoked.
	Revocation RevocationChecker
	// Replay remembers the assertions that were used. Its leeway is that of the verifier, 0 to [MaxLeeway]: how
	// far the client's clock may be off. It applies to iat, nbf and exp, never to the life of 30 seconds.
	Replay replay.Store
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
	// KnownClients is about how many clients with a key of 2048 bits are known: their certificate chains are not
	// validated again while they hold. Each takes [trust.ProofSize] bytes, and those with longer keys take the place of
	// more. Only holders of a trusted certificate get one. Optional: [DefaultKnownClients].
	KnownClients int
	// Roles are framework roles that a client must hold, every one. Optional.
	Roles []string
	// Dataspaces are data spaces of which a client must be a member, every one. Optional.
	Dataspaces []string
	// Observe is told of each stage when it has ended: its name in docs/architecture.md, when it began, and its error.
	// What waits for a place in Work is the stage [StageWait]. It is for metrics and traces, and must be quick. Optional.
	Observe func(ctx context.Context, stage string, began time.Time, err error)
}

// StageWait is the name by which [Config].Observe is told of the wait for a place.
const StageWait = "wait"

// Stages names all that [Config].Observe is told of, in their order.
func Stages() []string {
	names := []string{StageWait}
	for _, s := range slices.Concat(authentication, admission) {
		names = append(names, s.name)
	}
	return names
}

// A Verifier judges client assertions. It is safe for concurrent use.
type Verifier struct {
	config  Config
	leeway  time.Duration
	headers *otter.Cache[[sha256.Size]byte, *knownHeader] // by the digest of the raw header
	lookups *bucket.Set[string]                           // what is left to each seal, by its thumbprint

	known, first atomic.Uint64 // assertions whose header was proven before, and others
}

// Stats tells how a [Verifier] is doing, for metrics.
type Stats struct {
	Known   uint64 // assertions whose header was proven before
	First   uint64 // others
	Headers int    // that are known now, about
}

// Stats returns the present numbers.
func (v *Verifier) Stats() Stats {
	return Stats{v.known.Load(), v.first.Load(), v.headers.EstimatedSize()}
}

// NewVerifier checks the configuration and returns a verifier for it.
func NewVerifier(c Config) (*Verifier, error) {
	switch {
	case c.Parties == nil:
		return nil, errors.New("assertion: Parties must be set")
	case c.Replay == nil:
		return nil, errors.New("assertion: Replay must be set")
	}
	return newVerifier(c, c.Replay.Leeway())
}

// newVerifier makes a verifier without a look at Replay, which only serving needs, and at Parties.
func newVerifier(c Config, leeway time.Duration) (*Verifier, error) {
	switch {
	case len(c.Audience) == 0:
		return nil, errors.New("assertion: no audience")
	case c.Trust == nil:
		return nil, errors.New("assertion: Trust must be set")
	case c.Revocation == nil:
		return nil, errors.New("assertion: Revocation must be set")
	}
	return newPartialVerifier(c, leeway)
}

// newPartialVerifier makes a verifier that may lack anything, which only an explanation can do with.
func newPartialVerifier(c Config, leeway time.Duration) (*Verifier, error) {
	switch {
	case slices.ContainsFunc(c.Audience, isNoPartyID):
		return nil, errors.New("assertion: an audience is not a party identifier")
	case leeway < 0 || leeway > MaxLeeway:
		return nil, fmt.Errorf("assertion: leeway %s is not within 0 and %s", leeway, MaxLeeway)
	}
	headers := otter.Must(&otter.Options[[sha256.Size]byte, *knownHeader]{
		MaximumWeight: uint64(cmp.Or(max(c.KnownClients, 0), DefaultKnownClients)) * trust.ProofSize,
		Weigher:       func(_ [sha256.Size]byte, known *knownHeader) uint32 { return uint32(known.proof.Size()) },
	})
	lookups, err := bucket.New[string](bucket.Rate{Events: 1, Period: LookupInterval, Burst: LookupBurst})
	if err != nil {
		return nil, fmt.Errorf("assertion: %w", err)
	}
	c.Audience = slices.Clone(c.Audience)
	return &Verifier{config: c, leeway: leeway, headers: headers, lookups: lookups}, nil
}

// isNoPartyID is true of the empty identifier, which an empty aud would match, and of a URL.
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

// UnverifiedInfo is what could be read of an assertion, for the log. Nothing in it but Signed is proven unless the assertion was
// accepted, and none of it is secret. Fields that could not be read are empty.
type UnverifiedInfo struct {
	Issuer     string // iss, cut at 255 bytes
	Thumbprint string // SHA-256 of the first certificate in x5c, hex
	JTIHash    string // first 8 bytes of SHA-256 of iss, a zero byte and jti, hex
	// Signed is that the holder of the certificate has signed, and that it is below an anchor: the one field that is proven.
	Signed bool
}

// Verify judges a client assertion by every rule in the order of the catalogue. clientID is the client_id of the
// request. A client is returned only when every rule holds and the assertion is now used up.
//
// The error is an [*rule.Rejection] when the caller is at fault, an [*rule.Outage] when something that the server
// depends on is out of reach, and another error otherwise. The info is for the log, whatever the outcome: what could be
// read of the assertion, true or not.
func (v *Verifier) Verify(ctx context.Context, clientID ishare.PartyID, compact string) (*Client, UnverifiedInfo, error) {
	w := &walk{v: v, clientID: clientID, compact: compact, at: time.Now()}
	err := w.authenticate(ctx)
	if err == nil {
		err = w.unlessExpired(w.run(ctx, admission))
	}
	if err != nil {
		return nil, w.info, err
	}
	return w.client, w.info, nil
}

// authenticate is the first half of the walk, within the bounds on work and on how often one seal may ask.
func (w *walk) authenticate(ctx context.Context) error {
	c := &w.v.config
	gate := c.Work
	w.find()
	if w.known == nil && c.FirstWork != nil {
		gate = c.FirstWork
	}
	if gate != nil {
		began := time.Now()
		err := gate.Enter(ctx)
		w.observe(ctx, StageWait, began, err)
		if err != nil {
			return &rule.Outage{Rule: rule.UnavailableOverload, RetryAfter: time.Second, Cause: err}
		}
		defer gate.Leave()
	}
	if err := w.run(ctx, authentication); err != nil || c.Seals == nil {
		return err
	}
	if wait := c.Seals.Take(w.signer.Thumbprint()); wait > 0 {
		return &rule.Outage{Rule: rule.Limited, RetryAfter: wait, Cause: errTooOften}
	}
	return nil
}

var errTooOften = errors.New("the certificate has signed for too many tokens")
