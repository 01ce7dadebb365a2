package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
)

// Exit statuses.
const (
	statusDone  = 0
	statusNo    = 1 // the answer is no: refused, rejected, a problem found
	statusUsage = 2 // the command line is wrong
)

// streams are the ends of the process: out carries the result and nothing else,
// err is for people.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// errNo ends a command whose result, already written, is a no.
var errNo = errors.New("no")

// A usageError is a command line that cannot be carried out.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A hinted error comes with a way to mend it.
type hintedError struct {
	error

	hint string
}

func (e hintedError) Unwrap() error { return e.error }

// run carries out one command line and returns the exit status.
func run(ctx context.Context, args []string, getenv func(string) string, s streams) int {
	c := &command{streams: s, getenv: getenv}
	root := c.root()
	err := root.Run(ctx, args)
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, errNo):
		return statusNo
	}
	fmt.Fprintln(s.err, "error:", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintln(s.err, "hint:", hint)
	}
	if errors.As(err, new(usageError)) {
		return statusUsage
	}
	return statusNo
}

func hintOf(err error) string {
	var hinted hintedError
	var rejection *ishare.Rejection
	var answer *client.Error
	switch {
	case errors.As(err, &hinted):
		return hinted.hint
	case errors.As(err, &rejection):
		return rejection.Hint
	case errors.As(err, &answer):
		return answer.Hint
	}
	return ""
}

// A command is one run of the program.
type command struct {
	streams

	getenv func(string) string
}

func (c *command) root() *cli.Command {
	root := &cli.Command{
		Name:                          "waybill",
		Usage:                         "iSHARE access tokens between machines",
		Reader:                        c.in,
		Writer:                        c.out,
		ErrWriter:                     c.err,
		HideHelpCommand:               true,
		ExitErrHandler:                func(context.Context, *cli.Command, error) {},
		OnUsageError:                  onUsageError,
		Commands:                      []*cli.Command{c.serve(), c.check(), c.sandbox(), c.token(), c.request(), c.assertion(), c.explain(), c.version()},
		Action:                        noSuchCommand,
		CustomRootCommandHelpTemplate: "",
	}
	for _, sub := range root.Commands {
		sub.OnUsageError = onUsageError
		sub.DisableSliceFlagSeparator = true // names of files may hold commas
		if sub.ArgsUsage == "" {
			sub.ArgsUsage = " "
			sub.ArgValidator = noArguments
		}
	}
	return root
}

func onUsageError(_ context.Context, _ *cli.Command, err error, _ bool) error { return usageError{err} }

func noArguments(_ context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return usagef("%s takes no argument %q", cmd.Name, cmd.Args().First())
	}
	return nil
}

func noSuchCommand(_ context.Context, cmd *cli.Command) error {
	if name := cmd.Args().First(); name != "" {
		return usageError{hintedError{fmt.Errorf("there is no command %q", name), "Run waybill --help for the list."}}
	}
	return cli.ShowRootCommandHelp(cmd)
}
