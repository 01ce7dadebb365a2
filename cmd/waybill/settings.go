package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/profile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// A setting is a flag whose value can come from the environment or from a profile as well.
type setting struct {
	flag     string
	variable string // empty: none
	usage    string
	fallback string   // when nobody says
	values   []string // all that it takes; nil: there are too many
}

// key is the name of the setting in a profile.
func (s setting) key() string { return strings.ReplaceAll(s.flag, "-", "_") }

// sealSettings say who signs for whom.
func sealSettings() []setting {
	return []setting{
		{flag: "audience", variable: "ISHARE_AUDIENCE", usage: "party identifier `ID` of the server"},
		{flag: "client-id", variable: "ISHARE_CLIENT_ID", usage: "your own party identifier `ID`"},
		{flag: "key", variable: "ISHARE_KEY", usage: "private `KEY` of your seal: a file, PEM, PKCS#12 or PKCS#8, encrypted or not, or the pkcs11: URI of a key in hardware"},
		{flag: "key-password-file", usage: "`FILE` that holds the password of the key's file, or the PIN of the hardware; otherwise taken from " +
			passwordVariable + " or from the file that " + passwordVariable + "_FILE names"},
		{flag: "certificates", variable: "ISHARE_CERTIFICATES", usage: "certificate chain `FILE` of your seal, PEM, PKCS#7, PKCS#12 or DER; not needed when the key's file holds it"},
		{flag: "alg", variable: "ISHARE_ALG", usage: "signature `ALGORITHM`: RS256, RS384 or RS512", fallback: string(jws.RS256), values: []string{string(jws.RS256), string(jws.RS384), string(jws.RS512)}},
	}
}

// tokenSettings say where a token comes from, and as whom to ask.
func tokenSettings() []setting {
	return append([]setting{
		{flag: "server", variable: "ISHARE_SERVER", usage: "base `URL` of the server, which says where its token endpoint is; else it is at " + ishare.TokenPath + " below it"},
		{flag: "token-endpoint", variable: "ISHARE_TOKEN_ENDPOINT", usage: "`URL` of the token endpoint; then the server is not asked where it is"},
		{flag: "scope", variable: "ISHARE_SCOPE", usage: "`SCOPE` to ask for: values separated by spaces", fallback: ishare.ScopeISHARE},
		{flag: "ca", variable: "ISHARE_CA", usage: "`FILE` of the CA certificates that the server's TLS certificate must chain to, in place of those of the system"},
	}, sealSettings()...)
}

// flagsOf are the flags of settings.
func flagsOf(settings []setting) []cli.Flag {
	flags := make([]cli.Flag, len(settings))
	for i, s := range settings {
		usage := s.usage
		if s.variable != "" {
			usage += " [$" + s.variable + "]"
		}
		flags[i] = suggesting(&cli.StringFlag{Name: s.flag, Usage: usage, Value: s.fallback}, s.values...)
	}
	return flags
}

// tokenFlags say where a token comes from, sealFlags who signs for whom.
func tokenFlags() []cli.Flag { return append(flagsOf(tokenSettings()), sourceFlags()...) }
func sealFlags() []cli.Flag  { return append(flagsOf(sealSettings()), sourceFlags()...) }

// sourceFlags say where settings come from that no flag gives.
func sourceFlags() []cli.Flag {
	return []cli.Flag{
		&profileFlag{&cli.StringFlag{Name: "profile", Aliases: []string{"p"}, Usage: "take what no flag says from the profile `NAME`, or from this file, and only then from the environment (when none is named, the environment comes first, then ./" +
			profile.Local + " or else the profile " + profile.Default + ")"}},
		&cli.BoolFlag{Name: "verbose", Usage: "say on standard error where everything comes from, and what is asked and answered"},
	}
}

// A layer is one place where settings come from.
type layer struct {
	name   func(setting) string // how the setting is called there
	values map[string]string    // by flag
}

// A given value knows where it comes from.
type given struct{ text, source string }

// settings are what the flags, the environment and the profile say. Flags come first. A profile that somebody has named comes
// before the environment, in which variables stand that may be meant for something else; one that was merely found, behind it.
type settings struct {
	given     map[string]given // by flag
	known     []setting
	profile   *profile.Profile // nil: there is none
	elsewhere string           // the source of an audience that belongs to another server than the one that is given
}

// get is the value of a flag, its fallback when nobody gives it.
func (s *settings) get(flag string) string { return s.given[flag].text }

// settings reads what a command is given. What belongs together comes from one place: an audience is that of the server
// beside which it stands, since whoever else gets an assertion for it could use it there in our name; and certificates are
// those of the key beside which they stand.
func (c *command) settings(cmd *cli.Command, known []setting) (*settings, error) {
	s := &settings{given: make(map[string]given), known: known}
	unread := s.openProfile(cmd.String("profile"))
	named := cmd.IsSet("profile")
	switch {
	case named && strings.TrimSpace(cmd.String("profile")) == "":
		return nil, usagef("--profile: the value is empty")
	case named && unread != nil:
		return nil, unread
	}
	flags, variables, written := c.layers(cmd, s)
	layers := []layer{flags, variables, written}
	if named {
		layers = []layer{flags, written, variables}
	}
	for _, f := range known {
		if text, ok := flags.values[f.flag]; ok && strings.TrimSpace(text) == "" { // as a variable that is not set makes it
			return nil, usagef("--%s: the value is empty", f.flag)
		}
	}
	var server, seal bool
	for _, l := range layers {
		for _, f := range known {
			text, ok := l.values[f.flag]
			_, before := s.given[f.flag]
			switch {
			case !ok || before:
			case server && f.flag == "audience":
				s.elsewhere = l.name(f)
			case server && (f.flag == "server" || f.flag == "token-endpoint"):
			case seal && slices.Contains([]string{"certificates", "key-password-file"}, f.flag):
			default:
				s.given[f.flag] = given{text, l.name(f)}
			}
		}
		_, base := s.given["server"]
		_, endpoint := s.given["token-endpoint"]
		server = base || endpoint
		_, seal = s.given["key"]
	}
	if unread != nil {
		if s.missingForToken() != nil { // which the profile may say
			return nil, unread
		}
		c.say("note: the profile is not used: %v", unread)
	}
	for _, f := range known {
		if _, ok := s.given[f.flag]; !ok && f.fallback != "" {
			s.given[f.flag] = given{f.fallback, "the default"}
		}
	}
	if cmd.Bool("verbose") {
		s.tell(c)
	}
	return s, nil
}

// layers are the three places.
func (c *command) layers(cmd *cli.Command, s *settings) (flags, variables, written layer) {
	flags = layer{func(f setting) string { return "--" + f.flag }, make(map[string]string)}
	variables = layer{func(f setting) string { return "$" + f.variable }, make(map[string]string)}
	written = layer{func(setting) string { return s.profile.Path }, make(map[string]string)}
	for _, f := range s.known {
		if cmd.IsSet(f.flag) {
			flags.values[f.flag] = cmd.String(f.flag)
		}
		if text := c.getenv(f.variable); f.variable != "" && text != "" {
			variables.values[f.flag] = text
		}
		if s.profile != nil && s.profile.Value(f.key()) != "" {
			written.values[f.flag] = s.profile.Value(f.key())
		}
	}
	return flags, variables, written
}

// openProfile reads the profile of a name, or the one that is used when none is named.
func (s *settings) openProfile(name string) error {
	path, err := profile.Implied()
	if name != "" {
		if path, err = profile.Locate(name); err != nil {
			return usagef("--profile: %w", err)
		}
	}
	if err != nil || path == "" {
		return err
	}
	s.profile, err = profile.Load(path)
	return noProfile(name, err)
}

// noProfile adds to the error of a profile that is not there what may be meant.
func noProfile(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hint := fmt.Sprintf("Make it with %s profile add %s, or see %[1]s profile list.", selfCommand(), quote(name))
	if names, unlisted := profile.Names(); unlisted == nil {
		hint = strings.TrimSpace(meant(name, names) + " " + hint)
	}
	return usageError{hintedError{err, hint}}
}

// wrong is the error of a value that cannot be read.
func (s *settings) wrong(flag string, err error) error {
	return usagef("%s: %w", s.given[flag].source, err)
}

// missing is the error when none of the named flags has a value; nil when all have one.
func (s *settings) missing(flags ...string) error {
	var names, variables []string
	for _, f := range s.known {
		if slices.Contains(flags, f.flag) && s.get(f.flag) == "" {
			name := "--" + f.flag
			if f.flag == "server" {
				name += " or --token-endpoint"
			}
			names = append(names, name)
			if f.variable != "" {
				variables = append(variables, f.variable)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	err := fmt.Errorf("not given: %s", strings.Join(names, ", "))
	switch {
	case s.elsewhere != "" && slices.Contains(names, "--audience"):
		err = fmt.Errorf("%w (the audience of %s is that of the server there, and not of the one that is given)", err, s.elsewhere)
	case s.profile != nil:
		err = fmt.Errorf("%w (the profile %s does not say it either)", err, s.profile.Path)
	}
	hint := fmt.Sprintf("Give it as a flag, or in the environment (%s), or in a profile: %s profile add NAME %s …",
		strings.Join(variables, ", "), selfCommand(), strings.Fields(names[0])[0])
	return usageError{hintedError{err, hint}}
}

// missingForToken is the error when something is missing that a token needs, of the settings that are known.
func (s *settings) missingForToken() error {
	need := []string{"audience", "client-id", "key"}
	if s.get("token-endpoint") == "" {
		need = append(need, "server")
	}
	return s.missing(need...)
}

// tell says where everything comes from.
func (s *settings) tell(c *command) {
	if s.profile != nil {
		c.say("profile: %s", s.profile.Path)
	}
	for _, f := range s.known {
		if g, ok := s.given[f.flag]; ok {
			c.say("%s: %s, from %s", f.key(), shownValue(g.text), g.source)
		}
	}
}

// shownValue is a value without what is secret in it.
func shownValue(text string) string {
	switch u, err := url.Parse(text); {
	case keyfile.IsText(text):
		return "(a text)"
	case keyfile.IsURI(text):
		before, _, _ := strings.Cut(text, "?") // where a PIN may stand
		return printable(before)
	case err == nil && u.User != nil:
		return printable(u.Redacted())
	}
	return printable(text)
}
