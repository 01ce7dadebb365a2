package provider

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	store "github.com/waybill-token/waybill/state"
)

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

// listRetry is about how long it takes until the registry is asked for the list again.
const listRetry = 5 * time.Second

// Explain judges an assertion as a provider with this configuration would at that
// time, and admits nobody: see [assertion.Explainer.ExplainRequest]. Nothing of Config.Data is read or written.
func Explain(ctx context.Context, c Config, request assertion.Request, at time.Time) (explanation *Explanation, err error) {
	s, err := openOutside(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.clients.list != nil {
		_ = s.clients.list.Update(ctx) // which logs it; without the list, only our own anchors count
	}
	return s.explain(ctx, request, at)
}

// Explain judges an assertion as the token endpoint would at that time, by what the provider knows and asks for it now, and
// admits nobody: see [assertion.Explainer.ExplainRequest]. Run must be running.
func (p *Provider) Explain(ctx context.Context, request assertion.Request, at time.Time) (*Explanation, error) {
	s := p.current.Load()
	for !s.inFlight.TryRLock() { // retired since it was the current one
		s = p.current.Load()
	}
	defer s.inFlight.RUnlock()
	return s.sources.explain(ctx, request, at)
}

func (s *sources) explain(ctx context.Context, request assertion.Request, at time.Time) (*Explanation, error) {
	explainer, err := assertion.NewExplainer(s.verifierConfig(), s.config.Leeway)
	if err != nil {
		return nil, err
	}
	explanation := &Explanation{Report: explainer.ExplainRequest(ctx, request, at)}
	if s.clients.list != nil {
		stats := s.clients.list.Stats()
		explanation.TrustedList = &stats
	}
	if s.revocation != nil && explanation.Chain != nil {
		explanation.Revocation = s.revocation.Statuses(ctx, explanation.Chain)
	}
	if s.clients.list != nil && !s.clients.list.InForce() && isGuess(explanation.Rejection) {
		explanation.Outage = withoutList(explanation.Rejection)
		explanation.Rejection = nil
		for i, f := range explanation.Findings {
			if isGuess(f.Rejection) {
				explanation.Findings[i] = assertion.Finding{Rule: f.Rule, Outcome: assertion.Skipped}
			}
		}
	}
	return explanation, nil
}

// ExplainToken judges an access token at a time as a provider with this configuration would at a secured endpoint, and lets
// nobody in. Config.Data is only read, also while a provider has it. What was revoked is known where it lies there: with
// a shared [Config].State it is an error.
func ExplainToken(ctx context.Context, c Config, token string, at time.Time) (*accesstoken.Explanation, error) {
	c = c.withDefaults()
	keys, err := accesstoken.ReadKeys(c.folder().Keys())
	if err != nil {
		return nil, err
	}
	issuer := accesstoken.Config{Party: c.Party, Lifetime: accesstoken.MaxLifetime, Keys: keys}
	var unknown error
	if c.State.URL != (store.URL{}) {
		unknown = errElsewhere
	} else if issuer.Revoked, err = accesstoken.ReadTokenRevocations(c.folder().Revocations()); err != nil {
		issuer.Revoked, unknown = nil, err
	}
	i, err := accesstoken.New(issuer)
	if err != nil {
		return nil, err
	}
	e := i.Explain(ctx, token, at)
	if e.Claims != nil {
		e.Revoked = cmp.Or(e.Revoked, unknown)
	}
	return &e, nil
}

var errElsewhere = errors.New("revocations are in the shared state; POST /introspect of a running server tells")

// openOutside opens the sources apart from a provider that may be running: nothing is shared with it or kept.
func openOutside(c Config) (*sources, error) {
	c = c.withDefaults()
	if problems := c.missing(); len(problems) > 0 {
		return nil, problems
	}
	return openSources(c, newParts())
}

// An Explanation is a report with what others said that it is based on.
type Explanation struct {
	*assertion.Report

	TrustedList *registry.TrustedListStats // nil: not asked for
	Revocation  []revocation.Status        // one for each certificate below the anchor, leaf first
}

// Preflight asks the registry and the status services about ourselves, as a provider with this configuration will ask
// about clients: a party that is not in good standing there gets no answers. Nothing of Config.Data is read or
// written, and the key stays open. The error says why they cannot be asked; [New] would return it too.
func Preflight(ctx context.Context, c Config) (problems FieldErrors, err error) {
	s, err := openOutside(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.remote != nil {
		problems = s.registryProblems(ctx)
	}
	return append(problems, s.sealProblems(ctx)...), nil
}

// registryProblems asks the registry about ourselves, and makes one problem of one cause.
func (s *sources) registryProblems(ctx context.Context) (problems FieldErrors) {
	add := func(field string, err error, hint string) {
		if err != nil {
			problems = append(problems, &FieldError{Field: s.config.Name(field), Err: err, Hint: hint})
		}
	}
	party, err := s.remote.Party(ctx, s.config.Party)
	offset := s.remote.Stats().ClockOffset
	late := offset.Abs() > max(s.config.Leeway, time.Second)
	switch refusal := registry.Refusal(err); {
	case refusal != nil:
		if !late || !strings.HasPrefix(refusal.RuleID, "claim.") {
			field, hint := s.refusalHint(refusal)
			add(field, fmt.Errorf("the registry refuses us: %w", refusal), hint)
		}
	case rule.IsUnknownParty(err):
		add("Party", err, beAdded)
	case err != nil:
		add("Registry", err, s.registryHint(err))
	default:
		if err := party.Compliant(time.Now()); err != nil {
			add("Party", fmt.Errorf("the registry says of us: %w", err), "Ask your registrar about your status.")
		}
		if !party.Certified(ishare.Thumbprint(s.config.Certificates[0].Raw), time.Now()) {
			add("Certificates", errors.New("the registry does not have this certificate for us"),
				"Register the certificate with your registrar.")
		}
	}
	if s.clients.list != nil && (err == nil || rule.IsUnknownParty(err)) {
		add("Registry.TrustedList", s.clients.list.Update(ctx), "Ask the registry's operator.")
	}
	if late {
		add("Registry", fmt.Errorf("the registry's clock differs from this machine's by %s", offset),
			"Set the clock, and keep it right with NTP.")
	}
	return problems
}

// registryHint is what can be done about a registry that does not answer as it should.
func (s *sources) registryHint(err error) string {
	if _, outage := rule.Classify(err); outage != nil {
		err = outage.Cause
	}
	url, anchors := s.config.Name("Registry.URL"), s.config.Name("Anchors")
	var name *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var status registry.StatusError
	switch {
	case errors.As(err, &status):
		hint := ""
		if s.config.Revocation.Hint != nil {
			hint = s.config.Revocation.Hint(status.Why)
		}
		return cmp.Or(hint, "The registry has answered, and nobody says whether its seal is revoked: have the network let us through to the addresses that are named, or name a proxy in "+
			s.config.Name("Revocation.Proxy")+".")
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Nobody listens there: correct host and port in " + url + ", or have the network let us through."
	case errors.As(err, &name):
		return "Correct the host in " + url + ", or this machine's DNS."
	case errors.As(err, &authority):
		return "Correct " + url + "; if the registry's certificate for TLS is from a CA of your own, add that to the system's CAs (SSL_CERT_FILE)."
	case errors.As(err, &host):
		return "Correct the host in " + url + ": another server answers there."
	case errors.Is(err, registry.ErrUntrusted):
		return "Add the root of the registry's seal to " + anchors + ", after comparing it with what its CA publishes; or correct " + url + "."
	}
	return "Check the address and the identifier of the registry, the network, and that " + anchors + " holds the CA of its seal."
}

const beAdded = "Ask your registrar to add your party, or correct the identifier."

// refusalHint is what a refusal of our own token request is about, and what can be done about it: the hints of rules are for
// whoever makes an assertion, which is us here.
func (s *sources) refusalHint(refusal *client.Error) (field, hint string) {
	hint = cmp.Or(refusal.Hint, "Ask your registrar about your status, and whether this certificate is registered.")
	switch group, _, _ := strings.Cut(refusal.RuleID, "."); {
	case refusal.RuleID == rule.PartyUnknown.ID:
		return "Party", beAdded
	case refusal.RuleID == rule.ClaimAud.ID:
		return "Registry.ID", "Another party answers there: correct " + s.config.Name("Registry.ID") + ", or " + s.config.Name("Registry.URL") + "."
	case refusal.RuleID == rule.PartyCertificate.ID, group == "certificate", group == "chain":
		return "Certificates", hint
	case group == "party":
		return "Party", hint
	case refusal.Code == "" && refusal.Status == http.StatusNotFound:
		return "Registry.URL", "No token endpoint is there: correct " + s.config.Name("Registry.URL") + ", which is what stands before /connect/token."
	}
	return "Registry", hint
}

// sealProblems asks whether our own seal is revoked, with which nobody would take a token request or
// capabilities of ours.
func (s *sources) sealProblems(ctx context.Context) FieldErrors {
	if len(s.config.Certificates) == 0 || s.revocation == nil {
		return nil
	}
	chain, err := s.clients.Validate(s.config.Certificates, time.Now(), nil)
	if err != nil {
		return nil //nolint:nilerr // we do not have to trust the CA of our own seal: others do
	}
	switch rejection, outage := rule.Classify(s.revocation.Check(ctx, chain)); {
	case rejection != nil:
		return FieldErrors{{
			Field: s.config.Name("Certificates"), Err: fmt.Errorf("our own seal: %s", rejection.Sentence), Hint: rejection.Hint,
		}}
	case outage != nil:
		p := &FieldError{
			Field: s.config.Name("Revocation"), Warning: true,
			Err: fmt.Errorf("whether our own seal is revoked cannot be found out: %w", outage.Cause),
		}
		if s.config.Revocation.Hint != nil {
			p.Hint = s.config.Revocation.Hint(outage.Cause)
		}
		return FieldErrors{p}
	}
	return nil
}
