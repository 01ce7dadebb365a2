package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// defaultLeeway is the configuration's.
const defaultLeeway = 10 * time.Second

func (c *command) explain() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say what a server would say of a client assertion, rule by rule",
		ArgsUsage: "[FILE|-]",
		Description: "Reads one compact JWT from FILE or standard input. The server is the one that --config describes, or\n" +
			"the one that --audience, --trust-anchor and --parties describe. Exits with 1 when the assertion is rejected,\n" +
			"or cannot be judged because something is out of reach.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` of the server"},
			&cli.StringFlag{Name: "audience", Usage: "party identifier `ID` of the server"},
			&cli.StringSliceFlag{Name: "trust-anchor", Usage: "`FILE` of the certificate of a trusted CA, or its SHA-256 fingerprint; may be repeated"},
			&cli.StringFlag{Name: "parties", Usage: "`FILE` of party records"},
			&cli.StringFlag{Name: "at", Usage: "judge as if it were this `TIME` (RFC 3339)"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: c.runExplain,
	}
}

func (c *command) runExplain(ctx context.Context, cmd *cli.Command) error {
	at := time.Now()
	if s := cmd.String("at"); s != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, s); err != nil {
			return usagef("--at: %q is not a time like 2026-11-23T12:00:00Z", s)
		}
	}
	text, err := c.readAssertion(cmd)
	if err != nil {
		return err
	}
	// The end of the last line belongs to the file. What else is not of the assertion is judged, as a server would.
	compact, lineBreak := strings.CutSuffix(text, "\n")
	if lineBreak {
		compact = strings.TrimSuffix(compact, "\r")
	}
	report, err := c.report(ctx, cmd, compact, at)
	if err != nil {
		return err
	}
	v := verdictOf(report)
	if lineBreak {
		v.Note = noteLineBreak
	}
	if cmd.Bool("json") {
		err = c.printJSON(v)
	} else {
		err = writeReport(c.out, report, v)
	}
	if err == nil && !report.Accepted {
		return errNo
	}
	return err
}

// report has the assertion judged by the server of a configuration, or of the flags.
func (c *command) report(ctx context.Context, cmd *cli.Command, compact string, at time.Time) (*provider.Explanation, error) {
	path := cmd.String("config")
	for _, name := range []string{"audience", "trust-anchor", "parties"} {
		switch {
		case path != "" && cmd.IsSet(name):
			return nil, usagef("--config and --%s exclude each other", name)
		case path == "" && !cmd.IsSet(name):
			return nil, usagef("give --config, or all of --audience, --trust-anchor and --parties; --%s is missing", name)
		}
	}
	log := slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelWarn})) // the report says the rest
	if path == "" {
		explainer, err := flagExplainer(cmd, log)
		if err != nil {
			return nil, err
		}
		return &provider.Explanation{Report: explainer.Explain(ctx, compact, at)}, nil
	}
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, err
	}
	return daemon.Explain(ctx, cfg, log, compact, at)
}

func flagExplainer(cmd *cli.Command, log *slog.Logger) (*assertion.Explainer, error) {
	audience, err := ishare.ParsePartyID(cmd.String("audience"))
	if err != nil {
		return nil, usagef("--audience: %w", err)
	}
	anchors, err := trust.LoadAnchors(cmd.StringSlice("trust-anchor"))
	if err != nil {
		return nil, err
	}
	validator, err := trust.New(anchors)
	if err != nil {
		return nil, err
	}
	parties, err := registry.OpenFile(cmd.String("parties"), log)
	if err != nil {
		return nil, err
	}
	return assertion.NewExplainer(assertion.Config{
		Audience: []ishare.PartyID{audience}, Trust: validator, Parties: parties,
		Revocation: revocation.Off{},
	}, defaultLeeway)
}

// noteLineBreak keeps a verdict from promising what a server denies: curl --data-urlencode name@file
// sends the end of the line too.
const noteLineBreak = "the input ends with a line feed: a server refuses an assertion that is sent with it (jwt.compact)"

// readAssertion reads a file or standard input.
func (c *command) readAssertion(cmd *cli.Command) (string, error) {
	if cmd.Args().Len() > 1 {
		return "", usagef("explain takes one file")
	}
	in := c.in
	if name := cmd.Args().First(); name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }() // read only
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, tokenendpoint.MaxBody+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > tokenendpoint.MaxBody:
		return "", errors.New("the input is larger than 64 KiB, more than a server reads")
	}
	if strings.TrimSpace(string(b)) == "" {
		return "", usagef("there is no assertion to explain: the input is empty")
	}
	return string(b), nil
}

// verdict is the JSON form of a report.
type verdict struct {
	Verdict      string            `json:"verdict"` // accepted, rejected or undecided
	Rule         string            `json:"rule,omitempty"`
	Sentence     string            `json:"sentence,omitempty"`
	Hint         string            `json:"hint,omitempty"`
	Note         string            `json:"note,omitempty"` // about the input
	Rules        []ruleOutcome     `json:"rules"`
	Issuer       string            `json:"iss,omitempty"`
	Party        ishare.PartyID    `json:"party,omitempty"`
	Certificates []certificateFact `json:"certificates,omitempty"`
	TrustedList  string            `json:"trustedList,omitempty"`
	Revocation   []string          `json:"revocation,omitempty"`
}

type ruleOutcome struct {
	ID      string            `json:"id"`
	Outcome assertion.Outcome `json:"outcome"`
	Detail  string            `json:"detail,omitempty"`
}

type certificateFact struct {
	Subject    string           `json:"subject"`
	Thumbprint string           `json:"x5t#s256"`
	NotBefore  time.Time        `json:"notBefore"`
	NotAfter   time.Time        `json:"notAfter"`
	PartyIDs   []ishare.PartyID `json:"partyIds,omitempty"`
}

func verdictOf(r *provider.Explanation) verdict {
	v := verdict{Verdict: "rejected", Issuer: r.Unverified.Issuer}
	_, outage := rule.Classify(r.Outage)
	switch {
	case r.Accepted:
		v.Verdict = "accepted"
	case r.Rejection != nil:
		v.Rule, v.Sentence, v.Hint = r.Rejection.Rule.ID, r.Rejection.Sentence, r.Rejection.Hint
	case outage != nil:
		v.Verdict, v.Rule, v.Sentence, v.Hint = "undecided", outage.Rule.ID, outage.Rule.Sentence, cmp.Or(daemon.RevocationHint(outage.Cause), outage.Rule.Hint)
		if outage.Cause != nil {
			v.Sentence += ": " + outage.Cause.Error()
		}
	}
	for _, f := range r.Findings {
		o := ruleOutcome{ID: f.Rule.ID, Outcome: f.Outcome}
		if f.Rejection != nil {
			o.Detail = f.Rejection.Sentence
		}
		v.Rules = append(v.Rules, o)
	}
	if r.Party != nil {
		v.Party = r.Party.ID
	}
	for _, cert := range r.Certificates {
		v.Certificates = append(v.Certificates, certificateFact{
			Subject: subjectOf(cert), Thumbprint: ishare.Thumbprint(cert.Raw),
			NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), PartyIDs: ishare.CertificateIDs(cert),
		})
	}
	if list := r.TrustedList; list != nil {
		v.TrustedList = fmt.Sprintf("%d authorities granted, asked %s", list.Granted, list.Fetched.UTC().Format(time.RFC3339))
		if list.Err != nil {
			v.TrustedList = "not to be had: " + list.Err.Error()
		}
	}
	for _, f := range r.Revocation {
		v.Revocation = append(v.Revocation, statusOf(f))
	}
	return v
}

// statusOf is what was said of one certificate, in a line.
func statusOf(f revocation.Status) string {
	about := fmt.Sprintf("x5c[%d] ", f.Index)
	switch {
	case f.Source == "" && f.Err != nil:
		return about + "no answer: " + f.Err.Error()
	case f.Source == "":
		return about + "no answer"
	case f.Revoked != "":
		return about + f.Source + " " + f.Address + ": revoked " + f.Revoked
	}
	return about + f.Source + " " + f.Address + ": not revoked, says the answer until " + f.NextUpdate.UTC().Format(time.RFC3339)
}

// subjectOf is the subject as people know it: the standard library gives the
// organizationIdentifier as a number and hex.
func subjectOf(cert *x509.Certificate) string {
	subject := cert.Subject
	var extra []string
	for _, attribute := range subject.Names {
		if attribute.Type.String() == "2.5.4.97" {
			extra = append(extra, fmt.Sprintf(",organizationIdentifier=%v", attribute.Value))
		}
	}
	subject.Names = nil // what is left are the attributes that have names
	return subject.String() + strings.Join(extra, "")
}

// writeReport prints the verdict first, then every rule, then what could be
// read of the assertion.
func writeReport(w io.Writer, r *provider.Explanation, v verdict) error {
	var b strings.Builder
	switch {
	case v.Verdict == "accepted" && v.Note != "":
		fmt.Fprintf(&b, "accepted without the end of its line: %s\n\n", v.Note)
	case v.Verdict == "accepted":
		fmt.Fprintf(&b, "accepted: every rule that applies to an assertion alone holds\n\n")
	case v.Verdict == "undecided":
		fmt.Fprintf(&b, "cannot be decided, %s: %s\nhint: %s\n\n", v.Rule, printable(v.Sentence), printable(v.Hint))
	default:
		fmt.Fprintf(&b, "rejected by %s: %s\nhint: %s\n\n", v.Rule, printable(v.Sentence), printable(v.Hint))
		if v.Note != "" {
			fmt.Fprintf(&b, "note: %s\n\n", v.Note)
		}
	}
	for _, f := range r.Findings {
		switch f.Outcome {
		case assertion.Fail:
			fmt.Fprintf(&b, "FAIL   %-29s %s\n", f.Rule.ID, printable(f.Rejection.Sentence))
		case assertion.Pass:
			fmt.Fprintf(&b, "pass   %-29s %s\n", f.Rule.ID, f.Rule.Title)
		case assertion.Skipped:
			fmt.Fprintf(&b, "-      %-29s not reached\n", f.Rule.ID)
		}
	}
	if v.Issuer != "" {
		fmt.Fprintf(&b, "\niss    %s\n", printable(v.Issuer))
	}
	for i, cert := range v.Certificates {
		fmt.Fprintf(&b, "x5c[%d] %s\n       SHA-256 %s\n       valid %s to %s\n", i, printable(cert.Subject), cert.Thumbprint,
			cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly))
		for _, id := range cert.PartyIDs {
			fmt.Fprintf(&b, "       names %s\n", printable(string(id)))
		}
	}
	if v.Party != "" {
		fmt.Fprintf(&b, "party  %s, known to the registry\n", v.Party)
	}
	if v.TrustedList != "" {
		fmt.Fprintf(&b, "list   %s\n", printable(v.TrustedList))
	}
	for _, status := range v.Revocation {
		fmt.Fprintf(&b, "status %s\n", printable(status))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable keeps what a stranger wrote from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
