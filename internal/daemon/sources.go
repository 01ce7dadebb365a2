package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/trust"
)

// sources are where the knowledge comes from by which assertions are judged.
type sources struct {
	config  *config.Config
	log     *slog.Logger
	anchors trust.Anchors    // of our own choice
	own     *trust.Validator // of the registry: by these anchors only
	clients *trust.Validator // by these, and what a trusted list grants

	revocation *trust.Revocation // nil: nobody is asked

	seal   *keyfile.Pair         // for remote
	file   *registry.File        // one of file and
	remote *registry.Remote      // remote is set
	cache  *registry.Cache       // of remote
	list   *registry.TrustedList // of remote; nil: not asked for
}

// openSources asks nobody yet. What it returns must be closed.
func openSources(cfg *config.Config, log *slog.Logger) (*sources, error) {
	s := &sources{config: cfg, log: log}
	for _, open := range []func() error{s.openTrust, s.openRevocation, s.openParticipants, s.openTrustedList} {
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
	if s.own, err = trust.New(s.anchors); err != nil {
		return fmt.Errorf("trust.anchors: %w", err)
	}
	s.clients, err = trust.New(s.anchors)
	return err
}

func (s *sources) openRevocation() (err error) {
	mode := trust.RequireRevocation
	switch s.config.Trust.Revocation {
	case config.RevocationOff:
		return nil
	case config.RevocationPrefer:
		mode = trust.PreferRevocation
	case config.RevocationRequire:
	}
	var proxy *url.URL
	if s.config.Trust.RevocationProxy.Host != "" {
		proxy = &s.config.Trust.RevocationProxy.URL
	}
	s.revocation, err = trust.NewRevocation(trust.RevocationConfig{
		Mode: mode, AllowPrivate: s.config.Trust.RevocationAllowPrivate, Proxy: proxy, Log: s.log, Mend: RevocationMend,
	})
	if err != nil {
		return fmt.Errorf("trust.revocation: %w", err)
	}
	return nil
}

// RevocationMend is what an operator can do about the cause why a revocation status cannot be found
// out, when it stays until somebody does; empty when it may be gone in a moment.
func RevocationMend(cause error) string {
	switch {
	case errors.Is(cause, trust.ErrNotPublic):
		return "If the address is on a network of your own, set trust.revocation_allow_private; otherwise its CA has to name another."
	case errors.Is(cause, trust.ErrNamesNeither):
		return "Its CA has to issue another certificate, that names an OCSP responder or a revocation list by http. " +
			"A CA whose own certificate names neither can be an anchor, which is not asked about (trust.anchors)."
	}
	return ""
}

func (s *sources) openParticipants() (err error) {
	if s.config.Participants.Registry == nil {
		if s.file, err = registry.OpenFile(string(s.config.Participants.File), s.log); err != nil {
			return fmt.Errorf("participants.file: %w", err)
		}
		return nil
	}
	if s.remote, err = s.newRemote(); err != nil {
		return fmt.Errorf("participants.registry: %w", err)
	}
	s.cache, err = registry.NewCache(registry.CacheConfig{
		Source: s.remote, Fresh: s.config.Participants.Cache, MaxStale: s.config.Participants.MaxStale, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("participants: %w", err)
	}
	return nil
}

func (s *sources) newRemote() (*registry.Remote, error) {
	cfg := s.config
	var problems keyfile.Problems
	if s.seal, problems = keyfile.ReadSeal(sealFiles(cfg), time.Now()); problems.Err() != nil {
		return nil, problems.Err()
	}
	return registry.NewRemote(registry.RemoteConfig{
		ID:           cfg.Participants.Registry.ID,
		URL:          cfg.Participants.Registry.URL.String(),
		Version:      registry.Version(cfg.Participants.Registry.Version.String()),
		Party:        s.audience(),
		Key:          s.seal.Signer(),
		Certificates: s.seal.Certificates,
		Seals:        seals(cfg.Participants.Registry),
		Trust:        s.own,
		Revocation:   s.revocationChecker(),
		Leeway:       cfg.Policy.Leeway,
		Log:          s.log,
	})
}

func seals(r *config.Registry) []string {
	var list []string
	for _, f := range r.Seals {
		list = append(list, string(f))
	}
	return list
}

func (s *sources) openTrustedList() (err error) {
	if !s.config.Trust.TrustedList {
		return nil
	}
	s.list, err = registry.NewTrustedList(registry.TrustedListConfig{
		Source: s.remote, Own: s.anchors, Clients: s.clients,
		Refresh: s.config.Trust.Refresh, MaxStale: s.config.Participants.MaxStale, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("trust.trusted_list: %w", err)
	}
	return nil
}

// audience lists our own identifiers, the canonical one first.
func (s *sources) audience() []ishare.PartyID {
	return append([]ishare.PartyID{s.config.Party.ID}, s.config.Party.AlsoKnownAs...)
}

// revocationChecker is the one that the configuration asks for.
func (s *sources) revocationChecker() assertion.RevocationChecker {
	if s.revocation == nil {
		return trust.NoRevocation{}
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
	case ishare.IsUnknownParty(err):
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
		Trust:            s.clients,
		Parties:          s.parties(),
		Revocation:       s.revocationChecker(),
		Leeway:           cfg.Policy.Leeway,
		AllowExtraHeader: cfg.Policy.ExtraHeaderParameters == config.ExtraHeadersAllow,
		Roles:            cfg.Policy.Roles,
		Dataspaces:       cfg.Policy.Dataspaces,
	}
}

// run keeps the knowledge fresh until ctx is done.
func (s *sources) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if s.file != nil {
		group.Go(func() error { return s.file.Run(ctx) })
	}
	if s.cache != nil {
		group.Go(func() error { return s.cache.Run(ctx) })
	}
	if s.list != nil {
		group.Go(func() error { return s.list.Run(ctx) })
	}
	return group.Wait()
}

// close gives up what is being asked, in the order in which one asks the other.
func (s *sources) close() error {
	var errs []error
	if s.cache != nil {
		errs = append(errs, s.cache.Close())
	}
	if s.remote != nil {
		errs = append(errs, s.remote.Close())
	}
	if s.seal != nil {
		errs = append(errs, s.seal.Close())
	}
	if s.revocation != nil {
		s.revocation.Close()
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
func (v listedVerifier) Verify(ctx context.Context, clientID ishare.PartyID, compact string) (*assertion.Client, assertion.Sighting, error) {
	before := v.list.InForce()
	client, seen, err := v.Verifier.Verify(ctx, clientID, compact)
	if rejection, _ := ishare.Classify(err); isGuess(rejection) && (!before || !v.list.InForce()) {
		return nil, seen, withoutList(rejection)
	}
	return client, seen, err
}

// isGuess reports whether a trusted list that is not in force could have prevented the rejection.
// It may also grant a CA below the anchor that we chose, and what stands above the lowest anchor
// is not judged: neither its signatures nor its name constraints and policies. A rejection does
// not say where in the chain the fault is, so a chain that is bad whatever the list says has to
// wait for it too, like any chain that reaches no anchor.
func isGuess(r *ishare.Rejection) bool {
	return r != nil && slices.Contains([]*ishare.Rule{ishare.ChainOrder, ishare.ChainIssuer, ishare.ChainUntrusted}, r.Rule)
}

func withoutList(guess *ishare.Rejection) *ishare.Outage {
	return &ishare.Outage{Rule: ishare.UnavailableRegistry, RetryAfter: listRetry, Cause: fmt.Errorf("%w: %w", errNoTrustedList, guess)}
}

// listRetry is about how soon a registry that is back will have been asked again.
const listRetry = 5 * time.Second
