package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/work"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// sources are where the knowledge comes from by which assertions are judged. What they
// hold is shared with the sources of the configuration before and after, as far as it is made of
// the same; the keys below say of what.
type sources struct {
	config  *config.Config
	log     *slog.Logger
	parts   *parts
	held    []*part          // in the order in which they were opened
	anchors trust.Anchors    // of our own choice
	own     *trust.Validator // of the registry: by these anchors only
	clients *clientTrust

	revocation *revocation.Checker // nil: nobody is asked

	file   *registry.File  // one of file and
	remote *askedRemote    // remote is set
	asked  *askedRegistry  // by cache and list: remote, from when the configuration is in use
	cache  *registry.Cache // of asked
}

// The keys of parts. What is remembered by a configuration that trusted others, or that asked in
// another way, is never taken over.
type (
	anchorsKey    struct{ anchors string }
	revocationKey struct {
		mode         revocation.Mode
		allowPrivate bool
		proxy        string
	}
	fileKey struct{ path config.Path }
	// registryKey is all by which an answer of the registry is believed. Our own seal is not
	// among it: records stay true when it is renewed.
	registryKey struct {
		anchorsKey
		revocationKey

		id      ishare.PartyID
		url     string
		version registry.Version
		seals   string
		ourIDs  string // to whom answers are addressed
		leeway  time.Duration
	}
	remoteKey struct {
		registryKey

		certificates string        // of our seal, and so its key
		hardware     *keyfile.Pair // of our seal, whose session, and the PIN for the next one, are never taken over; nil: none
	}
	cacheKey struct {
		registryKey

		fresh, maxStale time.Duration
	}
	clientTrustKey struct {
		anchorsKey

		list listKey // zero: none
	}
	listKey struct {
		registryKey

		refresh, maxStale time.Duration
	}
	verifierKey struct {
		clientTrustKey
		revocationKey

		parties           any
		extraHeader       config.ExtraHeaders
		ourIDs            string
		leeway            time.Duration
		roles, dataspaces string
		work              *work.Gate
		seals             *bucket.Set[string]
	}
)

// openSources asks nobody yet. What it returns must be closed.
func openSources(cfg *config.Config, log *slog.Logger, shared *parts) (*sources, error) {
	s := &sources{config: cfg, log: log, parts: shared}
	for _, open := range []func() error{s.openTrust, s.openRevocation, s.openParticipants, s.openClientTrust} {
		if err := open(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *sources) openTrust() (err error) {
	if s.anchors, err = trust.LoadAnchors(anchorItems(s.config.Trust.Anchors)); err != nil {
		return fmt.Errorf("trust.anchors: %w", err)
	}
	s.own, err = share(s, s.anchorsKey(), func() (*trust.Validator, error) { return trust.New(s.anchors) })
	if err != nil {
		return fmt.Errorf("trust.anchors: %w", err)
	}
	return nil
}

func (s *sources) anchorsKey() anchorsKey { return anchorsKey{fmt.Sprint(s.anchors)} } // which sorts them

// openRevocation: an answer is about a certificate and its issuer, and true whoever is trusted.
func (s *sources) openRevocation() (err error) {
	mode := revocation.Require
	switch s.config.Trust.Revocation {
	case revocation.ModeOff:
		return nil
	case revocation.Prefer:
		mode = revocation.Prefer
	case revocation.Require:
	}
	var proxy *url.URL
	if s.config.Trust.RevocationProxy.Host != "" {
		proxy = &s.config.Trust.RevocationProxy.URL
	}
	s.revocation, err = share(s, s.revocationKey(), func() (*revocation.Checker, error) {
		return revocation.New(revocation.Config{
			Mode: mode, AllowPrivate: s.config.Trust.RevocationAllowPrivate, Proxy: proxy, Dir: s.keptFolder("revocation"),
			Log: s.log, Hint: RevocationMend,
		})
	})
	if err != nil {
		return fmt.Errorf("trust.revocation: %w", err)
	}
	return nil
}

// keptFolder is where signed answers of a kind are kept over a restart; empty: nowhere.
func (s *sources) keptFolder(kind string) string {
	if !s.parts.keep {
		return ""
	}
	return filepath.Join(string(s.config.Data), "kept", kind)
}

func (s *sources) revocationKey() revocationKey {
	t := &s.config.Trust
	return revocationKey{mode: t.Revocation, allowPrivate: t.RevocationAllowPrivate, proxy: t.RevocationProxy.String()}
}

// RevocationMend is what an operator can do about the cause why a revocation status cannot be found
// out, when it stays until somebody does; empty when it may be gone in a moment.
func RevocationMend(cause error) string {
	switch {
	case errors.Is(cause, revocation.ErrNotPublic):
		return "If the address is on a network of your own, set trust.revocation_allow_private; otherwise its CA has to name another."
	case errors.Is(cause, revocation.ErrNoSource):
		return "Its CA has to issue another certificate, that names an OCSP responder or a revocation list by http. " +
			"A CA whose own certificate names neither can be an anchor, which is not asked about (trust.anchors)."
	}
	return ""
}

func (s *sources) openParticipants() error {
	if s.config.Participants.Registry == nil {
		return s.openFile()
	}
	if err := s.openRemote(); err != nil {
		return fmt.Errorf("participants.registry: %w", err)
	}
	var err error
	s.cache, err = share(s, s.cacheKey(), func() (*registry.Cache, error) {
		return registry.NewCache(registry.CacheConfig{
			Source: s.asked, Fresh: s.config.Participants.Cache, MaxStale: s.config.Participants.MaxStale, Log: s.log,
		})
	})
	if err != nil {
		return fmt.Errorf("participants: %w", err)
	}
	return nil
}

// openFile reads the file, whether it was read before or not.
func (s *sources) openFile() (err error) {
	opened := false
	path := s.config.Participants.File
	s.file, err = share(s, fileKey{path}, func() (*registry.File, error) {
		opened = true
		return registry.OpenFile(string(path), s.log)
	})
	if err == nil && !opened {
		err = s.file.Reload()
	}
	if err != nil {
		return fmt.Errorf("participants.file: %w", err)
	}
	return nil
}

// clientTrust is what chains of clients are judged by.
type clientTrust struct {
	*trust.Validator // by our own anchors, and what list grants

	list *registry.TrustedList // nil: not asked for
}

// Run keeps the list.
func (t *clientTrust) Run(ctx context.Context) error {
	if t.list == nil {
		return nil
	}
	return t.list.Run(ctx)
}

func (s *sources) openClientTrust() (err error) {
	s.clients, err = share(s, s.clientTrustKey(), s.newClientTrust)
	return err
}

func (s *sources) clientTrustKey() clientTrustKey {
	key := clientTrustKey{anchorsKey: s.anchorsKey()}
	if s.config.Trust.TrustedList {
		key.list = listKey{s.registryKey(), s.config.Trust.Refresh, s.config.Participants.MaxStale}
	}
	return key
}

func (s *sources) newClientTrust() (*clientTrust, error) {
	validator, err := trust.New(s.anchors)
	if err != nil {
		return nil, fmt.Errorf("trust.anchors: %w", err)
	}
	if !s.config.Trust.TrustedList {
		return &clientTrust{Validator: validator}, nil
	}
	list, err := registry.NewTrustedList(registry.TrustedListConfig{
		Source: s.asked, Own: s.anchors, Clients: validator,
		Refresh: s.config.Trust.Refresh, MaxStale: s.config.Participants.MaxStale, Log: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("trust.trusted_list: %w", err)
	}
	return &clientTrust{validator, list}, nil
}

// audience lists our own identifiers, the canonical one first.
func (s *sources) audience() []ishare.PartyID {
	return append([]ishare.PartyID{s.config.Party.ID}, s.config.Party.AlsoKnownAs...)
}

// revocationChecker is the one that the configuration asks for.
func (s *sources) revocationChecker() assertion.RevocationChecker {
	if s.revocation == nil {
		return revocation.Off{}
	}
	return s.revocation
}

func (s *sources) parties() assertion.PartySource {
	if s.cache == nil {
		return s.file
	}
	return s.cache
}

// canonical finds the canonical identifier of a party, by any that it is known by.
func (s *sources) canonical(ctx context.Context, id ishare.PartyID) (ishare.PartyID, error) {
	party, err := s.parties().Party(ctx, id)
	switch {
	case rule.IsUnknownParty(err):
		return id, nil
	case err != nil:
		return "", err
	}
	return party.ID, nil
}

// judgement is what the configuration says about judging assertions.
func (s *sources) judgement() assertion.Config {
	cfg := s.config
	return assertion.Config{
		Audience:         s.audience(),
		Trust:            s.clients.Validator,
		Parties:          s.parties(),
		Revocation:       s.revocationChecker(),
		AllowExtraHeader: cfg.Policy.ExtraHeaderParameters == config.ExtraHeadersAllow,
		Roles:            cfg.Policy.Roles,
		Dataspaces:       cfg.Policy.Dataspaces,
	}
}

// verifier judges assertions, and remembers the used ones in the store, which must be
// the same for all sources that share parts.
func (s *sources) verifier(used replay.Store, within *limits) (tokenendpoint.Verifier, error) {
	policy := &s.config.Policy
	key := verifierKey{
		clientTrustKey: s.clientTrustKey(), revocationKey: s.revocationKey(), parties: any(fileKey{s.config.Participants.File}),
		extraHeader: policy.ExtraHeaderParameters, ourIDs: fmt.Sprint(s.audience()), leeway: policy.Leeway,
		roles: fmt.Sprintf("%q", policy.Roles), dataspaces: fmt.Sprintf("%q", policy.Dataspaces),
		work: within.work, seals: within.seals,
	}
	if s.cache != nil {
		key.parties = s.cacheKey()
	}
	verifier, err := share(s, key, func() (*assertion.Verifier, error) {
		judgement := s.judgement()
		judgement.Replay, judgement.Work, judgement.FirstWork = used, within.work, within.firstWork
		if within.seals != nil {
			judgement.Seals = within.seals
		}
		return assertion.NewVerifier(judgement)
	})
	if err != nil || s.clients.list == nil {
		return verifier, err
	}
	return listedVerifier{verifier, s.clients.list}, nil
}

// start keeps the knowledge fresh until it is closed.
func (s *sources) start(ctx context.Context) {
	for _, p := range s.held {
		p.start(ctx)
	}
}

// close gives up what is being asked, in the order in which one asks the other.
func (s *sources) close() error {
	var errs []error
	for _, p := range slices.Backward(s.held) {
		errs = append(errs, s.parts.release(p))
	}
	return errors.Join(errs...)
}

// A listed verifier does not refuse a chain by its anchor, or for want of one, while the
// trusted list that could vouch for it is out of reach: that would be a guess.
type listedVerifier struct {
	*assertion.Verifier

	list *registry.TrustedList
}

var errNoTrustedList = errors.New("the trusted list is not in force")

// Verify is [assertion.Verifier.Verify], but for the trusted list, which may come or end
// while the chain is judged.
func (v listedVerifier) Verify(ctx context.Context, clientID ishare.PartyID, compact string) (*assertion.Client, assertion.UnverifiedInfo, error) {
	before := v.list.InForce()
	client, seen, err := v.Verifier.Verify(ctx, clientID, compact)
	if rejection, _ := rule.Classify(err); isGuess(rejection) && (!before || !v.list.InForce()) {
		return nil, seen, withoutList(rejection)
	}
	return client, seen, err
}

// isGuess reports whether a trusted list that is not in force could have prevented the rejection.
// It may also grant a CA below the anchor that we chose, and what stands above the lowest anchor
// is not judged: neither its signatures nor its name constraints and policies. A rejection does
// not say where in the chain the fault is, so a chain that is bad whatever the list says has to
// wait for it too, like any chain that reaches no anchor.
func isGuess(r *rule.Rejection) bool {
	return r != nil && slices.Contains([]*rule.Rule{rule.ChainOrder, rule.ChainIssuer, rule.ChainUntrusted}, r.Rule)
}

func withoutList(guess *rule.Rejection) *rule.Outage {
	return &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: listRetry, Cause: fmt.Errorf("%w: %w", errNoTrustedList, guess)}
}

// listRetry is about how soon a registry that is back will have been asked again.
const listRetry = 5 * time.Second
