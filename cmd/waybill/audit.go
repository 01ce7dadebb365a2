package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/audit"
)

func (c *command) audit() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "verify the audit trail of a server",
		Commands: []*cli.Command{{
			Name: "verify", Usage: "find what was changed in an audit trail, taken out or put in", ArgsUsage: "FILE...",
			Description: "Several files are parts of one trail, the earliest first. - is standard input.\n\n" +
				"Each entry has the hash of the one before. So a change shows to whoever has a later hash from elsewhere: compare the number and\n" +
				"the hash of the last entry with those in the server's log, which has them whenever a trail is opened or closed. Entries that are\n" +
				"missing at the end show by that only.",
			Flags: []cli.Flag{
				oneOf(&cli.StringFlag{Name: "output", Usage: "`FORMAT`: text or json", Value: "text"}, "text", "json"),
			},
			OnUsageError: onUsageError, Action: c.verifyAudit,
			ArgValidator: func(_ context.Context, cmd *cli.Command) error {
				if !cmd.Args().Present() {
					return usagef("verify takes the files of an audit trail, the earliest first")
				}
				return nil
			},
		}},
		Action: func(context.Context, *cli.Command) error { return usagef("audit is followed by verify") },
	}
}

func (c *command) verifyAudit(_ context.Context, cmd *cli.Command) error {
	var v audit.Verifier
	for _, path := range cmd.Args().Slice() {
		if err := c.readAudit(&v, path); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
			if errors.As(err, new(*audit.BrokenError)) {
				return hintedError{err, "Keep the file as it is. What stands before that line is whole; of what stands behind it nobody can say."}
			}
			return err
		}
	}
	if v.Entries == 0 {
		return errors.New("there is no entry")
	}
	if cmd.String("output") == "json" {
		return c.printJSON(v.Report)
	}
	fmt.Fprintf(c.out, "whole: %d entries, number %d to %d, from %s to %s\ntokens: %d\n",
		v.Entries, v.First, v.Last, v.From.Format(time.RFC3339), v.To.Format(time.RFC3339), v.Tokens)
	if v.Torn > 0 {
		fmt.Fprintf(c.out, "torn: %d, each told of by the entry behind it\n", v.Torn)
	}
	if v.ContinuesFrom != "" {
		fmt.Fprintf(c.out, "continues from: %s\n", v.ContinuesFrom)
	}
	fmt.Fprintf(c.out, "last hash: %s\n", v.Hash)
	return nil
}

func (c *command) readAudit(v *audit.Verifier, path string) (err error) {
	if path == "-" {
		return v.Read(c.in)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return v.Read(file)
}
