package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
)

func (c *command) assertion() *cli.Command {
	return &cli.Command{
		Name:  "assertion",
		Usage: "make a client assertion and print it",
		Description: "The assertion is valid for 30 seconds and can be used once. " +
			"Pipe it into waybill explain to see what a server would say of it.",
		Flags: sealFlags(),
		Action: func(_ context.Context, cmd *cli.Command) error {
			s, err := c.signatory(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			compact, err := s.maker.Make(s.audience)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, compact)
			return err
		},
	}
}
