package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// Names of the files that init writes.
const (
	defaultConfig = "waybill.yaml"
	rootFile      = "root.pem"
)

// publicFile is their mode. They hold no secret, and the account that serves is mostly another one than that which writes them.
const publicFile = 0o644

func (c *command) init() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write the configuration of a server from the file of its seal",
		Description: "Reads who you are, and the root of your CA, from the seal; asks the registry who it is; shows both, and asks\n" +
			"once before it writes the configuration and " + rootFile + " beside it. Ends with what waybill check says.\n\n" +
			"With --non-interactive nothing is asked: what cannot be found out must be given as a flag. Then the root in the\n" +
			"file of the seal is trusted unseen; compare its fingerprint with what the CA publishes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "private `KEY` of your seal: a file, PEM, PKCS#12 or PKCS#8, or the pkcs11: URI of a key in hardware", Required: true},
			&cli.StringFlag{Name: "key-password-file", Usage: "`FILE` that holds the password of the key's file; otherwise taken from " + passwordVariable +
				" or from the file that " + passwordVariable + "_FILE names"},
			&cli.StringFlag{Name: "certificates", Usage: "certificate chain `FILE` of your seal; not needed when the key's file holds it"},
			&cli.StringFlag{Name: "registry", Usage: "base `URL` of the Participant Registry of your data space", Required: true},
			&cli.StringFlag{Name: "registry-id", Usage: "party identifier `ID` of the registry, when it does not say itself who it is"},
			&cli.StringFlag{Name: "party-id", Usage: "your own party identifier `ID`, when the seal names several or none"},
			&cli.StringSliceFlag{Name: "anchor", Usage: "`FILE` of the certificate of a CA to trust besides; may be given several times"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write", Value: defaultConfig},
			&cli.BoolFlag{Name: "non-interactive", Usage: "ask nothing"},
			&cli.BoolFlag{Name: "force", Usage: "replace files that are there"},
		},
		Action: c.runInit,
	}
}

// A setup is what init has found out.
type setup struct {
	out, root  string // files to write
	pair       *keyfile.Pair
	ids        []ishare.PartyID // our own, the one to go by first
	registry   string
	registryID ishare.PartyID
	said       *client.Identity // what the registry says of itself; nil: nothing
	anchors    []string         // files besides the root
}

func (s *setup) seal() *x509.Certificate { return s.pair.Certificates[0] }

// top is the last certificate of the seal's chain: the root, unless the file lacks it.
func (s *setup) top() *x509.Certificate { return s.pair.Certificates[len(s.pair.Certificates)-1] }

func (c *command) runInit(ctx context.Context, cmd *cli.Command) error {
	ask := asker{c, bufio.NewReader(c.in), !cmd.Bool("non-interactive")}
	s := &setup{out: cmd.String("out"), anchors: cmd.StringSlice("anchor")}
	s.root = filepath.Join(filepath.Dir(s.out), rootFile)
	address, err := registryAddress(cmd.String("registry"))
	if err != nil {
		return err
	}
	s.registry = address
	sealed := &settings{given: map[string]given{}}
	for _, name := range []string{"key", "key-password-file", "certificates"} {
		if cmd.IsSet(name) {
			sealed.given[name] = given{cmd.String(name), "--" + name}
		}
	}
	if s.pair, err = c.readSeal(sealed); err != nil {
		return err
	}
	defer func() { _ = s.pair.Close() }()
	if err := s.findFree(cmd.Bool("force")); err != nil { // before anything is asked
		return err
	}
	if err := s.whoWeAre(cmd.String("party-id"), ask); err != nil {
		return err
	}
	if err := c.whoTheRegistryIs(ctx, s, cmd.String("registry-id")); err != nil {
		return err
	}
	c.showSetup(s)
	if ask.may {
		if answer, err := ask.ask(fmt.Sprintf("Write %s and %s, which trust this root? [y/N] ", s.out, s.root)); err != nil {
			return err
		} else if !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
			return errors.New("nothing was written")
		}
	}
	if err := s.write(sealed, cmd.Bool("force")); err != nil {
		return err
	}
	c.say("written: %s, %s", s.out, s.root)
	return c.checkWritten(s, sealed) //nolint:contextcheck // as in check
}

// checkWritten ends with what check says, and with how to go on.
func (c *command) checkWritten(s *setup, sealed *settings) error {
	environ, start := os.Environ(), selfCommand()+" serve --config "+quote(s.out)+" --first-start"
	if file := sealed.get("key-password-file"); file != "" {
		absolute, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		environ = append(slices.DeleteFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, passwordVariable+"=") }),
			passwordVariable+"_FILE="+absolute)
		start = passwordVariable + "_FILE=" + quote(absolute) + " " + start
	}
	if err := c.checkFile(s.out, environ); err != nil {
		return err
	}
	c.say("Serve it: %s", start)
	return nil
}

// An asker asks the person at the terminal, if it may.
type asker struct {
	*command

	lines *bufio.Reader
	may   bool
}

// ask gives the line that answers a question.
func (a asker) ask(question string) (string, error) {
	a.saying.Lock()
	fmt.Fprint(a.err, question)
	a.saying.Unlock()
	line, err := a.lines.ReadString('\n')
	if line == "" && err != nil {
		a.say("")
		return "", usagef("there is nobody to answer: give --non-interactive, which asks nothing")
	}
	return strings.TrimSpace(line), nil
}

func registryAddress(text string) (string, error) {
	var address config.Endpoint
	if err := address.UnmarshalText([]byte(text)); err != nil {
		return "", usagef("--registry: %w", err)
	}
	return address.String(), nil
}

// whoWeAre finds our identifiers in the seal.
func (s *setup) whoWeAre(flag string, ask asker) error {
	named := ishare.CertificateIDs(s.seal())
	slices.Sort(named)
	named = slices.Compact(named)
	switch {
	case flag != "":
		id, err := ishare.ParsePartyID(flag)
		if err != nil {
			return usagef("--party-id: %w", err)
		}
		named = slices.DeleteFunc(named, func(other ishare.PartyID) bool { return other == id })
		s.ids = append([]ishare.PartyID{id}, named...)
		return nil
	case len(named) == 1:
		s.ids = named
		return nil
	case len(named) == 0:
		return usageError{hintedError{
			errors.New("the seal names no party identifier that is known here"),
			"Give the one by which the registry knows you with --party-id.",
		}}
	case !ask.may:
		return usageError{hintedError{
			fmt.Errorf("the seal names several party identifiers: %s", join(named)),
			"Give the one by which the registry knows you with --party-id; the others are written as its aliases.",
		}}
	}
	ask.say("The seal names several party identifiers:")
	for i, id := range named {
		ask.say("  %d  %s", i+1, id)
	}
	answer, err := ask.ask("By which one does the registry know you? Its number: ")
	if err != nil {
		return err
	}
	for i, id := range named {
		if answer == strconv.Itoa(i+1) || answer == string(id) {
			s.ids = append([]ishare.PartyID{id}, slices.Delete(named, i, i+1)...)
			return nil
		}
	}
	return usagef("%q is none of them", answer)
}

func join(ids []ishare.PartyID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	return strings.Join(texts, ", ")
}

// whoTheRegistryIs asks it, and holds it to the roots that will be trusted.
func (c *command) whoTheRegistryIs(ctx context.Context, s *setup, flag string) error {
	if flag != "" {
		id, err := ishare.ParsePartyID(flag)
		if err != nil {
			return usagef("--registry-id: %w", err)
		}
		s.registryID = id
	}
	transport := client.NewTransport()
	defer transport.CloseIdleConnections()
	done := c.waiting("the registry at " + s.registry)
	said, err := client.Identify(ctx, s.registry, transport)
	done()
	switch {
	case err != nil && flag != "":
		c.say("note: the registry does not say who it is (%s); --registry-id is taken for right", printable(err.Error()))
		return nil
	case ctx.Err() != nil:
		return err
	case err != nil:
		return hintedError{
			fmt.Errorf("the registry does not say who it is: %w", err),
			"Check the address. The registry's party identifier stands in what your data space gave you, and is the registrarId of your own record there; " +
				"give it with --registry-id. See docs/registries.md.",
		}
	case flag != "" && said.ID != s.registryID:
		return fmt.Errorf("the server at %s says that it is %s, and not %s", s.registry, said.ID, s.registryID)
	}
	s.said, s.registryID = said, said.ID
	return s.trustRegistry()
}

// trustRegistry judges the registry's seal by our own root and the anchors that are given.
func (s *setup) trustRegistry() error {
	anchors, err := trust.LoadAnchors(s.anchors)
	if err != nil {
		return fmt.Errorf("--anchor: %w", err)
	}
	anchors[trust.FingerprintOf(s.top())] = ""
	validator, err := trust.New(anchors)
	if err != nil {
		return err
	}
	certificates := s.said.Certificates
	_, err = validator.Validate(certificates, time.Now(), nil)
	if rejection, _ := rule.Classify(err); err != nil && (rejection == nil || rejection.Rule != rule.ChainUntrusted) {
		return fmt.Errorf("the seal of the registry: %w", err)
	} else if err != nil {
		top := certificates[len(certificates)-1]
		return hintedError{
			errors.New("the seal of the registry does not chain to the root of your own"),
			fmt.Sprintf("It is that of %q, and its chain ends with %q, SHA-256 %s. Get that CA's certificate from its own site, compare the fingerprint, and give the file with --anchor.",
				subjectName(certificates[0]), subjectName(top), trust.FingerprintOf(top)),
		}
	}
	if ids := ishare.CertificateIDs(certificates[0]); !slices.Contains(ids, s.registryID) {
		return hintedError{
			fmt.Errorf("the seal that answers for %s names %s", s.registryID, join(ids)),
			"Ask your data space whether that is the registry's seal; then write participants.registry.seals by hand: see docs/configuration.md.",
		}
	}
	return nil
}

// showSetup shows what will be trusted.
func (c *command) showSetup(s *setup) {
	show := func(what string, certificate *x509.Certificate) {
		c.say("%-9s %q\n          SHA-256 %s", what, subjectName(certificate), trust.FingerprintOf(certificate))
	}
	show("seal", s.seal())
	c.say("          %s, until %s", join(s.ids), s.seal().NotAfter.UTC().Format(time.DateOnly))
	show("root", s.top())
	if !bytes.Equal(s.top().RawIssuer, s.top().RawSubject) {
		c.say("note: the file lacks the root; the CA that it ends with is trusted in its place")
	}
	c.say("registry  %s at %s", s.registryID, s.registry)
	if s.said != nil {
		show("", s.said.Certificates[0])
	}
}

// findFree finds the folder to write to, and files in the places of those to write. The same root may be there.
func (s *setup) findFree(force bool) error {
	if info, err := os.Stat(filepath.Dir(s.out)); err != nil || !info.IsDir() {
		return usagef("--out: there is no folder %s", filepath.Dir(s.out))
	}
	if force {
		return nil
	}
	if _, err := os.Lstat(s.out); err == nil {
		return hintedError{fmt.Errorf("%s is there already", s.out), "Write another file with --out, or replace it with --force."}
	}
	if _, err := os.Lstat(s.root); err == nil && !s.rootIsThere() {
		return hintedError{fmt.Errorf("%s is there already, and is another root", s.root), "Write into another folder with --out, or replace it with --force."}
	}
	return nil
}

func (s *setup) rootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.top().Raw})
}

func (s *setup) rootIsThere() bool {
	there, err := os.ReadFile(s.root)
	return err == nil && bytes.Equal(there, s.rootPEM())
}

// subjectName is the subject without attributes that have no name, such as the organizationIdentifier.
func subjectName(certificate *x509.Certificate) string {
	subject := certificate.Subject
	subject.Names = nil
	return subject.String()
}

// write writes the root, and then the configuration.
func (s *setup) write(sealed *settings, force bool) error {
	text, err := s.configuration(sealed)
	if err == nil && !s.rootIsThere() {
		err = writeFile(s.root, s.rootPEM(), publicFile, force)
	}
	if err != nil {
		return err
	}
	return writeFile(s.out, text, publicFile, force)
}

// configuration is the file that describes the server.
func (s *setup) configuration(sealed *settings) ([]byte, error) {
	path := func(file string) (string, error) {
		if keyfile.IsURI(file) {
			return config.Scalar(file), nil
		}
		named, err := config.PathFrom(filepath.Dir(s.out), file)
		return config.Scalar(named), err
	}
	key, err := path(sealed.get("key"))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# The server of %s, written by waybill init.\n", s.ids[0])
	b.WriteString("# Relative paths are relative to this file. Find what is wrong with it: waybill check --config FILE\n")
	b.WriteString("# Every key: https://github.com/waybill-token/waybill/blob/main/docs/configuration.md\n")
	fmt.Fprintf(&b, "party:\n  id: %s # the seal %+q names it\n", config.Scalar(string(s.ids[0])), s.seal().Subject.CommonName)
	if len(s.ids) > 1 {
		fmt.Fprintf(&b, "  also_known_as: [%s]\n", join(s.ids[1:]))
	}
	fmt.Fprintf(&b, "  key: %s # its password comes from %s, or from the file that %s_FILE names\n", key, passwordVariable, passwordVariable)
	if file := sealed.get("certificates"); file != "" {
		named, err := path(file)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  certificates: %s # leaf first\n", named)
	}
	fmt.Fprintf(&b, "participants:\n  registry:\n    id: %s\n    url: %s\n", config.Scalar(string(s.registryID)), config.Scalar(s.registry))
	fmt.Fprintf(&b, "trust:\n  anchors:\n    - %s # %+q, SHA-256 %s\n", rootFile, s.top().Subject.CommonName, trust.FingerprintOf(s.top()))
	for _, file := range s.anchors {
		named, err := path(file)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "    - %s\n", named)
	}
	b.WriteString("  trusted_list: true # for clients, also the CAs that the registry's trusted list grants\n")
	if u, err := url.Parse(s.registry); err == nil && loopback.Is(u.Hostname()) {
		b.WriteString("  revocation_allow_private: true # the registry is on this machine, and so may be the OCSP responder; not for production\n")
	}
	b.WriteString("listen:\n  public: 127.0.0.1:8080   # behind a proxy that speaks TLS, or add tls: {certificate: …, key: …}\n" +
		"  internal: 127.0.0.1:9090 # health, metrics, introspection: never public\n" +
		"  # url: https://provider.example # by which clients reach this server\n")
	b.WriteString("data: data/ # keys of access tokens, and what must outlive a restart\n" +
		"# routes: # a program behind this server, which is called with a good token only\n" +
		"#   - {path: /, upstream: \"http://127.0.0.1:3000\"}\n")
	text := []byte(b.String())
	if _, err := config.Parse(s.out, text, nil); err != nil {
		return nil, fmt.Errorf("the configuration would not be read: %w", err)
	}
	return text, nil
}
