package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/sandbox"
)

func (c *command) sandboxShow() *cli.Command {
	return &cli.Command{
		Name:         "show",
		Usage:        "print the switches of a running sandbox and how they stand",
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print everything as JSON"}},
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return c.withSandbox(cmd, func(r *sandbox.Remote) (*sandbox.State, error) { return r.State(ctx) })
		},
	}
}

func (c *command) sandboxSet() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "turn a switch of a running sandbox",
		ArgsUsage: "SWITCH VALUE",
		Description: "Changes a party's standing or certificate, or how the registry, OCSP and the revocation lists answer:\n" +
			"waybill sandbox set consumer.standing suspended. The subcommand show lists the switches and their values.",
		OnUsageError: onUsageError,
		ArgValidator: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() != 2 {
				return usagef("set takes a switch and a value; waybill sandbox show lists them")
			}
			return nil
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			name, value := cmd.Args().Get(0), cmd.Args().Get(1)
			err := c.withSandbox(cmd, func(r *sandbox.Remote) (*sandbox.State, error) {
				_, err := r.Set(ctx, name, value)
				return nil, err
			})
			if err == nil {
				fmt.Fprintln(c.err, name, "is", value)
			}
			return err
		},
	}
}

func (c *command) sandboxReset() *cli.Command {
	return &cli.Command{
		Name:         "reset",
		Usage:        "put every switch of a running sandbox back",
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			err := c.withSandbox(cmd, func(r *sandbox.Remote) (*sandbox.State, error) {
				_, err := r.Reset(ctx)
				return nil, err
			})
			if err == nil {
				fmt.Fprintln(c.err, "every switch is as it was in the beginning")
			}
			return err
		},
	}
}

// withSandbox does something with the sandbox that runs in the folder, and prints
// how it stands if that is told.
func (c *command) withSandbox(cmd *cli.Command, do func(*sandbox.Remote) (*sandbox.State, error)) error {
	dir := cmd.String("dir")
	running, err := sandbox.Find(dir)
	if err != nil {
		return hintSandbox(err, dir)
	}
	state, err := do(running)
	switch {
	case err != nil:
		return hintSandbox(err, dir)
	case state == nil:
		return nil
	case cmd.Bool("json"):
		return c.printJSON(state)
	}
	return c.printSwitches(state)
}

// hintSandbox says what to do about a sandbox that cannot be asked, or that does not
// take the order.
func hintSandbox(err error, dir string) error {
	switch {
	case errors.Is(err, sandbox.ErrNotRunning):
		start := selfCommand() + " sandbox"
		if dir != defaultDir {
			start += " --dir " + quote(dir)
		}
		return hintedError{err, "Start one: " + start}
	case errors.Is(err, sandbox.ErrNoSwitch), errors.Is(err, sandbox.ErrNoChoice):
		return usageError{err}
	}
	return err
}

func (c *command) printJSON(state *sandbox.State) error {
	b, err := json.Marshal(state, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", b)
	return err
}

func (c *command) printSwitches(state *sandbox.State) error {
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SWITCH\tIS\tCAN BE")
	for _, s := range state.Switches {
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, s.Value, strings.Join(s.Choices, " "))
	}
	return table.Flush()
}
