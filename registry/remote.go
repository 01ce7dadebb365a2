package registry

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/kept"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// RemoteConfig says which Participant Registry to ask, as whom, and how its answers
// are judged. Every field that is not marked optional must be set.
type RemoteConfig struct {
	// ID is the registry's party identifier: the audience of our assertions and the issuer of its answers.
	ID ishare.PartyID
	// URL is the registry's base URL, such as https://registry.example: https, or plain http to a loopback address. Its
	// token endpoint is at /connect/token below it.
	URL string
	// Version is what the registry speaks: [VersionAuto] unless set. Optional.
	Version Version
	// Party lists our own identifiers: the one by which the registry knows us
	// first, then others by which it may address its answers.
	Party []ishare.PartyID
	// Key, Certificates and Algorithm are our seal, as in [client.Config]. Algorithm is optional.
	Key          crypto.Signer
	Certificates []*x509.Certificate
	Algorithm    jws.Algorithm
	// Trust judges the chain of the registry's own seal. It must trust the anchors of our own choice only, and not what
	// a trusted list grants: whoever got one false list past us could then keep signing the next one.
	Trust *trust.Validator
	// Revocation knows whether the registry's seal is revoked.
	Revocation assertion.RevocationChecker
	// Seals are [ishare.Thumbprint]s of the seals by which the registry may sign.
	// Without any, the identifier in its seal must be ID. Optional.
	Seals []string
	// Leeway is how far the registry's clock may be off: 0 to [assertion.MaxLeeway].
	Leeway time.Duration
	// Transport is as in [client.Config]. Unless set it is one of [client.NewTransport] with at most
	// 64 connections to the registry. Optional.
	Transport http.RoundTripper
	// Dir is a folder in which signed answers are kept over a restart, verified again when they are read: at most
	// 20,000 files and 256 MiB. When it cannot be used, Log is told and nothing is kept. Optional.
	Dir string
	// Keep is for how long answers in Dir are of use to who asks for them: a day unless set. Optional.
	Keep time.Duration
	// Observe is put around the transport that makes the calls, for logs and traces. Optional.
	Observe func(http.RoundTripper) http.RoundTripper
	// Log gets a line for what in an answer cannot be read, and for token requests. Optional.
	Log *slog.Logger
}

// A Remote is a [Source] that asks a Participant Registry of iSHARE 3.0 or 2.x each time. It keeps nothing but its
// access token; a [Cache] in front of it keeps records.
//
// An answer is believed when it keeps the rules of client assertions: it is issued by the registry and addressed to us,
// signed with the registry's seal, now, and that chains to one of our own anchors and is not revoked. A party record
// must be about the party that was asked for. Claims in it that cannot be read count for nothing, unless they still say
// that they are revoked or suspended, and of what; then they count as that. An entry of the trusted list that cannot be
// read grants nothing.
//
// A party is asked for at /parties/{id}, and by the search where that answers that there is nobody, or that it does not
// know the question: some registries find other identifiers of a party only there. Nobody is found when the registry
// answered so, with a signed empty list or the status 404 or 410. A status alone may come from a server before the
// registry that has lost it, so then the trusted list is asked for too: without it, the registry is out of reach.
//
// The version is found out as the registry answers: what is signed has other names in 3.0 than in 2.x, and both are
// understood. It matters for searches and for where the trusted list is. If a search is due before the registry has
// answered anything, its trusted list is asked for first, which the versions have in different places. The version is
// remembered until an answer comes in the form of the other one.
//
// A lookup takes ten seconds at most. The size of an answer is bounded, and so are redirects, which lead to the same
// origin only. A registry that gives no answer three times in a row is tried twice a second until it answers.
//
// A Remote is safe for concurrent use. Close it when it is no longer needed.
type Remote struct {
	id       ishare.PartyID
	base     *url.URL
	version  *versionTracker
	tokens   *client.Client
	http     *http.Client
	own      *http.Transport // of http, when it is not the caller's
	verifier *assertion.ResponseVerifier
	log      *slog.Logger
	circuit  *outbound.Circuit
	times    requestTimes
	kept     answerStore
	leeway   time.Duration

	requests    atomic.Uint64
	clockOffset atomic.Int64 // nanoseconds

	mu      sync.Mutex  // guards what follows
	stats   RemoteStats // what it counts of lookups
	refusal string      // of ourselves, as it was logged; empty: none
}

// NewRemote checks the configuration and returns a client for it. It sends nothing.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Party) == 0 {
		return nil, errors.New("registry: Party is empty")
	}
	version, err := newVersionTracker(c.Version)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	verifier, err := assertion.NewResponseVerifier(assertion.ResponseVerifierConfig{
		Issuer: c.ID, Certificates: c.Seals, Audience: c.Party,
		Trust: c.Trust, Revocation: c.Revocation, Leeway: c.Leeway,
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	var own *http.Transport
	if c.Transport == nil {
		own = client.NewTransport()
		own.MaxConnsPerHost = maxConnections
		c.Transport = own
	}
	if c.Observe != nil {
		c.Transport = c.Observe(c.Transport)
	}
	// The client also checks the URL.
	tokens, err := client.New(client.Config{
		Server: c.URL, Audience: c.ID, ClientID: c.Party[0],
		Key: c.Key, Certificates: c.Certificates, Algorithm: c.Algorithm,
		Transport: c.Transport, MaxRetryAfter: maxPause, Hedge: hedgeAfter, Log: c.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	remote := &Remote{
		id: c.ID, base: base, version: version, tokens: tokens, verifier: verifier, log: c.Log, own: own,
		http:    &http.Client{Transport: tokens.RoundTripper(nil), CheckRedirect: sameOrigin},
		leeway:  c.Leeway,
		circuit: outbound.NewCircuit(outbound.CircuitPolicy{Failures: circuitFailures, Pause: circuitPause, MaxPause: maxPause}),
	}
	remote.kept.life = cmp.Or(max(c.Keep, 0), defaultKeep)
	if c.Dir == "" {
		return remote, nil
	}
	remote.kept.folder, err = kept.Open(c.Dir, kept.Limits{Files: keptFiles, Bytes: keptBytes}, c.Log)
	if err != nil {
		c.Log.Warn("signed answers of the registry cannot be kept for the next start", slog.Any("error", err))
	}
	return remote, nil
}

// Close gives up token requests that are under way and lets go of connections.
// Lookups fail from then on. The error is nil.
func (r *Remote) Close() error {
	r.tokens.Close()
	if r.own != nil {
		r.own.CloseIdleConnections()
	}
	return r.kept.folder.Close()
}

// Party asks the registry for the party that goes by id. The record is the
// caller's own, under the canonical identifier, whichever was asked for.
//
// The error is [ErrUnknown] when the registry answers that there is no such party, and an [*rule.Outage] when it is out
// of reach. Any other error but the context's says what is wrong with its answer.
func (r *Remote) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	if _, err := ishare.ParsePartyID(string(id)); err != nil {
		return nil, ErrUnknown // what is no identifier identifies nobody
	}
	defer r.kept.begin(keptParty(id))()
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, lookupTimeout, errSlow)
	defer cancel()
	party, err := r.find(bounded, id)
	if errors.Is(err, ErrUnknown) {
		r.kept.put(keptParty(id), "", began)
		r.note(nil)
		return nil, ErrUnknown
	}
	return party, r.conclude(ctx, fmt.Sprintf("party %s", id), err)
}

func (r *Remote) find(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	party, err := r.askParty(ctx, question{path: "parties/" + url.PathEscape(string(id))}, id)
	if !isInconclusive(err) {
		return party, err
	}
	version, signed := r.version.version(), false // signed: an answer to this lookup was
	if version == VersionAuto {
		if _, listErr := r.askList(ctx, r.log); listErr != nil {
			return nil, fmt.Errorf("finding out which version the registry speaks: %w", listErr)
		}
		version, signed = r.version.version(), true
	}
	for _, q := range version.searches(id) {
		party, searchErr := r.askParty(ctx, q, id)
		switch {
		case !isInconclusive(searchErr):
			return party, searchErr
		case errors.Is(searchErr, errNobody), errors.Is(err, errNoForm):
			err = searchErr // the clearest no counts
		}
	}
	switch {
	case errors.Is(err, errNobody), errors.Is(err, errNotFound) && signed:
		return nil, ErrUnknown
	case errors.Is(err, errNotFound):
		return nil, r.confirm(ctx, err)
	}
	return nil, err // no form of the question was answered, so nobody said no
}

// isInconclusive reports whether another form of the question may have another answer.
func isInconclusive(err error) bool {
	return errors.Is(err, errNobody) || errors.Is(err, errNotFound) || errors.Is(err, errNoForm)
}

// confirm decides what it means that nothing but a status says that there is nobody. A server before the registry that
// has lost it answers so about every party. It cannot sign, so the registry must be there to give its trusted list;
// otherwise it is out of reach. What is wrong with the list is not logged each time, but when the list is asked for.
func (r *Remote) confirm(ctx context.Context, no error) error {
	_, err := r.askList(ctx, slog.New(slog.DiscardHandler))
	if err == nil {
		return ErrUnknown
	}
	outage := &outbound.UnreachableError{Cause: fmt.Errorf("%w; that does not count without the trusted list, which only the registry can sign: %w", no, err)}
	if inner, ok := errors.AsType[*outbound.UnreachableError](err); ok {
		outage.RetryAfter = inner.RetryAfter
	}
	return outage
}

func (r *Remote) askParty(ctx context.Context, q question, id ishare.PartyID) (*ishare.Party, error) {
	began := time.Now()
	compact, payload, err := r.read(ctx, q, partyTokens)
	if err != nil {
		return nil, err
	}
	records, version, err := partyRecords(payload)
	if err != nil {
		return nil, err
	}
	if err := r.version.observe(version); err != nil {
		return nil, err
	}
	party, err := selectParty(records, version, id, r.log)
	if err == nil {
		r.kept.put(keptParty(id), compact, began)
	}
	return party, err
}

// TrustedList asks for the certificate authorities that the registry grants: those of its trusted list whose validity
// is valid and whose status is granted. An entry that cannot be read is left out and logged; a list of which nothing
// can be read is an error.
//
// The errors are those of [Remote.Party], without [ErrUnknown].
func (r *Remote) TrustedList(ctx context.Context) (trust.Anchors, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, lookupTimeout, errSlow)
	defer cancel()
	anchors, err := r.askList(bounded, r.log)
	return anchors, r.conclude(ctx, "trusted list", err)
}

func (r *Remote) askList(ctx context.Context, log *slog.Logger) (anchors trust.Anchors, err error) {
	for _, q := range r.version.listQuestions() {
		anchors, err = r.askListAt(ctx, q, log)
		if !isInconclusive(err) {
			return anchors, err
		}
	}
	return nil, fmt.Errorf("no trusted list: %w", err)
}

func (r *Remote) askListAt(ctx context.Context, q question, log *slog.Logger) (trust.Anchors, error) {
	defer r.kept.begin(keptList)()
	began := time.Now()
	compact, payload, err := r.read(ctx, q, listTokens)
	if err != nil {
		return nil, err
	}
	anchors, version, err := parseTrustedList(payload, log)
	if err != nil {
		return nil, err
	}
	if err := r.version.observe(version); err != nil {
		return nil, err
	}
	r.kept.put(keptList, compact, began)
	return anchors, nil
}

// read asks a question and returns what the registry signed in answer to it.
func (r *Remote) read(ctx context.Context, q question, names []string) (compact string, payload []byte, err error) {
	body, err := r.get(ctx, q)
	if err != nil {
		return "", nil, err
	}
	compact, err = signedAnswer(body, names)
	if err != nil {
		return "", nil, err
	}
	payload, err = r.verifier.Read(ctx, compact)
	switch {
	case err == nil:
		return compact, payload, nil
	case ctx.Err() != nil:
		return "", nil, callError(ctx, err)
	}
	// The verifier's error is not wrapped: it may be a rejection, and whoever looks for one would tell our client that
	// it broke the rule that the registry broke.
	wrong := fmt.Errorf("the registry's answer is not believed: %s", err.Error())
	if rejection, ok := errors.AsType[*rule.Rejection](err); ok && rejection.Rule == rule.ChainUntrusted {
		wrong = untrustedError{wrong}
	}
	if o, ok := errors.AsType[*rule.Outage](err); ok {
		return "", nil, &outbound.UnreachableError{Cause: StatusError{wrong, o.Cause}, RetryAfter: o.RetryAfter}
	}
	return "", nil, wrong
}

// ErrUntrusted says that the seal by which an answer of the registry is signed is below none of the anchors.
var ErrUntrusted = errors.New("the seal of the registry is below none of the anchors")

// An untrustedError is [ErrUntrusted] in more words.
type untrustedError struct{ error }

// Is implements the interface of [errors.Is].
func (untrustedError) Is(target error) bool { return target == ErrUntrusted }

// A StatusError says that nobody tells whether the seal by which an answer of the registry is signed is revoked.
type StatusError struct {
	error

	Why error // as package revocation tells it; not wrapped, as it is about other addresses than the registry's
}

// retryAfter is what a client is told to wait at least.
const retryAfter = time.Second

// conclude is how a lookup ends: the outcome is noted, unless the caller gave up.
func (r *Remote) conclude(ctx context.Context, subject string, err error) error {
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("registry: %s: %w", subject, ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("registry %s: %s: %w", r.id, subject, err)
	}
	r.note(err)
	if e, ok := errors.AsType[*outbound.UnreachableError](err); ok {
		return &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: max(retryAfter, e.RetryAfter), Cause: err}
	}
	return err
}

// note counts how a lookup ended, and logs that the registry refuses us, once until it answers something else.
func (r *Remote) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Err = err
	if err == nil {
		r.stats.Answered = time.Now()
		r.stats.Answers++
	} else {
		r.stats.Failed = time.Now()
		r.stats.Failures++
	}
	refused, answer := Refusal(err), ""
	if refused != nil {
		answer = refused.Error()
	} else if errors.Is(err, errCircuitOpen) {
		return // the registry was not asked
	}
	if answer != "" && answer != r.refusal {
		r.log.Error("the registry refuses our own token requests, so it tells us of nobody",
			slog.String("registry", string(r.id)), slog.String("answer", answer), slog.String("mend", refused.Hint))
	}
	r.refusal = answer
}

// RemoteStats tells how a [Remote] is doing, for health and metrics.
type RemoteStats struct {
	Version  Version   // that the registry speaks; VersionAuto as long as it is not known
	Requests uint64    // for parties and trusted lists, without those for tokens
	Answers  uint64    // lookups that were answered
	Failures uint64    // lookups that were not answered, or not in a way to be believed
	Answered time.Time // when a lookup was last answered; zero: never
	Failed   time.Time // when a lookup last failed; zero: never
	Err      error     // of the last lookup; nil when it was answered
	Open     bool      // the registry is not asked, apart from two requests a second
	// ClockOffset is how far the registry's clock is ahead of ours, to about a
	// second, by the Date of its last answer; zero when it told none.
	ClockOffset time.Duration
}

// Stats returns the present numbers.
func (r *Remote) Stats() RemoteStats {
	r.mu.Lock()
	s := r.stats
	r.mu.Unlock()
	s.Version = r.version.version()
	s.Requests = r.requests.Load()
	s.Open = r.circuit.Open()
	s.ClockOffset = time.Duration(r.clockOffset.Load()).Round(time.Second)
	return s
}
