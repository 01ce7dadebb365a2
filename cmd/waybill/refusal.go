package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// explained adds to the error of a token request what can be found out here.
func (t *tokenClient) explained(ctx context.Context, err error) error {
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		return hintedError{err, "Check the address. If the server's certificate is of a CA that this machine does not know, name the file of that CA's certificate with --ca."}
	}
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Code != "invalid_client" || refused.RuleID != "" {
		return err
	}
	lines := append([]string{"The server does not name a rule."}, t.judged(ctx, refused)...)
	if refused.Hint != "" {
		lines = append(lines, refused.Hint)
	}
	return hintedError{err, printableLines(lines)}
}

// printableLines cleans each line.
func printableLines(lines []string) string {
	cleaned := make([]string, len(lines))
	for i, line := range lines {
		cleaned[i] = printable(line)
	}
	return strings.Join(cleaned, "\n")
}

// judged is what can be said here of an assertion like the one that was refused.
func (t *tokenClient) judged(ctx context.Context, refused *client.Error) []string {
	failed, held, err := t.judge(ctx, time.Now().Add(refused.ClockOffset))
	if err != nil {
		return []string{"Your assertion cannot be judged here: " + err.Error()}
	}
	var lines []string
	for _, r := range failed {
		lines = append(lines, fmt.Sprintf("Judged here, your assertion breaks %s: %s. %s", r.Rule.ID, strings.TrimSuffix(r.Sentence, "."), r.Hint))
	}
	if len(failed) == 0 {
		lines = append(lines, fmt.Sprintf("Judged here, your assertion keeps all %d rules that it can be held to without the server. What remains possible:", held))
	} else {
		lines = append(lines, "Besides, it is possible:")
	}
	return append(lines, t.possible(refused)...)
}

// judge holds an assertion to the rules that need nobody else. It returns how many rules hold.
func (t *tokenClient) judge(ctx context.Context, at time.Time) (failed []*rule.Rejection, held int, err error) {
	compact, err := t.maker.Make(t.audience)
	if err != nil {
		return nil, 0, err
	}
	explainer, err := assertion.NewExplainer(assertion.Config{Audience: []ishare.PartyID{t.audience}}, defaultLeeway)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range explainer.Explain(ctx, compact, at).Findings {
		switch f.Outcome {
		case assertion.Fail:
			failed = append(failed, f.Rejection)
		case assertion.Pass:
			held++
		case assertion.Skipped, assertion.Unknown:
		}
	}
	return failed, held, nil
}

// possible lists the reasons that only the server, or its registry, knows.
func (t *tokenClient) possible(refused *client.Error) []string {
	chain := t.maker.Certificates
	leaf, top := chain[0], chain[len(chain)-1]
	certificate := fmt.Sprintf("- %s: your certificate with the SHA-256 %s is not the one that is registered for you", rule.PartyCertificate.ID, ishare.Thumbprint(leaf.Raw))
	if ids := ishare.CertificateIDs(leaf); len(ids) > 0 && !slices.Contains(ids, t.maker.ClientID) {
		certificate += fmt.Sprintf("; it names %s", ids[0])
	}
	audience := fmt.Sprintf("- %s: %s is not the party identifier of this server", rule.ClaimAud.ID, t.audience)
	if t.command.undiscovered != nil {
		audience += fmt.Sprintf(" (%s)", t.command.undiscovered)
	}
	lines := []string{
		fmt.Sprintf("- %s, %s: the server's registry does not know %s, or not as active", rule.PartyUnknown.ID, rule.PartyNotActive.ID, t.maker.ClientID),
		certificate,
		fmt.Sprintf("- %s: the server does not trust %q (SHA-256 %s), in which your chain of %d certificates ends", rule.ChainUntrusted.ID,
			subjectName(top), trust.FingerprintOf(top), len(chain)),
		fmt.Sprintf("- %s: a certificate of the chain is revoked", rule.CertificateRevoked.ID),
		audience,
	}
	if t.maker.Algorithm != jws.RS256 {
		lines = append(lines, fmt.Sprintf("- %s: servers of iSHARE 2.x accept RS256 only, and this is %s", rule.JWTAlg.ID, t.maker.Algorithm))
	}
	if !refused.ClockKnown {
		lines = append(lines, fmt.Sprintf("- %s, %s: its clock is another than that of this machine; the answer has no Date by which to tell", rule.ClaimIat.ID, rule.ClaimExp.ID))
	}
	return lines
}
