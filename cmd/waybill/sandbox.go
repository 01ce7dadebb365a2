package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/console"
	"github.com/waybill-token/waybill/internal/permission"
	"github.com/waybill-token/waybill/sandbox"
)

// defaultDir is the folder of the data space unless another one is named.
const defaultDir = "waybill-sandbox"

func (c *command) sandbox() *cli.Command {
	return &cli.Command{
		Name:  "sandbox",
		Usage: "run a whole data space on this machine",
		Description: "Makes a certificate authority, a Participant Registry, a provider and consumers in every standing in a\n" +
			"folder, once, and starts the servers. Prints the commands to try next. The subcommands watch and change a\n" +
			"sandbox that runs.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` of the data space", Value: defaultDir},
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the provider; the registry, the status services and the switches follow it on 127.0.0.1", Value: "127.0.0.1:8080", Local: true},
			oneOf(&cli.StringFlag{Name: "framework", Usage: "`VERSION` that the registry speaks: 3.0 or 2", Value: string(sandbox.Framework3), Local: true},
				string(sandbox.Framework3), string(sandbox.Framework2)),
			&cli.BoolFlag{Name: "real-key-sizes", Usage: "give the CAs keys of 4096 bits, as real ones have; takes longer", Local: true},
		},
		Commands: c.sandboxCommands(),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			bits := 2048
			if cmd.Bool("real-key-sizes") {
				bits = 4096
			}
			s, err := sandbox.Open(ctx, sandbox.Config{
				Dir: cmd.String("dir"), Listen: cmd.String("listen"), CAKeyBits: bits,
				Log:       slog.New(slog.NewTextHandler(c.err, nil)),
				Progress:  func(step string) { fmt.Fprintln(c.err, step) },
				Framework: sandbox.Framework(cmd.String("framework")),
			})
			if err != nil {
				return hintListen(err, cmd.String("listen"))
			}
			if s.Console, err = console.New(console.Config{Sandbox: s, Command: selfCommand()}); err != nil {
				return err
			}
			if err := c.printNext(s, cmd.String("dir")); err != nil {
				return err
			}
			return s.Run(ctx)
		},
	}
}

// hintListen adds a hint to the error of an address that is not to be had. The other
// addresses either give way to free ones or say themselves what to do.
func hintListen(err error, address string) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "listen" || op.Addr == nil {
		return err
	}
	_, wanted, _ := net.SplitHostPort(address)
	if _, port, _ := net.SplitHostPort(op.Addr.String()); port != wanted {
		return err
	}
	return hintedError{err, "Name another address with --listen, such as 127.0.0.1:9080; 127.0.0.1:0 is one that is free."}
}

// printNext prints commands that work when pasted into a second terminal in the
// same folder.
func (c *command) printNext(s *sandbox.Sandbox, dir string) error {
	self, state := selfCommand(), s.State()
	as := func(p sandbox.Participant) string { return " -p " + quote(p.ProfileFile) }
	change := sandboxCommand(dir)
	_, err := io.WriteString(c.out, strings.Join([]string{
		"",
		fmt.Sprintf("The sandbox is ready: provider %s at %s, registry %s at %s. Ctrl-C stops it.",
			s.Provider.ID, s.URL, state.Registry.ID, state.Registry.URL),
		"Open " + state.Control + "/ in a browser to see who is there and what is decided, and to try assertions.",
		"Try these in a second terminal, in this folder:",
		"",
		"# 1. Get a token.",
		self + " token" + as(s.Consumer),
		"",
		"# 2. Call the service with it: it answers who the token says you are.",
		self + " request GET " + quote(s.URL+"/me") + as(s.Consumer),
		"",
		"# 3. See why a consumer whose compliance has ended is refused.",
		self + " assertion" + as(s.Former) + " |",
		"  " + self + " explain --config " + quote(s.ConfigFile),
		"",
		"# 4. Suspend the consumer, and try 1 again: the provider notices within " + s.Freshness().String() + ".",
		change + " set " + s.Consumer.Folder + ".standing suspended",
		"",
		"# 5. See what else can be changed: certificates, the trusted list, how registry and OCSP answer.",
		change + " show",
		"",
		"# 6. Put everything back, which the provider notices as well.",
		change + " reset",
		"",
	}, "\n")+"\n")
	return err
}

// sandboxCommands watch and change a sandbox that runs.
func (c *command) sandboxCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:         "show",
			Usage:        "print the switches of a running sandbox and how they stand",
			Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print everything as JSON"}},
			OnUsageError: onUsageError,
			Action: func(ctx context.Context, cmd *cli.Command) error {
				return withSandbox(cmd, func(r *sandbox.Remote) error {
					state, err := r.State(ctx)
					switch {
					case err != nil:
						return err
					case cmd.Bool("json"):
						return c.printJSON(state)
					}
					table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
					fmt.Fprintln(table, "SWITCH\tIS\tCAN BE")
					for _, s := range state.Switches {
						fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, s.Value, strings.Join(s.Choices, " "))
					}
					return table.Flush()
				})
			},
		},
		{
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
				return withSandbox(cmd, func(r *sandbox.Remote) error {
					_, err := r.Set(ctx, name, value)
					if err == nil {
						fmt.Fprintln(c.err, name, "is", value)
					}
					return err
				})
			},
		},
		{
			Name:         "reset",
			Usage:        "put every switch of a running sandbox back",
			OnUsageError: onUsageError,
			Action: func(ctx context.Context, cmd *cli.Command) error {
				return withSandbox(cmd, func(r *sandbox.Remote) error {
					_, err := r.Reset(ctx)
					if err == nil {
						fmt.Fprintln(c.err, "every switch is as it was in the beginning")
					}
					return err
				})
			},
		},
	}
}

// withSandbox does something with the sandbox that runs in the folder. Its errors say what to do about a sandbox that
// cannot be asked, or that does not take the order.
func withSandbox(cmd *cli.Command, do func(*sandbox.Remote) error) error {
	dir := cmd.String("dir")
	running, err := sandbox.Find(dir)
	if err == nil {
		err = do(running)
	}
	switch {
	case errors.Is(err, sandbox.ErrNotRunning):
		return hintedError{err, "Start one: " + sandboxCommand(dir)}
	case errors.Is(err, sandbox.ErrNoSwitch), errors.Is(err, sandbox.ErrNoChoice):
		return usageError{err}
	}
	return err
}

// sandboxCommand is how the sandbox of a folder can be started or changed.
func sandboxCommand(dir string) string {
	command := selfCommand() + " sandbox"
	if dir != defaultDir {
		command += " --dir " + quote(dir)
	}
	return command
}

// selfCommand is how this program can be started again from the present folder.
func selfCommand() string {
	path, err := os.Executable()
	if err != nil {
		return "waybill"
	}
	// go run builds into a folder of its own and removes it in the end.
	if strings.Contains(filepath.ToSlash(path), "/go-build") {
		if _, err := os.Stat(filepath.FromSlash("cmd/waybill/main.go")); err == nil {
			return "go run ./cmd/waybill"
		}
		return quote(path)
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			return quote("." + string(filepath.Separator) + rel)
		}
	}
	return quote(path)
}

// quote makes one word of a path for a POSIX shell, without quotes where none are needed.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(plain, r) }) {
		return s
	}
	return permission.Quote(s)
}

// plain characters need no quoting.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-+,:@%"
