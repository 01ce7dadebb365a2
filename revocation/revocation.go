// Package revocation finds out whether certificates are revoked: by OCSP (RFC 6960) and from certificate revocation
// lists (RFC 5280 section 5). It is about certificates; the revocation of access tokens is in package accesstoken.
//
// A [Checker] checks the leaf of a trusted chain and every issuer below its anchor. The anchor is not checked: whoever
// made it one answers for it.
//
//	checker, err := revocation.New(revocation.Config{Dir: "kept/revocation", Log: slog.Default()})
//	…
//	defer checker.Close()
//	chain, err := validator.Validate(certificates, time.Now(), nil) // of package trust
//	…
//	err = checker.Check(ctx, chain) // nil, a *rule.Rejection, a *rule.Outage, or the context's
//
// [Checker.Statuses] tells what a check is based on, [CheckSources] whether a certificate names anybody who can be asked
// at all, and [Off] takes the place of a Checker where nobody is to be asked.
//
// # Whom it asks
//
// The OCSP responders that a certificate names, and if none gives an answer that holds, the revocation lists that it
// names. When no responder has answered for 2 s, lists are asked for besides. At most four addresses of a kind are tried.
//
// Addresses are called with http or https only, and never on a private network or through a proxy, unless [Config] says
// otherwise. Up to 3 redirects are followed, each to an address within the same bounds; a question to a responder stays
// a POST. A call to a responder takes at most 5 s and 64 KiB, one for a list 20 s and 16 MiB.
//
// # When there is no answer
//
// In the mode [Require], there is no decision either: an outage. In [Prefer], the chain passes, which is logged and
// counted (soft-fail). A revoked certificate is refused in every mode. A certificate that names neither a responder nor
// a list can never have an answer: it passes in Prefer only, or as an anchor.
//
// # What it believes
//
// An OCSP answer by the issuer, or by a responder to which the issuer gave a certificate for the purpose. Such a
// certificate must not be on the revocation list that it names, unless it carries id-pkix-ocsp-nocheck (RFC 6960 section
// 4.2.2.2.1). No nonce is asked for, so that answers can be made beforehand. "Unknown" is no answer.
//
// A list of version 1 or 2 that the issuer signed, and whose scope includes the certificate. Indirect and delta lists are
// refused. Where there is a delta beside a list, or the list is for some reasons only, a certificate on it is revoked,
// and one that is not on it has no answer.
//
// Both must be signed with SHA-256 or better, have begun, where clocks may differ by a minute, and not have ended. A list
// says when it ends; an OCSP answer that does not say it ends after 15 minutes.
//
// # How long it remembers
//
// Until an answer ends, at most for 24 hours. While an answer is in use it is asked for again in the background, after
// half of its time and by OCSP at the latest after an hour, so that a busy client never waits. An older answer does not
// replace a newer one. A revocation is final, apart from a hold.
//
// With [Config.Dir] answers are remembered over a restart, for as long as without it: they are read when there is none in
// memory, judged again as of when they were obtained, and end when they would have ended. Final revocations are kept for
// as long as the certificate lasts.
//
// # How much at once
//
// A check waits for at most 6 s. However many checks wait, a question is under way once. One about a certificate ends
// when nobody waits for it any more, unless there is an answer that it renews; the fetching of a list goes on, as a large
// one may take longer than anybody waits. At most 512 certificates are asked about at once, 64 of one issuer, and 32
// lists are fetched; at most 64 calls are made at once, 32 to one host. Beyond that a check has no answer at once, and is
// an outage in every mode.
//
// # How soon it recovers
//
// Within 2 s after whoever is asked is well again, in whatever way they failed. A failure is remembered for 1 s, for up
// to 1.8 s by the size of an answer that was no good. A Retry-After of theirs is not waited for. An address that was not
// reached three times in a row is tried once a second. While nothing comes of a call, a second one is made beside it every
// second.
package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/kept"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// A Mode says what becomes of a chain when nobody answers whether one of
// its certificates is revoked. A revoked certificate is refused in every mode.
type Mode int

// The modes of a [Checker]. [Off] is how nobody is asked at all.
const (
	Require Mode = iota // no answer: no decision, and no token
	Prefer              // no answer: the chain passes, which is logged and counted
	ModeOff             // nobody is asked: no mode of a Checker, but that of who uses [Off] in its place
)

func modes() []string { return []string{"require", "prefer", "off"} }

// String gives the mode as it stands in a configuration.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modes()) {
		return fmt.Sprintf("RevocationMode(%d)", int(m))
	}
	return modes()[m]
}

// UnmarshalText reads a mode as String gives it.
func (m *Mode) UnmarshalText(text []byte) error {
	i, err := spelling.Choose(text, modes()...)
	if err == nil {
		*m = Mode(i)
	}
	return err
}

// Off asks nobody whether a certificate is revoked. It is for test set-ups and
// for deployments that check elsewhere, and has to be chosen by name.
type Off struct{}

// Check returns nil.
func (Off) Check(context.Context, *trust.Chain) error { return nil }

// Config is how a [Checker] works. The zero value is the strictest.
type Config struct {
	// Mode is what a missing answer means: [Require] or [Prefer].
	Mode Mode
	// AllowPrivate lets addresses be called that are on loopback, private and other networks without public servers. It
	// is for test set-ups: whoever gets a certificate issued can make the server call what it names.
	AllowPrivate bool
	// Proxy is asked to make every call, where this machine reaches nobody itself: an http or https URL without
	// credentials. Nil: none is asked, whatever the environment says. Where a name leads is seen by the proxy alone, so
	// it has to keep private networks out of reach itself; without AllowPrivate, addresses that cannot be public are
	// refused before it is asked.
	Proxy *url.URL
	// Hint maps the cause of a missing status to what an operator can do about it, in a sentence that
	// stands beside the cause in the log; empty: nothing to say. Causes that stay until somebody does something wrap
	// [ErrNotPublic] or [ErrNoSource]; others may be gone in a moment. It knows the names of settings, which this package
	// does not. Optional.
	Hint func(cause error) string
	// Observe is put around the transport that makes the calls, for logs and traces. Optional.
	Observe func(http.RoundTripper) http.RoundTripper
	// Dir is a folder in which answers are kept over a restart, verified again when they are read; at most 16,384 files
	// and 256 MiB. When it cannot be used, that is logged and nothing is kept. Optional.
	Dir string
	// Certificates is of how many the status is remembered, each in some hundred bytes; 65,536 at the least. With
	// fewer than there are in use, those that are left out are asked about each time. Optional.
	Certificates int
	// Log has a line when a status cannot be found out, when a certificate turns out to be revoked, and when a chain
	// passes without an answer. One cause of missing answers, such as a responder that is out of reach, is one line,
	// however many certificates it concerns, until it has ended. Optional.
	Log *slog.Logger
}

// ErrNotPublic is wrapped by the cause of an outage when an address was not called because of where it leads. It stays
// so until [Config.AllowPrivate] is set or the CA names another address.
var ErrNotPublic = outbound.ErrNotPublic

// Bounds of what is remembered, and of how long a check waits.
const (
	maxCertificates = 64 << 10  // each some hundred bytes; more if Config says so
	maxListMemory   = 128 << 20 // bytes of all revocation lists together
	maxWait         = 6 * time.Second
	maxRetryAfter   = time.Minute
)

// Bounds of what is under way. Questions to one issuer's sources are bounded besides, so that those
// who are slow leave room for others; see also [outbound.CallsPerHost].
const (
	maxQuestions      = 512 // about certificates
	questionsAnIssuer = 64
	maxListQuestions  = 32
	questionTimeout   = time.Minute // more than the calls of one question take
)

// A Checker finds out whether certificates of a trusted chain are revoked, and remembers it. It is safe for
// concurrent use. Close it when it is no longer needed.
type Checker struct {
	mode     Mode
	log      *slog.Logger
	hint     func(error) string
	fetcher  *outbound.Fetcher
	kept     *kept.Folder // nil: nothing is kept
	counters struct {
		ocsp, fromList, lists, failures atomic.Uint64
		refused, undecided, softFailed  atomic.Uint64
		remembered, asked               atomic.Uint64
		responders, distributors        outbound.CallCounter
	}
	outages outages
	closed  atomic.Bool

	questions   *flight.Group[*certificateEntry, *cached[certStatus]]
	issuerSlots *flight.Slots[trust.Fingerprint] // by whom the certificates are that are being asked about
	listFetches *flight.Group[*listEntry, *cached[*crl]]

	// The caches forget by size alone, so that they need no goroutine; what they hold knows itself when it ends.
	certificates *otter.Cache[statusKey, *certificateEntry]
	lists        *otter.Cache[string, *listEntry] // by listName
}

// New returns a Checker that has asked nobody yet. The error is about the configuration.
func New(c Config) (*Checker, error) {
	if c.Mode != Require && c.Mode != Prefer {
		return nil, fmt.Errorf("revocation: unknown mode %d", int(c.Mode))
	}
	if p := c.Proxy; p != nil && (p.Scheme != "http" && p.Scheme != "https" || p.Hostname() == "" || p.User != nil) {
		return nil, errors.New("revocation: the proxy is no http or https URL, or it holds credentials")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Hint == nil {
		c.Hint = func(error) string { return "" }
	}
	r := &Checker{
		mode:         c.Mode,
		log:          c.Log,
		hint:         c.Hint,
		fetcher:      outbound.NewFetcher(c.AllowPrivate, c.Proxy),
		questions:    flight.New[*certificateEntry, *cached[certStatus]](maxQuestions, questionTimeout),
		issuerSlots:  flight.NewSlots[trust.Fingerprint](questionsAnIssuer, maxQuestions),
		listFetches:  flight.New[*listEntry, *cached[*crl]](maxListQuestions, questionTimeout),
		certificates: otter.Must(&otter.Options[statusKey, *certificateEntry]{MaximumSize: max(c.Certificates, maxCertificates)}),
		lists: otter.Must(&otter.Options[string, *listEntry]{
			MaximumWeight: maxListMemory,
			Weigher: func(_ string, e *listEntry) uint32 {
				if current := e.current.Load(); current != nil {
					return uint32(listSize + len(current.value.entries)) // bounded by maxListAnswer
				}
				return listSize
			},
		}),
	}
	if c.Observe != nil {
		r.fetcher.Client.Transport = c.Observe(r.fetcher.Client.Transport)
	}
	if c.Dir != "" {
		var err error
		if r.kept, err = kept.Open(c.Dir, kept.Limits{Files: maxKeptFiles, Bytes: maxKeptBytes}, c.Log); err != nil {
			c.Log.Warn("revocation answers cannot be kept for the next start", slog.Any("error", err))
		}
	}
	return r, nil
}

// Close gives up what is being asked and returns when no goroutine is left. Checks
// after it are answered from memory or not at all.
func (r *Checker) Close() {
	r.closed.Store(true)
	r.questions.Close()
	r.listFetches.Close()
	r.fetcher.Client.CloseIdleConnections()
	if err := r.kept.Close(); err != nil {
		r.log.Warn("the folder of revocation answers cannot be closed", slog.Any("error", err))
	}
}

// Check returns nil when no certificate of the chain below its anchor is
// revoked, and in [Prefer] also when that could not be found out.
//
// The error is an [*rule.Rejection] by certificate.revoked when one is revoked,
// an [*rule.Outage] of unavailable.revocation when nobody answers or too many are being asked, or
// the context's. It waits for the network only when it has no answer in memory.
func (r *Checker) Check(ctx context.Context, chain *trust.Chain) error {
	now := time.Now()
	entries := r.entries(chain)
	pending := r.startRefresh(ctx, chain, entries, now)
	defer leave(pending)
	for i, e := range entries {
		// What is known already needs no waiting for the rest.
		if current := e.live(now); current != nil && current.value.revoked != nil {
			return r.refuse(i, current.value)
		}
	}
	if pending == nil {
		r.counters.remembered.Add(1)
		return nil
	}
	r.counters.asked.Add(1)
	bounded, cancel := context.WithDeadlineCause(ctx, now.Add(maxWait), errWaitTimeout)
	defer cancel()
	var missing error
	for i, e := range entries {
		status, err := e.wait(bounded, pending[e], now)
		switch {
		case err != nil && missing == nil:
			missing = fmt.Errorf("x5c[%d]: %w", i, err)
		case status.revoked != nil:
			return r.refuse(i, status)
		}
	}
	if missing == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	return r.decideWithout(missing, entries, now)
}

func (r *Checker) refuse(i int, s certStatus) error {
	r.counters.refused.Add(1)
	return rule.CertificateRevoked.Because("x5c[%d] %s, says %s", i, s.revoked, s.source)
}

// decideWithout applies the mode when the status of a certificate is missing. That too many are being asked, or that
// we close, is no soft-fail: whoever can bring that about would get a revoked certificate accepted.
func (r *Checker) decideWithout(missing error, entries []*certificateEntry, now time.Time) error {
	if r.mode == Prefer && !r.closed.Load() && !errors.Is(missing, flight.ErrBusy) {
		r.counters.softFailed.Add(1)
		for _, e := range entries { // one warning of one cause until there is an answer again, not one for each request
			cause := e.cause.Load()
			if e.live(now) == nil && cause != nil && r.outages.begin(softFailPrefix+*cause) {
				r.log.Warn("a chain is let through although its revocation status is missing",
					slog.String("certificate", e.key.certificate.String()), slog.Any("cause", missing))
			}
		}
		return nil
	}
	r.counters.undecided.Add(1)
	wait := time.Second
	if f, ok := errors.AsType[*failure](missing); ok {
		wait = max(wait, f.until.Sub(now))
	}
	return &rule.Outage{
		Rule:       rule.UnavailableRevocation,
		RetryAfter: min(wait+time.Second-1, maxRetryAfter).Truncate(time.Second),
		Cause:      missing,
	}
}

// A Status is what is known about one certificate of a chain, for people who want to see it.
type Status struct {
	Index      int    // of the certificate in the chain, 0 for the leaf
	Source     string // "OCSP" or "CRL"; empty when there is no answer
	Address    string // that answered
	ThisUpdate time.Time
	NextUpdate time.Time
	Revoked    string // since when and why it is revoked; empty when it is not
	Err        error  // why there is no answer, or nil
}

// Statuses tells what [Checker.Check] decides by, certificate by certificate from the leaf to the one below the anchor.
// It waits as Check does, and counts nothing as refused or passed.
func (r *Checker) Statuses(ctx context.Context, chain *trust.Chain) []Status {
	now := time.Now()
	entries := r.entries(chain)
	pending := r.startRefresh(ctx, chain, entries, now)
	defer leave(pending)
	ctx, cancel := context.WithDeadlineCause(ctx, now.Add(maxWait), errWaitTimeout)
	defer cancel()
	statuses := make([]Status, len(entries))
	for i, e := range entries {
		s, err := e.wait(ctx, pending[e], now)
		statuses[i] = Status{
			Index: i, Source: s.source, Address: s.address,
			ThisUpdate: s.thisUpdate, NextUpdate: s.nextUpdate, Err: err,
		}
		if s.revoked != nil {
			statuses[i].Revoked = s.revoked.String()
		}
	}
	return statuses
}
