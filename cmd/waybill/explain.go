package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

// defaultLeeway is the configuration's.
const defaultLeeway = 10 * time.Second

func (c *command) explain() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say what a server would say of a client assertion, rule by rule",
		ArgsUsage: "[FILE|-|TEXT]",
		Description: "Takes what you have: the JWT in a file, as an argument or on standard input, also in quotes, in a form, in a curl\n" +
			"line, in JSON. Nothing else is needed. The server is the one that --config describes, or the one that --audience,\n" +
			"--trust-anchor and --parties describe as far as they are given; what takes the rest is not known then.\n" +
			"It is judged as of the moment it was made, unless --at or --now says otherwise.\n" +
			"Exits with 1 when a rule fails, or nothing can be said because something is out of reach.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` of the server"},
			&cli.StringFlag{Name: "audience", Usage: "party identifier `ID` of the server"},
			&cli.StringSliceFlag{Name: "trust-anchor", Usage: "`FILE` of the certificate of a trusted CA, or its SHA-256 fingerprint; may be repeated"},
			&cli.StringFlag{Name: "parties", Usage: "`FILE` of party records"},
			&cli.StringFlag{Name: "at", Usage: "judge as of this `TIME` (RFC 3339)"},
			&cli.BoolFlag{Name: "now", Usage: "judge as of this moment"},
			&cli.BoolFlag{Name: "token", Usage: "the input is an access token, which the server of --config gave"},
			&cli.StringFlag{Name: "scope", Usage: "with --token: `SCOPE` that the endpoint asks for, such as 'iSHARE orders'"},
			&cli.StringFlag{Name: "correlation", Usage: "the input is the log of a server, of which the event with this `ID` is shown: X-Request-Id of its answer"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "html", Usage: "write one page to `FILE`, which needs nothing else, in place of text"},
		},
		Action: c.runExplain,
	}
}

func (c *command) runExplain(ctx context.Context, cmd *cli.Command) error {
	at, err := explainedTime(cmd)
	if err != nil {
		return err
	}
	switch id := cmd.String("correlation"); {
	case id != "" && cmd.Bool("token"):
		return usagef("--token and --correlation exclude each other")
	case id != "":
		return c.explainEvent(cmd, id)
	case cmd.Bool("token"):
		return c.explainToken(ctx, cmd, cmp.Or(at, time.Now()))
	case cmd.IsSet("scope"):
		return usagef("--scope goes with --token")
	}
	options, err := c.explainOptions(cmd)
	if err != nil {
		return err
	}
	options.At = at
	text, err := c.explainedText(cmd)
	if err != nil {
		return err
	}
	in, err := explain.Read(text)
	if other, ok := errors.AsType[*explain.OtherError](err); ok {
		return hintedError{errors.New(explain.Printable(other.What)), other.Do}
	} else if err != nil {
		return usageError{err}
	}
	view, err := explain.Explain(ctx, in, options)
	if err != nil {
		return err
	}
	return c.show(cmd, view)
}

// explainEvent shows what the log of a server tells of one request.
func (c *command) explainEvent(cmd *cli.Command, id string) error {
	log := c.in
	if name := cmd.Args().First(); name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // read only
		log = f
	}
	view, err := explain.FromLog(log, id)
	if errors.Is(err, explain.ErrNotInLog) {
		return hintedError{err, "The log has the first few refusals of each kind in ten seconds, and counts the others: try once more. journalctl -u waybill prints it where systemd runs the server."}
	} else if err != nil {
		return err
	}
	return c.show(cmd, view)
}

// explainToken judges an access token by the keys and revocations of a server.
func (c *command) explainToken(ctx context.Context, cmd *cli.Command, at time.Time) error {
	path := cmd.String("config")
	if path == "" {
		return usagef("--token needs --config: only the server that gave the token can read it")
	}
	scopes, err := explain.Scopes(cmd.String("scope"))
	if err != nil {
		return usagef("--scope: %w", err)
	}
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	text, err := c.explainedText(cmd)
	if err != nil {
		return err
	}
	token, err := explain.ReadToken(text)
	if err != nil {
		return usageError{err}
	}
	explanation, err := daemon.ExplainToken(ctx, cfg, token, at)
	if err != nil {
		return err
	}
	view := explain.Token(explanation, scopes, at)
	if explanation.Claims != nil {
		for _, route := range cfg.Routes {
			has := "which the token has"
			for _, value := range route.Scope {
				if !explanation.Claims.Scope.Has(value) {
					has = "which the token lacks"
				}
			}
			view.Notes = append(view.Notes, fmt.Sprintf("the route %s asks for the scope %s, %s", route.Path, route.Scope, has))
		}
	}
	return c.show(cmd, view)
}

// show writes the view as the flags want it, and ends with the exit status that goes with it.
func (c *command) show(cmd *cli.Command, view *explain.View) error {
	if err := c.print(cmd, view); err != nil {
		return err
	}
	if view.Verdict == explain.Rejected || view.Verdict == explain.Undecided {
		return errNo
	}
	return nil
}

func (c *command) print(cmd *cli.Command, view *explain.View) error {
	switch path := cmd.String("html"); {
	case cmd.Bool("json"):
		return c.printJSON(view)
	case path != "":
		var page strings.Builder
		if err := view.WriteHTML(&page); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(page.String()), 0o600)
	}
	return view.WriteText(c.out, c.coloured())
}

// coloured reports whether the output is a terminal that shows colours (https://no-color.org).
func (c *command) coloured() bool {
	return isTerminal(c.out) && c.getenv("NO_COLOR") == "" && c.getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// explainedTime is the time that the flags name; zero: none.
func explainedTime(cmd *cli.Command) (time.Time, error) {
	text := cmd.String("at")
	switch {
	case text != "" && cmd.Bool("now"):
		return time.Time{}, usagef("--at and --now exclude each other")
	case cmd.Bool("now"):
		return time.Now(), nil
	case !cmd.IsSet("at"):
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--at: %q is not a time like 2026-11-23T12:00:00Z", text)
	}
	return at, nil
}

// toGive says what gives a rule what it needs.
func toGive() map[string]string {
	return map[string]string{
		assertion.NeedsAudience: "--audience or --config", assertion.NeedsTrust: "--trust-anchor or --config", assertion.NeedsParties: "--parties or --config",
		assertion.NeedsRevocation: "--config", assertion.NeedsScopes: "--config",
	}
}

// explainOptions are the server of a configuration, or the one of the flags.
func (c *command) explainOptions(cmd *cli.Command) (explain.Options, error) {
	log := slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelWarn})) // the report says the rest
	options := explain.Options{Give: toGive(), Hint: daemon.RevocationHint}
	path := cmd.String("config")
	if path == "" {
		explainer, err := flagExplainer(cmd, log)
		options.Judge = func(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error) {
			return &provider.Explanation{Report: explainer.ExplainRequest(ctx, request, at)}, nil
		}
		return options, err
	}
	for _, name := range []string{"audience", "trust-anchor", "parties"} {
		if cmd.IsSet(name) {
			return explain.Options{}, usagef("--config and --%s exclude each other", name)
		}
	}
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return explain.Options{}, err
	}
	options.Scopes = append([]string{ishare.ScopeISHARE}, scopesOf(cfg)...)
	options.Judge = func(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error) {
		return daemon.Explain(ctx, cfg, log, request, at)
	}
	return options, nil
}

// scopesOf are the values that the server of a configuration knows besides iSHARE.
func scopesOf(cfg *config.Config) (names []string) {
	for name := range cfg.Scopes {
		names = append(names, string(name))
	}
	return names
}

// flagExplainer knows what the flags give, and no more.
func flagExplainer(cmd *cli.Command, log *slog.Logger) (*assertion.Explainer, error) {
	var c assertion.Config
	if text := cmd.String("audience"); text != "" {
		audience, err := ishare.ParsePartyID(text)
		if err != nil {
			return nil, usagef("--audience: %w", err)
		}
		c.Audience = []ishare.PartyID{audience}
	}
	if names := cmd.StringSlice("trust-anchor"); len(names) > 0 {
		anchors, err := trust.LoadAnchors(names)
		if err != nil {
			return nil, err
		}
		if c.Trust, err = trust.New(anchors); err != nil {
			return nil, err
		}
	}
	if path := cmd.String("parties"); path != "" {
		parties, err := registry.OpenFile(path, log)
		if err != nil {
			return nil, err
		}
		c.Parties = parties
	}
	if len(c.Audience) > 0 && c.Trust != nil && c.Parties != nil { // a server that asks nobody
		c.Revocation = revocation.Off{}
	}
	return assertion.NewExplainer(c, defaultLeeway)
}

// maxTyped is the length of the longest line that a terminal of Linux passes on; those of others take less.
const maxTyped = 4095

// explainedText is the argument where it is no file, or the content of a file or of standard input.
func (c *command) explainedText(cmd *cli.Command) (string, error) {
	if cmd.Args().Len() > 1 {
		return "", usagef("explain takes one file, or one text: put a command line between quotes")
	}
	in := c.in
	if name := cmd.Args().First(); name != "" && name != "-" {
		f, err := os.Open(name)
		switch {
		case err != nil && isText(name):
			return name, nil
		case err != nil:
			return "", err
		}
		defer func() { _ = f.Close() }() // read only
		in = f
	}
	file, ok := in.(*os.File)
	typed := ok && term.IsTerminal(int(file.Fd()))
	if typed {
		fmt.Fprintln(c.err, "Paste what you have, and end with Ctrl-D on a line of its own.")
	}
	b, err := io.ReadAll(io.LimitReader(in, explain.MaxInput+1))
	switch {
	case err != nil:
		return "", err
	case typed && slices.ContainsFunc(strings.Split(string(b), "\n"), func(line string) bool { return len(line) >= maxTyped }):
		return "", hintedError{fmt.Errorf("the terminal has cut a line after %d characters", maxTyped), "Give a file, or the clipboard: pbpaste | waybill explain, or wl-paste, xclip -o or Get-Clipboard in place of pbpaste."}
	case len(b) > explain.MaxInput:
		return "", fmt.Errorf("the input is larger than %d KiB", explain.MaxInput>>10)
	}
	return string(b), nil
}

// isText reports whether an argument that is no file looks like what is to be explained, and not like the name of a file.
func isText(s string) bool {
	return len(s) > 255 || strings.Contains(s, "eyJ") || strings.ContainsAny(s, " \n{=")
}

// printable is [explain.Printable].
func printable(s string) string { return explain.Printable(s) }
