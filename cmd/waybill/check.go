package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

func (c *command) check() *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "find everything that is wrong with a configuration, before it is served",
		Description: "Prints one line for each problem, with its place and a mend. Exits with 1 when there are any.",
		Flags:       []cli.Flag{configFlag()},
		Action: func(_ context.Context, cmd *cli.Command) error {
			return c.checkFile(cmd.String("config"), os.Environ()) //nolint:contextcheck // what passes requests on goes by their own contexts
		},
	}
}

// checkFile prints everything that is wrong with a configuration.
func (c *command) checkFile(path string, environ []string) error {
	cfg, problems, err := config.Inspect(path, environ)
	if err != nil {
		return err
	}
	found := &daemon.Preflight{}
	if cfg.Data != "" { // which has a default: else nothing could be read
		done := c.waiting("those whom the configuration names")
		found = daemon.Check(cfg)
		done()
	}
	// What stands for a refused value was not asked for.
	refused := func(p config.Problem) bool {
		return slices.ContainsFunc(problems, func(refused config.Problem) bool { return refused.Key == p.Key })
	}
	found.Problems, found.Warnings = slices.DeleteFunc(found.Problems, refused), slices.DeleteFunc(found.Warnings, refused)
	inFileOrder := func(a, b config.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	}
	for _, p := range slices.SortedStableFunc(slices.Values(append(problems, found.Problems...)), inFileOrder) {
		fmt.Fprintln(c.out, p)
	}
	for _, w := range found.Warnings {
		fmt.Fprintln(c.err, "warning:", w)
	}
	if len(problems)+len(found.Problems) > 0 {
		if path == "" {
			c.say("hint: %s", nameAFile)
		}
		return errNo
	}
	fmt.Fprintln(c.err, "state:", found.Guarantee)
	fmt.Fprintln(c.err, "no problems found")
	return nil
}
