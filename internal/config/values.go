package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/state"
)

// A Path is the path of a file or folder. One that is relative in the configuration has been joined
// with the folder of its file. It may be a key or certificates as text instead; see [keyfile.IsText].
type Path string

// String hides a text, which may be a private key.
func (p Path) String() string {
	if keyfile.IsText(string(p)) {
		return "[hidden]"
	}
	return string(p)
}

func (p Path) from(base string) Path {
	if p == "" || p == AuditStdout || filepath.IsAbs(string(p)) || keyfile.IsURI(string(p)) || keyfile.IsText(string(p)) {
		return p
	}
	return Path(filepath.Join(base, string(p)))
}

// A Secret is hidden from whatever prints or logs it.
type Secret struct{ text, file string }

// Reveal gives the secret.
func (s Secret) Reveal() string { return s.text }

// File is the file that held the secret; empty when a variable did.
func (s Secret) File() string { return s.file }

// String hides the secret.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return "[hidden]"
}

// GoString hides the secret.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// An Address is where to listen: host:port, with an IP address or a name of this
// machine as the host, or none for all its addresses. Port 0 takes a free one.
type Address string

// UnmarshalText reads an address.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return errors.New("want host:port, such as 127.0.0.1:8080, or :8080 for every address of the machine")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("want a port from 0 to 65535, got %q", port)
	}
	if strings.ContainsAny(host, "/ @?#") {
		return fmt.Errorf("want an IP address or a host name before the port, got %q", host)
	}
	*a = Address(text)
	return nil
}

// An Endpoint is the base URL of a server that we call: https, or plain http to a
// loopback address, which does not leave the machine. It ends without a slash, so that
// a path can be put behind it.
type Endpoint struct{ url.URL }

// UnmarshalText reads an endpoint.
func (e *Endpoint) UnmarshalText(text []byte) error {
	u, err := parseURL(string(text))
	switch {
	case err != nil:
		return err
	case u.Scheme == "http" && !loopback.Is(u.Hostname()):
		return errors.New("want https; plain http is for loopback addresses only")
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	e.URL = *u
	return nil
}

// A TokenPath is a path on our own listener. It can be read in one way only: of letters, digits and
// - _ ~, with dots inside of segments, such as /2.1.1/connect/token.
type TokenPath string

var tokenPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-]+(\.[A-Za-z0-9_~-]+)*)+$`)

// UnmarshalText reads a path.
func (p *TokenPath) UnmarshalText(text []byte) error {
	if len(text) > maxTokenPath || !tokenPath.Match(text) {
		return fmt.Errorf("want a path such as /2.1.1/connect/token: letters, digits, - _ ~ and dots inside of segments, without a slash at its end, at most %d characters", maxTokenPath)
	}
	*p = TokenPath(text)
	return nil
}

const maxTokenPath = 200

// An Upstream is the base URL of a server behind us, https or plain http: it stands on our own network.
type Upstream struct{ url.URL }

// UnmarshalText reads an upstream.
func (u *Upstream) UnmarshalText(text []byte) error {
	parsed, err := parseURL(string(text))
	if err != nil {
		return err
	}
	u.URL = *parsed
	return nil
}

// A Proxy is the address of an HTTP proxy, http or https, without credentials: the file is
// passed around. The zero Proxy is none.
type Proxy struct{ url.URL }

// UnmarshalText reads the address of a proxy.
func (p *Proxy) UnmarshalText(text []byte) error {
	u, err := parseURL(string(text))
	switch {
	case err != nil:
		return err
	case strings.Trim(u.Path, "/") != "":
		return errors.New("want the address of a proxy without a path, such as http://proxy.example:3128")
	}
	u.Path, u.RawPath = "", ""
	p.URL = *u
	return nil
}

// parseURL does not repeat the text in its errors: people put passwords in URLs.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("want a URL such as https://example.com")
	case u.User != nil:
		return nil, errors.New("want a URL without user and password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("want a URL without query and fragment")
	}
	return u, nil
}

// State says where used assertions and revoked access tokens are remembered. The zero State is memory.
type State struct{ URL state.URL }

// Memory reports whether the state is kept in this process.
func (s State) Memory() bool { return s.URL == state.URL{} }

// setPassword puts the password into the URL.
func (s *State) setPassword(password string) (err error) {
	u, err := s.URL.WithPassword(password)
	if err == nil {
		s.URL = u
	}
	return err
}

// String hides a password.
func (s State) String() string {
	if s.Memory() {
		return "memory"
	}
	return s.URL.String()
}

// GoString hides a password.
func (s State) GoString() string { return s.String() }

// LogValue hides a password.
func (s State) LogValue() slog.Value { return slog.StringValue(s.String()) }

// parseState reads a state, in whose URL the file of ca counts from base when it is relative. Its errors do not repeat the text.
func parseState(text, base string) (State, error) {
	if text == "memory" {
		return State{}, nil
	}
	u, err := state.ParseURL(text)
	if err == nil {
		u, err = u.From(base)
	}
	if err != nil {
		return State{}, fmt.Errorf("want memory, or the URL of a store: %w", err)
	}
	return State{u}, nil
}

// An Anchor is a certificate to trust: the file of one, or the SHA-256 fingerprint
// by which it is known when it comes along. Exactly one of the two is set.
type Anchor struct {
	File        Path
	Fingerprint string // in the form of [ishare.Thumbprint]
}

// parseAnchor takes what consists of hex digits, with or without colons, for a
// fingerprint if it has the length of one.
func parseAnchor(text, base string) (Anchor, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	switch {
	case text == "":
		return Anchor{}, errors.New("want the file of a certificate, or a SHA-256 fingerprint")
	case err == nil && len(raw) == 32:
		return Anchor{Fingerprint: hex.EncodeToString(raw)}, nil
	case err == nil && len(raw) == 20:
		return Anchor{}, errors.New("want a SHA-256 fingerprint (64 hex digits); this has the length of SHA-1, which can be forged. Run: openssl x509 -in root.pem -noout -fingerprint -sha256")
	}
	return Anchor{File: Path(text).from(base)}, nil
}

// A Fingerprint is the SHA-256 of a certificate, in the form of [ishare.Thumbprint].
type Fingerprint string

// UnmarshalText reads a fingerprint, with or without colons.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	anchor, err := parseAnchor(string(text), "")
	switch {
	case err != nil:
		return err
	case anchor.Fingerprint == "":
		return errors.New("want a SHA-256 fingerprint (64 hex digits)")
	}
	*f = Fingerprint(anchor.Fingerprint)
	return nil
}

// A ScopeName is one scope value.
type ScopeName string

// UnmarshalText reads one scope value.
func (s *ScopeName) UnmarshalText(text []byte) error {
	scope, err := ishare.ParseScope(string(text))
	switch {
	case err != nil:
		return err
	case len(scope) != 1 || len(scope[0]) != len(text):
		return errors.New("want one scope value, without spaces")
	case scope[0] == ishare.ScopeISHARE:
		return errors.New("iSHARE is always known; remove it")
	}
	*s = ScopeName(text)
	return nil
}

// A CallerName is the client identifier of somebody who uses the internal listener.
type CallerName string

var callerName = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

// UnmarshalText reads a name.
func (n *CallerName) UnmarshalText(text []byte) error {
	if !callerName.Match(text) {
		return errors.New("want a name of up to 64 letters, digits and the characters - . _ ~")
	}
	*n = CallerName(text)
	return nil
}

// TokenIssuer is what the claim iss of an access token names us by.
type TokenIssuer uint8

// The names of the issuer.
const (
	IssuerParty TokenIssuer = iota // our party identifier
	IssuerURL                      // the issuer of our metadata (RFC 8414), as RFC 9068 has it
)

// ExtraHeaders says what to do with an unknown header parameter of an assertion.
type ExtraHeaders uint8

// The ways to treat unknown header parameters.
const (
	ExtraHeadersRefuse ExtraHeaders = iota
	ExtraHeadersAllow               // except those that are never safe
)

// Scalar writes a text as one value of a configuration, on one line.
func Scalar(text string) string {
	plain, err := yaml.Dump(text, yaml.WithLineWidth(-1))
	if line := strings.TrimSuffix(string(plain), "\n"); err == nil && !strings.Contains(line, "\n") {
		return line
	}
	return strconv.Quote(text)
}

// PathFrom names a file from the folder of a configuration: relative if it lies in it, and absolutely otherwise.
func PathFrom(dir, file string) (string, error) {
	file, err := filepath.Abs(file)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return "", err
	}
	if relative, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(relative) {
		return relative, nil
	}
	return file, nil
}
