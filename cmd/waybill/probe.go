package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/keyforms"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/probe"
)

func (c *command) probe() *cli.Command {
	return &cli.Command{
		Name:  "probe",
		Usage: "test the token endpoint of any iSHARE server",
		Description: "Sends right and wrong token requests with your seal, one after the other, and tells what the server made of each.\n" +
			"Whoever runs the server will see some two hundred refused requests in the log, in your name. Exits with 1 unless\n" +
			"every case that the specification demands passes.\n\n" +
			"   waybill probe --server URL --audience ID --client-id ID --key FILE --certificates FILE\n" +
			"   waybill probe --list\n\n" +
			"More is tested with more: a CA that the server trusts, for seals that are wrong; an endpoint that asks for a token.\n\n" +
			"   waybill probe … --secured-url URL --test-ca-key FILE --test-ca-certificates FILE --report probe.html --report probe.xml",
		Flags: append(tokenFlags(),
			&cli.StringFlag{Name: "secured-url", Usage: "`URL` that asks for an access token; it is called with GET only"},
			&cli.StringFlag{Name: "test-ca-key", Usage: "private key `FILE` of a CA that the server trusts, of any form that --key has as a file"},
			&cli.StringFlag{Name: "test-ca-certificates", Usage: "certificate `FILE` of that CA, and of those above it; not needed when the key's file holds them"},
			&cli.StringFlag{Name: "test-seals", Usage: "`FOLDER` in which the seals of that CA are kept, so that they can be registered for the client and used again"},
			&cli.StringFlag{Name: "revoked", Usage: "`FILE` with a seal that is revoked, of yours or of another participant in good standing, key and certificates: PKCS#12 or PEM"},
			&cli.StringFlag{Name: "inactive", Usage: "`FILE` with the seal of a participant that is not active, key and certificates: PKCS#12 or PEM"},
			&cli.StringSliceFlag{Name: "report", Usage: "`FILE` to write a report to, by its extension: .html, .xml (JUnit), .json or .md; may be given several times"},
			&listFlag{&cli.StringSliceFlag{Name: "only", Usage: "`CASE` to try: a name or its beginning, the id of a rule, or official; may be given several times"}, caseGroups()},
			&cli.BoolFlag{Name: "list", Usage: "list the cases, and send nothing"},
			&cli.DurationFlag{Name: "pause", Usage: "how long to wait before each request: a `TIME` such as 1s", Value: probe.DefaultPause, Validator: within(0, time.Minute)},
			&cli.DurationFlag{Name: "wait", Usage: "how long to wait in the end for an access token to expire, such as 75m: a `TIME`, ten minutes more than it lives", Validator: within(0, maxProbeWait)}),
		Action: c.runProbe,
	}
}

func (c *command) runProbe(ctx context.Context, cmd *cli.Command) error {
	cases, err := selectCases(cmd.StringSlice("only"))
	if err != nil {
		return err
	}
	if cmd.Bool("list") {
		return c.listCases(cases)
	}
	reports, err := openReports(cmd.StringSlice("report"))
	if err != nil {
		return err
	}
	defer reports.close()
	config, closeSeal, err := c.probeConfig(ctx, cmd)
	if err != nil {
		return err
	}
	defer closeSeal()
	bar := newProgress(c.err)
	defer bar.clear()
	config.Progress = func(r probe.Result, done, of int) { c.showResult(bar, r, done, of) }
	config.Waiting = func(because string, pause time.Duration) {
		bar.clear()
		c.say("%s; going on in %s", because, pause)
	}
	fmt.Fprintf(c.err, "probing %s with the seal of %s: %d cases, about as many requests\n", printable(config.TokenEndpoint), config.Seal.ClientID, len(cases))
	report, err := probe.Run(ctx, config)
	if err != nil {
		return usageError{err}
	}
	bar.clear()
	if err := reports.write(report); err != nil {
		return err
	}
	if err := report.WriteText(c.out); err != nil {
		return err
	}
	if !report.Good() {
		return errNo
	}
	return nil
}

func selectCases(wishes []string) ([]probe.Case, error) {
	cases, err := probe.Select(wishes...)
	unknown, ok := errors.AsType[probe.UnknownCaseError](err)
	if !ok {
		return cases, err
	}
	known := caseGroups()
	for _, c := range probe.Cases() {
		known = append(append(known, c.Name, c.Official), c.Rules...)
	}
	return nil, hintedUsage(fmt.Errorf("--only: %w", unknown), cmp.Or(meant(string(unknown), known), "Run waybill probe --list for all of them."))
}

// caseGroups are what cases have in common.
func caseGroups() []string {
	groups := []string{"official"}
	for _, c := range probe.Cases() {
		if !slices.Contains(groups, c.Group()) {
			groups = append(groups, c.Group())
		}
	}
	return groups
}

// maxProbeWait is a day, which few access tokens outlive.
const maxProbeWait = 24 * time.Hour

// listCases prints a line for each case.
func (c *command) listCases(cases []probe.Case) error {
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, one := range cases {
		about := one.Sends
		if one.Official != "" {
			about += " Official: " + one.Official + "."
		}
		if one.Needs != "" {
			about += " Needs " + one.Needs + "."
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", one.Name, one.Weight, about)
	}
	return t.Flush()
}

// probeConfig is what the flags describe. It comes with the function that closes the seal.
func (c *command) probeConfig(ctx context.Context, cmd *cli.Command) (config probe.Config, closeSeal func(), err error) {
	set, err := c.settings(cmd, tokenSettings())
	if err != nil {
		return config, nil, err
	}
	transport, err := c.transport(set.get("ca"), cmd.Bool("verbose"))
	if err != nil {
		return config, nil, err
	}
	described, s, err := c.clientConfig(ctx, set, transport)
	if err != nil {
		return config, nil, err
	}
	closeSeal = func() { _ = s.seal.Close() }
	config = probe.Config{
		Server: described.Server, TokenEndpoint: described.TokenEndpoint, Audience: described.Audience, Scope: described.Scope,
		Seal:      probe.Seal{ClientID: described.ClientID, Key: described.Key, Certificates: described.Certificates, Algorithm: described.Algorithm},
		Transport: described.Transport, SecuredURL: cmd.String("secured-url"), Only: cmd.StringSlice("only"), Pause: cmd.Duration("pause"), Wait: cmd.Duration("wait"),
		Name:      func(field string) string { return probeFlags[field] },
		UserAgent: "waybill-probe/" + buildVersion() + " (a test of iSHARE token endpoints)",
	}
	if config.Pause == 0 { // which would be the default
		config.Pause = -1
	}
	switch base, ends := strings.CutSuffix(strings.TrimRight(config.Server, "/"), ishare.TokenPath); {
	case ends: // what it is called matters little
		config.Server = base
	case config.TokenEndpoint == "":
		config.TokenEndpoint = base + ishare.TokenPath
	}
	password, err := c.password(set.get("key-password-file"))
	if err == nil {
		config.TestSeals, err = c.testSeals(cmd, config.Seal, password)
	}
	if err == nil {
		config.Revoked, err = c.otherSeal(cmd, "revoked", config.Seal.ClientID, password)
	}
	if err == nil {
		config.Inactive, err = c.otherSeal(cmd, "inactive", "", password)
	}
	if err != nil {
		closeSeal()
	}
	return config, closeSeal, err
}

// probeFlags are the flags from which the fields of a configuration come.
var probeFlags = map[string]string{
	"Only": "--only", "Seal": "--key", "Revoked": "--revoked", "Inactive": "--inactive", "Audience": "--audience",
	"Server": "--server", "TokenEndpoint": "--token-endpoint", "SecuredURL": "--secured-url",
}

// testSeals are those of the folder, or the CA issues them now.
func (c *command) testSeals(cmd *cli.Command, own probe.Seal, password string) (*probe.TestSeals, error) {
	key, certificates, folder := cmd.String("test-ca-key"), cmd.String("test-ca-certificates"), cmd.String("test-seals")
	if folder != "" {
		if seals, err := probe.LoadTestSeals(folder); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return seals, err
		}
	}
	switch {
	case key == "" && certificates == "" && folder == "":
		return nil, nil //nolint:nilnil // there are none, and none are asked for
	case key == "":
		return nil, usagef("--test-ca-key is needed to make the seals of a test CA")
	}
	caKey, chain, err := readCA(key, certificates, password)
	if err != nil {
		return nil, err
	}
	seals, err := probe.NewTestSeals(caKey, chain, own.Certificates)
	if err != nil || folder == "" {
		return seals, err
	}
	fmt.Fprintf(c.err, "made the seals of the test CA in %s: register the certificates there for %s, other than of-another-party.pem\n", printable(folder), own.ClientID)
	err = seals.Save(folder)
	return seals, err
}

// readCA reads the key of a CA, and its certificates where those of the key's file are not meant.
func readCA(keyFile, certificateFile, password string) (crypto.Signer, []*x509.Certificate, error) {
	key, err := readForms(keyFile, password, keyforms.Whole, keyforms.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("--test-ca-key: %w", err)
	}
	if len(key.Keys) != 1 {
		return nil, nil, fmt.Errorf("--test-ca-key: %s holds %d private keys, and not one", keyFile, len(key.Keys))
	}
	if certificateFile == "" {
		return key.Keys[0], key.Certificates, nil
	}
	chain, err := readCertificates(certificateFile)
	if err != nil {
		return nil, nil, fmt.Errorf("--test-ca-certificates: %w", err)
	}
	return key.Keys[0], chain, nil
}

// otherSeal reads a seal out of one file. Whose it is, it says itself, or else it is this client's.
func (c *command) otherSeal(cmd *cli.Command, flag string, client ishare.PartyID, password string) (*probe.Seal, error) {
	path := cmd.String(flag)
	if path == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	pair, problems := keyfile.ReadSeal(keyfile.Files{Key: path, Password: password, PasswordFrom: passwordPlaces}, time.Now())
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	if ids := ishare.CertificateIDs(pair.Certificates[0]); len(ids) > 0 {
		client = ids[0]
	}
	if client == "" {
		return nil, fmt.Errorf("--%s: the seal states no party identifier", flag)
	}
	return &probe.Seal{ClientID: client, Key: pair.Signer(), Certificates: pair.Certificates}, nil
}

// showResult tells of a case that is done: a line each, or on a terminal a bar, and lines for what is not as it should be.
func (c *command) showResult(bar *progress, r probe.Result, done, of int) {
	bad := r.Verdict == probe.Fail || r.Verdict == probe.Warn
	if bad || bar.terminal == nil {
		bar.clear()
		said := strings.TrimSuffix(string(r.Outcome)+"; "+r.Came, "; ")
		if r.Verdict == probe.Skipped {
			said = r.Reason
		}
		fmt.Fprintf(c.err, "%-7s %s: %s\n", r.Verdict, r.Name, said)
	}
	if r.Name == probe.RightCase && r.Verdict != probe.Pass {
		bar.clear()
		fmt.Fprintln(c.err, "note: not even the right request got a token. What would be refused anyway cannot be judged, and is skipped.\n"+
			"      waybill token with the same flags says more; start again when it gets one.")
	}
	bar.show("probing", done, of)
}

// reports are the files to write in the end. They are opened before anything is sent, and keep what is in them until then. One
// that was made for nothing is removed.
type reports []reportFile

type reportFile struct {
	file  *os.File
	write probe.Format
}

func openReports(paths []string) (reports, error) {
	formats := probe.Formats()
	for _, path := range paths {
		if formats[filepath.Ext(path)] == nil {
			return nil, usagef("--report %q: want a name that ends in %s", path, strings.Join(slices.Sorted(maps.Keys(formats)), ", "))
		}
	}
	var open reports
	for _, path := range paths {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // a report is for others to read
		if err != nil {
			open.close()
			return nil, fmt.Errorf("--report: %w", err)
		}
		open = append(open, reportFile{file, formats[filepath.Ext(path)]})
	}
	return open, nil
}

func (r reports) write(report *probe.Report) error {
	for _, one := range r {
		err := one.file.Truncate(0)
		if err == nil {
			err = one.write(report, one.file)
		}
		if err = errors.Join(err, one.file.Sync()); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	return nil
}

func (r reports) close() {
	for _, one := range r {
		if info, err := one.file.Stat(); err == nil && info.Size() == 0 && info.Mode().IsRegular() {
			_ = os.Remove(one.file.Name()) // an empty report is none
		}
		_ = one.file.Close() // it was written and synced
	}
}
