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
// about clients: a party that is not in good standing there gets no answers. Nothing of Config.Data is read or written, and the
// key stays open. The error tells why they cannot be asked; [New] gives it too.
func Preflight(ctx context.Context, c Config) (problems FieldErrors, err error) {
	s, err := openOutside(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f := &preflight{sources: s}
	if s.remote != nil {
		f.askRegistry(ctx)
	}
	f.askAboutSeal(ctx)
	return f.problems, nil
}

type preflight struct {
	*sources

	problems FieldErrors
}

func (f *preflight) add(field string, err error, hint string) {
	if err != nil {
		f.problems = append(f.problems, &FieldError{Field: f.config.Name(field), Err: err, Hint: hint})
	}
}

// askRegistry makes one problem of one cause.
func (f *preflight) askRegistry(ctx context.Context) {
	party, err := f.remote.Party(ctx, f.config.Party)
	offset := f.remote.Stats().ClockOffset
	late := offset.Abs() > max(f.config.Leeway, time.Second)
	switch refusal := registry.Refusal(err); {
	case refusal != nil:
		if !late || !strings.HasPrefix(refusal.RuleID, "claim.") {
			f.add(fieldOf(refusal), fmt.Errorf("the registry refuses us: %w", refusal),
				cmp.Or(refusal.Hint, "Ask your registrar about your status, and whether this certificate is registered."))
		}
	case rule.IsUnknownParty(err):
		f.add("Party", err, "Ask your registrar to add your party, or correct the identifier.")
	case err != nil:
		f.add("Registry", err, fmt.Sprintf("Check the address and the identifier of the registry, the network, and that %s holds the CA of its seal.", f.config.Name("Anchors")))
	default:
		if err := party.Compliant(time.Now()); err != nil {
			f.add("Party", fmt.Errorf("the registry says of us: %w", err), "Ask your registrar about your status.")
		}
		if !party.Certified(ishare.Thumbprint(f.config.Certificates[0].Raw), time.Now()) {
			f.add("Certificates", errors.New("the registry does not have this certificate for us"), "Register the certificate with your registrar.")
		}
	}
	if f.clients.list != nil && (err == nil || rule.IsUnknownParty(err)) {
		f.add("Registry.TrustedList", f.clients.list.Update(ctx), "Ask the registry's operator.")
	}
	if late {
		f.add("Registry", fmt.Errorf("the registry's clock differs from this machine's by %s", offset), "Set the clock, and keep it right with NTP.")
	}
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

// askAboutSeal asks whether our own seal is revoked, with which nobody would take a token request or
// capabilities of ours.
func (f *preflight) askAboutSeal(ctx context.Context) {
	if len(f.config.Certificates) == 0 || f.revocation == nil {
		return
	}
	chain, err := f.clients.Validate(f.config.Certificates, time.Now(), nil)
	if err != nil {
		return // of others, who do not have to trust the CA of our seal
	}
	switch rejection, outage := rule.Classify(f.revocation.Check(ctx, chain)); {
	case rejection != nil:
		f.add("Certificates", fmt.Errorf("our own seal: %s", rejection.Sentence), rejection.Hint)
	case outage != nil:
		p := &FieldError{Field: f.config.Name("Revocation"), Err: fmt.Errorf("whether our own seal is revoked cannot be found out: %w", outage.Cause), Warning: true}
		if f.config.Revocation.Hint != nil {
			p.Hint = f.config.Revocation.Hint(outage.Cause)
		}
		f.problems = append(f.problems, p)
	}
}
