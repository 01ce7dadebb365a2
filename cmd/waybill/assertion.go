package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/probe"
)

func (c *command) assertion() *cli.Command {
	return &cli.Command{
		Name:  "assertion",
		Usage: "make a client assertion and print it",
		Description: "The assertion is valid for 30 seconds and can be used once. " +
			"Pipe it into waybill explain to see what a server would say of it.\n\n" +
			"To see what a server makes of a wrong one, break a rule, or set what you like; it is signed afterwards:\n\n" +
			"   waybill assertion … --break claim.aud\n" +
			"   waybill assertion … --set exp=4102444800 --set nbf= --set header.kid=1",
		Flags: append(sealFlags(),
			suggesting(&cli.StringFlag{Name: "break", Usage: "break the `RULE` of this id and no other: " + strings.Join(probe.Breakable(), ", ")}, probe.Breakable()...),
			&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE` of the payload, or header.NAME=VALUE: JSON or a text, and nothing to remove it; may be given several times"}),
		Action: func(_ context.Context, cmd *cli.Command) error {
			if id := cmd.String("break"); cmd.IsSet("break") && !slices.Contains(probe.Breakable(), id) {
				return hintedUsage(fmt.Errorf("--break %q: want one of %s", id, strings.Join(probe.Breakable(), ", ")), meant(id, probe.Breakable()))
			}
			s, err := c.signatory(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = s.seal.Close() }()
			compact, err := c.makeAssertion(cmd, s)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, compact)
			return err
		},
	}
}

// makeAssertion makes a right assertion, or a wrong one where the flags ask for it.
func (c *command) makeAssertion(cmd *cli.Command, s *signatory) (string, error) {
	if !cmd.IsSet("break") && !cmd.IsSet("set") {
		return s.maker.Make(s.audience)
	}
	a := probe.NewAssertion(probe.Seal{ClientID: s.maker.ClientID, Key: s.maker.Key, Certificates: s.maker.Certificates, Algorithm: s.maker.Algorithm}, s.audience)
	if id := cmd.String("break"); id != "" {
		how, err := a.Break(id)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(c.err, "broken on purpose, %s: %s\n", id, how)
	}
	for _, assignment := range cmd.StringSlice("set") {
		if err := a.Set(assignment); err != nil {
			return "", usagef("--set: %w", err)
		}
	}
	return a.Compact()
}

// passwordVariable holds the password of a PKCS#12 file; with _FILE behind it, the
// variable names a file that holds it.
const passwordVariable = "WAYBILL_PARTY_KEY_PASSWORD"

// passwordPlaces are where people put it.
const passwordPlaces = "the file that --key-password-file names, or in " + passwordVariable

// A signatory is what the flags say.
type signatory struct {
	maker    assertion.Maker
	audience ishare.PartyID
	seal     *keyfile.Pair // to be closed, which ends the session with a key in hardware
}

// signatory reads what the flags, the environment and the profile say, and the files they name. Warnings about the
// files go to the error stream.
func (c *command) signatory(cmd *cli.Command) (*signatory, error) {
	set, err := c.settings(cmd, sealSettings())
	if err != nil {
		return nil, err
	}
	return c.sealOf(set)
}

// sealOf is the signatory of settings that are read.
func (c *command) sealOf(set *settings) (*signatory, error) {
	if err := set.missing("audience", "client-id", "key"); err != nil {
		return nil, err
	}
	audience, err := ishare.ParsePartyID(set.get("audience"))
	if err != nil {
		return nil, set.wrong("audience", err)
	}
	clientID, err := ishare.ParsePartyID(set.get("client-id"))
	if err != nil {
		return nil, set.wrong("client-id", err)
	}
	alg, err := jws.ParseAlgorithm(set.get("alg"))
	if err != nil {
		return nil, set.wrong("alg", err)
	}
	pair, err := c.readSeal(set)
	if err != nil {
		return nil, err
	}
	return &signatory{
		audience: audience,
		seal:     pair,
		maker:    assertion.Maker{ClientID: clientID, Key: pair.Signer(), Certificates: pair.Certificates, Algorithm: alg},
	}, nil
}

// readSeal reads the key and its certificates. Warnings about their files go to the error stream.
func (c *command) readSeal(set *settings) (*keyfile.Pair, error) {
	if key := set.given["key"]; keyfile.IsText(key.text) && key.source == "--key" {
		return nil, usagef("--key: a private key on the command line can be read by every account of this machine: name its file")
	}
	password, err := c.password(set.get("key-password-file"))
	if err != nil {
		return nil, err
	}
	pair, problems := keyfile.ReadSeal(keyfile.Files{
		Key:          set.get("key"),
		Certificates: set.get("certificates"),
		Password:     password,
		PasswordFrom: passwordPlaces,
	}, time.Now())
	for _, p := range problems {
		if p.Warning {
			fmt.Fprintln(c.err, "warning:", p)
		}
	}
	if source := set.given["key"].source; problems.Err() != nil && !strings.HasPrefix(source, "--") { // nobody has just typed it
		return nil, fmt.Errorf("%s: %w", source, problems.Err())
	}
	return pair, problems.Err()
}

// password comes from the file that the settings name, or else from where a configuration takes it too. It
// is no flag itself: every account of the machine can read a command line.
func (c *command) password(path string) (string, error) {
	text, named := c.getenv(passwordVariable), c.getenv(passwordVariable+"_FILE")
	switch {
	case path != "":
		return readPassword("--key-password-file", path)
	case text != "" && named != "":
		return "", usagef("%s is set, and so is %[1]s_FILE: unset one of them", passwordVariable)
	case named != "":
		return readPassword(passwordVariable+"_FILE", named)
	}
	return text, nil
}

func readPassword(source, path string) (string, error) {
	password, problems := keyfile.ReadSecret(path)
	if err := problems.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	return password, nil
}
