package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// A service is everything that one configuration stands for. It does not change:
// a reload makes another.
type service struct {
	config      *config.Config
	from        *sources
	keys        *accesstoken.KeyRing
	public      http.Handler
	certificate *tls.Certificate // nil: plain HTTP
}

func newService(cfg *config.Config, store replay.Store, options Options) (*service, error) {
	if problems := cfg.Unsupported(); len(problems) > 0 {
		return nil, &config.Error{Problems: problems}
	}
	s := &service{config: cfg}
	if err := s.open(store, options); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *service) open(store replay.Store, options Options) (err error) {
	if _, problems := keyfile.ReadSeal(sealFiles(s.config), time.Now()); problems.Err() != nil {
		return fmt.Errorf("party: %w", problems.Err())
	}
	if s.from, err = openSources(s.config, options.Log); err != nil {
		return err
	}
	if s.certificate, err = tlsCertificate(s.config); err != nil {
		return err
	}
	issuer, err := s.newIssuer(options.Log)
	if err != nil {
		return err
	}
	endpoint, err := s.newEndpoint(issuer, store, options.Log)
	if err != nil {
		return err
	}
	s.public = s.routes(endpoint, issuer, options.Secured)
	return nil
}

func (s *service) newEndpoint(issuer *accesstoken.Issuer, store replay.Store, log *slog.Logger) (*tokenendpoint.Handler, error) {
	judgement := s.from.judgement()
	judgement.Replay = store
	verifier, err := assertion.NewVerifier(judgement)
	if err != nil {
		return nil, err
	}
	config := tokenendpoint.Config{Verifier: verifier, Issuer: issuer, Scopes: s.scopes(), Log: log}
	if s.from.list != nil {
		config.Verifier = listedVerifier{verifier, s.from.list}
	}
	return tokenendpoint.New(config)
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
	from, err := openSources(cfg, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if from.list != nil {
		_ = from.list.Update(ctx) // which logs it; without the list, only our own anchors count
	}
	explainer, err := assertion.NewExplainer(from.judgement())
	if err != nil {
		return nil, err
	}
	explanation = &Explanation{Report: explainer.Explain(ctx, compact, at)}
	explanation.gather(ctx, from)
	return explanation, nil
}

// An Explanation is a report with what others said that it is based on.
type Explanation struct {
	*assertion.Report

	TrustedList *registry.TrustedListStats // nil: not asked for
	Revocation  []trust.RevocationFinding  // one for each certificate below the anchor, leaf first
}

func (e *Explanation) gather(ctx context.Context, from *sources) {
	if from.list != nil {
		stats := from.list.Stats()
		e.TrustedList = &stats
	}
	if from.revocation != nil && e.Chain != nil {
		e.Revocation = from.revocation.Findings(ctx, e.Chain)
	}
}

func keysFolder(cfg *config.Config) string {
	return cmp.Or(string(cfg.Tokens.Keys), filepath.Join(string(cfg.Data), "keys"))
}

func sealFiles(cfg *config.Config) keyfile.Files {
	return keyfile.Files{
		Key: string(cfg.Party.Key), Certificates: string(cfg.Party.Certificates), Password: cfg.Party.Password.Reveal(),
	}
}

func tlsFiles(cfg *config.Config) keyfile.Files {
	return keyfile.Files{Key: string(cfg.Listen.TLS.Key), Certificates: string(cfg.Listen.TLS.Certificate)}
}

func (s *service) newIssuer(log *slog.Logger) (*accesstoken.Issuer, error) {
	keys, err := accesstoken.OpenKeys(keysFolder(s.config), log)
	if err != nil {
		return nil, fmt.Errorf("token keys: %w", err)
	}
	s.keys = keys
	return accesstoken.New(accesstoken.Config{
		Party:    s.config.Party.ID,
		Format:   accesstoken.Format(s.config.Tokens.Format.String()),
		Lifetime: s.config.Tokens.Lifetime,
		Keys:     keys,
	})
}

// scopes are the values that may be asked for, iSHARE first.
func (s *service) scopes() []string {
	scopes := []string{ishare.ScopeISHARE}
	for _, name := range slices.Sorted(maps.Keys(s.config.Scopes)) {
		scopes = append(scopes, string(name))
	}
	return scopes
}

func (s *service) routes(endpoint http.Handler, checker guard.Checker, secured map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(tokenendpoint.Path, endpoint)
	mux.HandleFunc("GET "+metadataPath, s.metadata)
	mux.HandleFunc("GET "+keySetPath, func(w http.ResponseWriter, _ *http.Request) { writeRaw(w, s.keys.PublicJWKS()) })
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) { writeRaw(w, openAPI) })
	protect := guard.Require(checker, ishare.ScopeISHARE)
	for pattern, handler := range secured {
		mux.Handle(pattern, protect(handler))
	}
	return mux
}

// run does what goes on besides answering, until ctx is done.
func (s *service) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.from.run(ctx) })
	group.Go(func() error { return s.keys.Run(ctx) })
	return group.Wait()
}

// close gives up what the service asks of others.
func (s *service) close() error {
	if s.from == nil {
		return nil
	}
	return s.from.close()
}
