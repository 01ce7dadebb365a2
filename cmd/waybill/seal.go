package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// passwordVariable holds the password of a PKCS#12 file; with _FILE behind it, the
// variable names a file that holds it.
const passwordVariable = "WAYBILL_PARTY_KEY_PASSWORD"

// sealFlags say who signs for whom.
func sealFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "audience", Usage: "party identifier `ID` of the server", Required: true},
		&cli.StringFlag{Name: "client-id", Usage: "your own party identifier `ID`", Required: true},
		&cli.StringFlag{Name: "key", Usage: "private key `FILE` of your seal: PEM, or PKCS#12 with its password in " + passwordVariable, Required: true},
		&cli.StringFlag{Name: "certificates", Usage: "certificate chain `FILE` of your seal, leaf first; not needed with PKCS#12"},
		&cli.StringFlag{Name: "alg", Usage: "signature `ALGORITHM`: RS256, RS384 or RS512", Value: string(jws.RS256)},
	}
}

// A signatory is what the flags say.
type signatory struct {
	maker    assertion.Maker
	audience ishare.PartyID
}

// signatory reads the flags and the files they name. Warnings about the files go
// to the error stream.
func (c *command) signatory(cmd *cli.Command) (*signatory, error) {
	audience, err := ishare.ParsePartyID(cmd.String("audience"))
	if err != nil {
		return nil, usagef("--audience: %w", err)
	}
	clientID, err := ishare.ParsePartyID(cmd.String("client-id"))
	if err != nil {
		return nil, usagef("--client-id: %w", err)
	}
	alg, err := jws.ParseAlgorithm(cmd.String("alg"))
	if err != nil {
		return nil, usagef("--alg: %w", err)
	}
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	pair, problems := keyfile.ReadSeal(keyfile.Files{
		Key:          cmd.String("key"),
		Certificates: cmd.String("certificates"),
		Password:     password,
	}, time.Now())
	if err := c.tell(problems); err != nil {
		return nil, err
	}
	return &signatory{
		audience: audience,
		maker:    assertion.Maker{ClientID: clientID, Key: pair.Signer(), Certificates: pair.Certificates, Algorithm: alg},
	}, nil
}

// password is that of a PKCS#12 file, from where a configuration takes it too.
func (c *command) password() (string, error) {
	path := c.getenv(passwordVariable + "_FILE")
	if path == "" {
		return c.getenv(passwordVariable), nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", passwordVariable, err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
