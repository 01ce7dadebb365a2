package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"
	"weak"

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

// ErrNotPublic is wrapped by the cause of an outage when an address was not called because of
// where it leads. It stays so until [Config.AllowPrivate] is set or the CA
// names another address.
var ErrNotPublic = outbound.ErrNotPublic

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

// Config is how a [Checker] works. The zero value is the strictest.
type Config struct {
	// Mode is what a missing answer means.
	Mode Mode
	// AllowPrivate lets addresses be called that are on loopback, private and
	// other networks without public servers. It is for test set-ups: whoever
	// gets a certificate issued can make the server call what it names.
	AllowPrivate bool
	// Proxy is asked to make every call, where this machine reaches nobody itself: an
	// http or https URL without credentials. Nil: none is asked, whatever
	// the environment says. Where a name leads is seen by the proxy alone, so it has to keep private
	// networks out of reach itself; without AllowPrivate, addresses that cannot be public
	// are refused before it is asked.
	Proxy *url.URL
	// Mend may tell what an operator can do about a status that cannot be found
	// out, in a sentence for the log; empty: nothing to say. Optional.
	Hint func(error) string
	// Dir is a folder in which answers are kept over a restart, verified again when
	// they are read; at most 16,384 files and 256 MiB. When it cannot be used, Log is told
	// and nothing is kept. Optional.
	Dir string
	// Log is told when a status cannot be found out, when a certificate turns out
	// to be revoked, and when a chain is let through without an answer. Optional.
	Log *slog.Logger
}

// Bounds of what is remembered, and of how long a request waits.
const (
	maxChains       = 16 << 10  // each some hundred bytes
	maxCertificates = 64 << 10  // each some hundred bytes
	maxListMemory   = 128 << 20 // bytes of all revocation lists together
	maxWait         = 6 * time.Second
)

// Bounds of what is under way. Questions to one issuer's sources are bounded besides, so that those
// who are slow leave room for others; see also [outbound.CallsPerHost].
const (
	maxQuestions      = 512 // about certificates
	questionsAnIssuer = 64
	maxListQuestions  = 32
	questionTimeout   = time.Minute // more than the calls of one take
)

// A Checker finds out whether certificates of a trusted chain are revoked, by
// OCSP (RFC 6960) and from revocation lists (RFC 5280 section 5): the leaf and
// every issuer below the anchor. The anchor is not asked about; whoever made it one
// answers for it.
//
// # Whom it asks
//
// The OCSP responders that a certificate names, and if none gives an answer that
// holds, the revocation lists that it names. A certificate that names neither
// cannot have an answer: it passes in [Prefer] only, or as an anchor. See [Answerable].
//
// Addresses are called with http or https only, and never on a private network or
// through a proxy (see [Config]). Up to 3 redirects are followed, each to
// an address within the same bounds; a question to a responder stays a POST. A call to a responder
// takes at most 5 s and 64 KiB, one for a list 20 s and 16 MiB. When no responder has answered
// for 2 s, lists are asked for besides. A check waits for
// at most 6 s. Nothing is called before a [Validator] has trusted the chain.
//
// # How much at once
//
// However many checks wait, a question is under way once. One about a certificate ends when nobody waits
// for it any more, unless there is an answer that it renews; the fetching of a list goes on, as a large one
// may take longer than anybody waits. At most 512 certificates are asked about at once, 64 of one issuer, and
// 32 lists are fetched; at most 64 calls are made at once, 32 to one host. Beyond that a check has no
// answer at once, and is an outage in every mode.
//
// # How soon it recovers
//
// Within 2 s after whoever is asked is well again, in whatever way they failed. A failure is remembered for
// 1 s, for up to 1.8 s by the size of an answer that was no good. A Retry-After of theirs is not waited for. An
// address that was not reached three times in a row is tried once a second. While nothing
// comes of a call, a second one is made beside it every second.
//
// # What it believes
//
// An OCSP answer by the issuer, or by a responder to which the issuer gave a
// certificate for the purpose. Such a certificate must not be on the revocation
// list that it names, unless it carries id-pkix-ocsp-nocheck (RFC 6960 section
// 4.2.2.2.1). No nonce is asked for, so that answers can be made beforehand.
// "Unknown" is no answer.
//
// A list of version 1 or 2 that the issuer signed, and whose scope includes the certificate.
// Indirect and delta lists are refused. Where there is a delta beside a list, or
// the list is for some reasons only, a certificate on it is revoked, and one that is not
// on it has no answer.
//
// Both must be signed with SHA-256 or better, have begun, where clocks may differ
// by a minute, and not have ended. A list says when it ends; an OCSP answer that
// does not say it ends after 15 minutes.
//
// # How long it remembers
//
// Until an answer ends, at most for 24 hours. While an answer is in use it is
// asked for again in the background, after half of its time and by OCSP at the latest
// after an hour, so that a busy client never waits. An older answer does not
// replace a newer one. A revocation is final, apart from a hold.
//
// With [Config.Dir] answers are remembered over a restart, for as long as without it: they are
// read when there is none in memory, judged again as of when they were obtained, and end
// when they would have ended. Final revocations are kept for as long as the certificate lasts.
//
// # What it logs
//
// One cause of missing answers, such as a responder that is out of reach, is one line, however many
// certificates it concerns, until it has ended.
//
// A Checker is safe for concurrent use. Close it when it is no longer needed.
type Checker struct {
	mode     Mode
	log      *slog.Logger
	mend     func(error) string
	fetcher  *outbound.Fetcher
	kept     *kept.Folder // nil: nothing is kept
	counters counters
	outages  outages
	closed   atomic.Bool

	finding  *flight.Group[*status, *answer[verdict]]
	issuers  *flight.Slots[trust.Fingerprint] // by whom the certificates are that are being asked about
	fetching *flight.Group[*listing, *answer[*list]]

	chains       *otter.Cache[weak.Pointer[trust.Chain], []*status]
	certificates *otter.Cache[certificateKey, *status]
	lists        *otter.Cache[listKey, *listing]
}

// New returns a Checker that has asked nobody yet. The error is
// about the configuration.
func New(c Config) (*Checker, error) {
	if c.Mode != Require && c.Mode != Prefer {
		return nil, fmt.Errorf("trust: unknown revocation mode %d", int(c.Mode))
	}
	if p := c.Proxy; p != nil && (p.Scheme != "http" && p.Scheme != "https" || p.Hostname() == "" || p.User != nil) {
		return nil, errors.New("trust: the proxy for revocation is no http or https URL, or it holds credentials")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Hint == nil {
		c.Hint = func(error) string { return "" }
	}
	r := &Checker{
		mode:     c.Mode,
		log:      c.Log,
		mend:     c.Hint,
		fetcher:  outbound.NewFetcher(c.AllowPrivate, c.Proxy),
		finding:  flight.New[*status, *answer[verdict]](maxQuestions, questionTimeout),
		issuers:  flight.NewSlots[trust.Fingerprint](questionsAnIssuer, maxQuestions),
		fetching: flight.New[*listing, *answer[*list]](maxListQuestions, questionTimeout),
	}
	if c.Dir != "" {
		var err error
		if r.kept, err = kept.Open(c.Dir, keptLimits(), c.Log); err != nil {
			c.Log.Warn("revocation answers cannot be kept for the next start", slog.Any("error", err))
		}
	}
	if err := r.makeCaches(); err != nil {
		return nil, fmt.Errorf("trust: cache of revocation answers: %w", err)
	}
	return r, nil
}

// makeCaches: the caches forget by size alone, so that they need no goroutine;
// what they hold knows itself when it ends.
func (r *Checker) makeCaches() (err error) {
	// Weak, so that remembering a chain does not keep it in memory.
	r.chains, err = otter.New(&otter.Options[weak.Pointer[trust.Chain], []*status]{MaximumSize: maxChains})
	if err != nil {
		return err
	}
	r.certificates, err = otter.New(&otter.Options[certificateKey, *status]{MaximumSize: maxCertificates})
	if err != nil {
		return err
	}
	r.lists, err = otter.New(&otter.Options[listKey, *listing]{
		MaximumWeight: maxListMemory,
		Weigher: func(_ listKey, l *listing) uint32 {
			if held := l.answer.Load(); held != nil {
				return held.value.size()
			}
			return listSize
		},
	})
	return err
}

// Close gives up what is being asked and returns when no goroutine is left. Checks
// after it are answered from memory or not at all.
func (r *Checker) Close() {
	r.closed.Store(true)
	r.finding.Close()
	r.fetching.Close()
	r.fetcher.Close()
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
	statuses := r.statuses(chain)
	waits := r.prompt(chain, statuses, now)
	defer leave(waits)
	for i, s := range statuses {
		// What is known already needs no waiting for the rest.
		if at := s.live(now); at != nil && at.value.revoked != nil {
			return r.refuse(i, at.value)
		}
	}
	if waits == nil {
		return nil
	}
	patience, cancel := context.WithDeadlineCause(ctx, now.Add(maxWait), errPatience)
	defer cancel()
	var missing error
	for i, s := range statuses {
		v, err := s.verdict(patience, i, waits, now)
		switch {
		case err != nil && missing == nil:
			missing = fmt.Errorf("x5c[%d]: %w", i, err)
		case v.revoked != nil:
			return r.refuse(i, v)
		}
	}
	if missing == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	return r.doWithout(missing, statuses, now)
}

// subjectAt is the certificate at an index below the anchor.
func subjectAt(c *trust.Chain, i int) subject {
	return subject{certificate: c.At(i), issuer: c.At(i + 1)}
}

func (r *Checker) refuse(i int, v verdict) error {
	r.counters.refused.Add(1)
	return rule.CertificateRevoked.Because("x5c[%d] %s, says %s", i, v.revoked, v.source)
}

// doWithout is what the mode says when the status of a certificate is missing. That too many are
// being asked, or that we close, is no such case: whoever can bring it about would be let through.
func (r *Checker) doWithout(missing error, statuses []*status, now time.Time) error {
	if r.mode == Prefer && !r.closed.Load() && !errors.Is(missing, flight.ErrBusy) {
		r.counters.letThrough.Add(1)
		r.tellLetThrough(missing, statuses, now)
		return nil
	}
	r.counters.undecided.Add(1)
	return &rule.Outage{
		Rule:       rule.UnavailableRevocation,
		RetryAfter: retryAfter(missing, now),
		Cause:      missing,
	}
}

// retryAfter is when it is worth to try again, in whole seconds.
func retryAfter(missing error, now time.Time) time.Duration {
	wait := time.Second
	if failed, ok := errors.AsType[*failure](missing); ok {
		wait = max(wait, failed.until.Sub(now))
	}
	return min(wait+time.Second-1, maxRetryAfter).Truncate(time.Second)
}

const maxRetryAfter = time.Minute
