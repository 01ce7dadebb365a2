package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/bench"
	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/rule"
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
	err := untilInterrupted(ctx, args, func() error { return c.root().Run(ctx, args) })
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, errNo):
		return statusNo
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	c.say("error: %v", err)
	var hint string
	var hinted hintedError
	var answer *client.Error
	switch rejection, outage := rule.Classify(err); {
	case errors.As(err, &hinted):
		hint = hinted.hint
	case outage != nil:
		hint = outage.Rule.Hint
	case rejection != nil:
		hint = rejection.Hint
	case errors.As(err, &answer):
		hint = answer.Hint
	}
	if hint != "" {
		c.say("hint: %s", hint)
	}
	if errors.As(err, new(usageError)) {
		return statusUsage
	}
	return statusNo
}

var errInterrupted = errors.New("interrupted")

// lastMoment is how long a command that was interrupted may take to end by itself.
const lastMoment = 250 * time.Millisecond

// untilInterrupted carries out a command line. When ctx ends and the command does not notice, as it does not while it reads
// a terminal or a pipe, the command is left to itself: the process is about to end. Those that serve, and those that have
// processes of their own to stop, do so in their own time.
func untilInterrupted(ctx context.Context, args []string, do func() error) error {
	if len(args) > 1 && slices.Contains([]string{"serve", "sandbox", "bench", bench.FloorCommand}, args[1]) {
		return do()
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lastMoment):
		return errInterrupted
	}
}

// A command is one run of the program.
type command struct {
	streams

	getenv func(string) string
	saying sync.Mutex  // held while a line is written to err
	paused atomic.Bool // a person knows that something is waited for

	undiscovered error // why a server did not say where its token endpoint is; nil: it did, or was not asked
}

func (c *command) root() *cli.Command {
	root := &cli.Command{
		Name:            "waybill",
		Usage:           "iSHARE access tokens between machines",
		Reader:          c.in,
		Writer:          c.out,
		ErrWriter:       c.err,
		HideHelpCommand: true,   // there is one below, which refuses in the words of the others
		StopOnNthArg:    new(1), // what stands behind a word that is no command is not judged
		Flags:           []cli.Flag{&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", Local: true}},
		ExitErrHandler:  func(context.Context, *cli.Command, error) {},
		OnUsageError:    onUsageError,
		Commands: []*cli.Command{
			c.init(), c.serve(), c.check(), c.health(), c.keys(), c.audit(), c.sandbox(), c.token(), c.request(), c.profile(), c.assertion(), c.explain(), c.probe(), c.bench(), c.benchFloor(), c.completion(), c.man(), c.version(), c.help(),
		},
		Action: func(ctx context.Context, cmd *cli.Command) error { // when the first argument is no command
			switch {
			case cmd.Args().Present():
				return noSuchCommand(cmd, cmd.Args().First())
			case cmd.Bool("version"):
				return cmd.Command("version").Action(ctx, cmd)
			}
			return cli.ShowRootCommandHelp(cmd)
		},
		CustomRootCommandHelpTemplate: "",
	}
	for _, sub := range root.Commands {
		sub.OnUsageError = onUsageError
		sub.DisableSliceFlagSeparator = true // names of files may hold commas
		if sub.ArgsUsage == "" {
			sub.ArgsUsage = " "
			sub.ArgValidator = func(_ context.Context, cmd *cli.Command) error {
				if !cmd.Args().Present() {
					return nil
				}
				return hintedUsage(fmt.Errorf("%s takes no argument %q", cmd.Name, cmd.Args().First()), nearestCommand(cmd, cmd.Args().First()))
			}
		}
	}
	addExamples(root, "", examples())
	return root
}

// undefinedFlag begins what the library says of a flag that there is not.
const undefinedFlag = "flag provided but not defined: -"

func onUsageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	name, undefined := strings.CutPrefix(err.Error(), undefinedFlag)
	if !undefined {
		return usageError{err}
	}
	var known []string
	for _, above := range cmd.Lineage() {
		for _, f := range above.Flags {
			known = append(known, f.Names()...)
		}
	}
	const short = 2 // letters: each such word is near to many
	known = slices.DeleteFunc(known, func(name string) bool { return len(name) <= short })
	name, hint := strings.TrimLeft(name, "-"), ""
	if nearest := spelling.Nearest(name, known); nearest != "" && len(name) > short {
		hint = fmt.Sprintf("Did you mean --%s?", nearest)
	}
	return hintedUsage(err, hint)
}

// hintedUsage is a usage error; the hint may be empty.
func hintedUsage(err error, hint string) error {
	if hint == "" {
		return usageError{err}
	}
	return usageError{hintedError{err, hint}}
}

// nearestCommand asks whether a command below another one was meant; it is empty when none is near.
func nearestCommand(above *cli.Command, name string) string {
	var known []string
	for _, sub := range above.Commands {
		if !sub.Hidden {
			known = append(known, sub.Name)
		}
	}
	return meant(name, known)
}

// meant asks whether one of the known words was; it is empty when none is near.
func meant(word string, known []string) string {
	if nearest := spelling.Nearest(word, known); nearest != "" {
		return fmt.Sprintf("Did you mean %s?", nearest)
	}
	return ""
}

func noSuchCommand(above *cli.Command, name string) error {
	words := strings.Fields(name)
	hint := "Run waybill --help for the list."
	if len(words) > 0 {
		hint = strings.TrimSpace(nearestCommand(above, words[len(words)-1]) + " " + hint)
	}
	return usageError{hintedError{fmt.Errorf("there is no command %q", name), hint}}
}

func (c *command) help() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "show what a command does and takes",
		ArgsUsage: "[COMMAND]",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			about, above := cmd.Root(), cmd.Root()
			for i, name := range cmd.Args().Slice() {
				above, about = about, about.Command(name)
				if about == nil {
					return noSuchCommand(above, strings.Join(cmd.Args().Slice()[:i+1], " "))
				}
			}
			if about == cmd.Root() {
				return cli.ShowRootCommandHelp(about)
			}
			return cli.ShowCommandHelp(ctx, above, about.Name)
		},
	}
}

// printJSON writes a result for programs.
func (c *command) printJSON(result any) error {
	b, err := json.Marshal(result, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", b)
	return err
}
