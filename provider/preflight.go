package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/rule"
)

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
			add(fieldOf(refusal), fmt.Errorf("the registry refuses us: %w", refusal),
				cmp.Or(refusal.Hint, "Ask your registrar about your status, and whether this certificate is registered."))
		}
	case rule.IsUnknownParty(err):
		add("Party", err, "Ask your registrar to add your party, or correct the identifier.")
	case err != nil:
		add("Registry", err, "Check the address and the identifier of the registry, the network, and that "+
			s.config.Name("Anchors")+" holds the CA of its seal.")
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

// fieldOf is what a refusal of our own token request is about.
func fieldOf(refusal *client.Error) string {
	group, _, _ := strings.Cut(refusal.RuleID, ".")
	switch {
	case refusal.RuleID == rule.PartyCertificate.ID, group == "certificate", group == "chain":
		return "Certificates"
	case group == "party":
		return "Party"
	}
	return "Registry"
}

// sealProblems asks whether our own seal is revoked, with which nobody would take a token request or
// capabilities of ours.
func (s *sources) sealProblems(ctx context.Context) FieldErrors {
	if len(s.config.Certificates) == 0 || s.revocation == nil {
		return nil
	}
	chain, err := s.clients.Validate(s.config.Certificates, time.Now(), nil)
	if err != nil {
		return nil // of others, who do not have to trust the CA of our seal
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
