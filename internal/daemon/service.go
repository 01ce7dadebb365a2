package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// A service is everything that one configuration stands for. It does not change:
// a reload makes another.
type service struct {
	config      *config.Config
	log         *slog.Logger
	memory      *memory
	callers     map[string]string // secrets by name
	seal        *keyfile.Pair
	from        *sources
	keys        *accesstoken.KeyRing
	issuer      *accesstoken.Issuer
	public      http.Handler
	base        *url.URL         // by which clients reach it
	internal    []http.Handler   // forward-auth, introspection and revocation
	desks       http.Handler     // which these are behind
	verbatim    http.Handler     // forward-auth for a proxy that appends the client's path
	certificate *tls.Certificate // nil: plain HTTP
	proxy       *proxy.Proxy     // nil: there are no routes
	limits      *limits
	endpoint    *tokenendpoint.Handler
	checker     guard.Checker // the issuer, which tells the log why it cannot check
	offer       http.Handler  // capabilities

	using   sync.RWMutex    // read-locked by requests that need what close gives up
	current func() *service // answers when this one has retired
}

func (d *Daemon) newService(cfg *config.Config) (*service, error) {
	secrets, unfit := callers(cfg)
	if problems := slices.Concat(cfg.Unsupported(), pathProblems(cfg), unfit); len(problems) > 0 {
		return nil, &config.Error{Problems: problems}
	}
	s := &service{config: cfg, callers: secrets, log: d.options.Log, memory: d.memory, current: d.current.Load}
	var err error
	if s.limits, err = newLimits(cfg.Limits, d.limits()); err != nil {
		return nil, err
	}
	if err := s.open(d); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// limits are those in force; nil before the first service.
func (d *Daemon) limits() *limits {
	if s := d.current.Load(); s != nil {
		return s.limits
	}
	return nil
}

func (s *service) open(d *Daemon) (err error) {
	var problems keyfile.Problems
	if s.seal, problems = keyfile.ReadSeal(sealFiles(s.config), time.Now()); problems.Err() != nil {
		return fmt.Errorf("party: %w", problems.Err())
	}
	if s.from, err = openSources(s.config, s.log, d.parts); err != nil {
		return err
	}
	if s.certificate, err = tlsCertificate(s.config); err != nil {
		return err
	}
	if err := s.openIssuer(); err != nil {
		return err
	}
	if err := s.openDesks(); err != nil {
		return err
	}
	public, err := s.newPublic(d.public.Addr(), d.options.Secured)
	s.public = s.limits.proxies.Attribute(public)
	return err
}

func (s *service) newEndpoint() error {
	verifier, err := s.from.verifier(s.memory.used, s.limits)
	if err != nil {
		return err
	}
	s.endpoint, err = tokenendpoint.New(tokenendpoint.Config{
		Verifier: verifier, Issuer: s.issuer, Scopes: s.scopes(), Screen: s.limits.screen, Log: s.log,
	})
	return err
}

func tlsCertificate(cfg *config.Config) (*tls.Certificate, error) {
	if cfg.Listen.TLS == nil {
		return nil, nil //nolint:nilnil // nil is plain HTTP, and no error
	}
	pair, problems := keyfile.ReadTLS(tlsFiles(cfg), time.Now())
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("listen.tls: %w", err)
	}
	certificate := pair.TLS()
	return &certificate, nil
}

// anchorItems gives anchors as trust reads them.
func anchorItems(anchors []config.Anchor) []string {
	items := make([]string, len(anchors))
	for i, a := range anchors {
		items[i] = cmp.Or(a.Fingerprint, string(a.File))
	}
	return items
}

// Explain judges an assertion as a server with this configuration would at that
// time, and admits nobody: see [assertion.Verifier.Explain].
func Explain(ctx context.Context, cfg *config.Config, log *slog.Logger, compact string, at time.Time) (explanation *Explanation, err error) {
	if problems := cfg.Unsupported(); len(problems) > 0 {
		return nil, &config.Error{Problems: problems}
	}
	from, err := openSources(cfg, log, newParts())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if from.clients.list != nil {
		_ = from.clients.list.Update(ctx) // which logs it; without the list, only our own anchors count
	}
	explainer, err := assertion.NewExplainer(from.judgement(), cfg.Policy.Leeway)
	if err != nil {
		return nil, err
	}
	explanation = &Explanation{Report: explainer.Explain(ctx, compact, at)}
	explanation.gather(ctx, from)
	if from.clients.list != nil && !from.clients.list.InForce() && isGuess(explanation.Rejection) {
		explanation.Outage = withoutList(explanation.Rejection)
		explanation.Rejection = nil
	}
	return explanation, nil
}

// An Explanation is a report with what others said that it is based on.
type Explanation struct {
	*assertion.Report

	TrustedList *registry.TrustedListStats // nil: not asked for
	Revocation  []revocation.Status        // one for each certificate below the anchor, leaf first
}

func (e *Explanation) gather(ctx context.Context, from *sources) {
	if from.clients.list != nil {
		stats := from.clients.list.Stats()
		e.TrustedList = &stats
	}
	if from.revocation != nil && e.Chain != nil {
		e.Revocation = from.revocation.Statuses(ctx, e.Chain)
	}
}

func keysFolder(cfg *config.Config) string {
	return cmp.Or(string(cfg.Tokens.Keys), filepath.Join(string(cfg.Data), "keys"))
}

func sealFiles(cfg *config.Config) keyfile.Files {
	return keyfile.Files{
		Key: string(cfg.Party.Key), Certificates: string(cfg.Party.Certificates), Password: cfg.Party.Password.Reveal(),
		PasswordFrom: "WAYBILL_PARTY_KEY_PASSWORD, or in the file that WAYBILL_PARTY_KEY_PASSWORD_FILE names",
	}
}

func tlsFiles(cfg *config.Config) keyfile.Files {
	return keyfile.Files{Key: string(cfg.Listen.TLS.Key), Certificates: string(cfg.Listen.TLS.Certificate)}
}

func (s *service) openIssuer() (err error) {
	if s.keys, err = accesstoken.OpenKeys(keysFolder(s.config), s.log); err != nil {
		return fmt.Errorf("token keys: %w", err)
	}
	issuerURL := ""
	if s.config.Tokens.Issuer == config.IssuerURL {
		issuerURL = ownURL(s.config, "").String() // listen.url, without which the configuration is refused
	}
	s.issuer, err = accesstoken.New(accesstoken.Config{
		Party: s.config.Party.ID, IssuerURL: issuerURL,
		Format:   s.config.Tokens.Format,
		Lifetime: s.config.Tokens.Lifetime,
		Keys:     s.keys,
		Revoked:  s.memory.revoked,
	})
	s.checker = guard.LogOutages(s.issuer, s.log)
	return err
}

// scopes are the values that may be asked for, iSHARE first.
func (s *service) scopes() []string {
	scopes := []string{ishare.ScopeISHARE}
	for _, name := range slices.Sorted(maps.Keys(s.config.Scopes)) {
		scopes = append(scopes, string(name))
	}
	return scopes
}

// run does what goes on besides answering, until ctx is done.
func (s *service) run(ctx context.Context) error {
	s.from.start(ctx)
	return s.keys.Run(ctx)
}

// needing makes a handler that uses what close gives up. The same handler of the service
// that is current then answers when this one has retired.
func (s *service) needing(next http.Handler, same func(*service) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.using.TryRLock() { // retired since the request was given to it
			same(s.current()).ServeHTTP(w, r)
			return
		}
		defer s.using.RUnlock()
		next.ServeHTTP(w, r)
	})
}

// retire waits for the requests under way that need the service. There must be a
// successor. It is called once, and before close.
func (s *service) retire() { s.using.Lock() }

// close gives up what the service asks of others.
func (s *service) close() error {
	var errs []error
	if s.from != nil {
		errs = append(errs, s.from.close())
	}
	if s.seal != nil {
		errs = append(errs, s.seal.Close())
	}
	if s.endpoint != nil {
		s.endpoint.Close()
	}
	for _, counts := range slices.Concat([]http.Handler{s.offer, s.verbatim}, s.internal) {
		if c, ok := counts.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	if c, ok := s.checker.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	if s.proxy != nil {
		errs = append(errs, s.proxy.Close())
	}
	return errors.Join(errs...)
}
