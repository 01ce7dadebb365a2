package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
)

func (c *command) keys() *cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{
			&cli.StringFlag{Name: "keys", Usage: "`PATH` of the folder or key set"},
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` of the server whose keys they are"},
			oneOf(&cli.StringFlag{Name: "output", Usage: "`FORMAT`: table or json", Value: "table"}, "table", "json"),
		}, more...)
	}
	return &cli.Command{
		Name:  "keys",
		Usage: "list, add and retire the keys of access tokens",
		Description: "The keys are in a folder, or in a key set: one file that is given to all servers, whose name ends in .json.\n" +
			"With neither --keys nor --config, the environment says where they are.",
		Commands: []*cli.Command{
			{
				Name: "list", Usage: "tell which keys there are, and what each is good for", Flags: flags(), OnUsageError: onUsageError,
				Action: func(_ context.Context, cmd *cli.Command) error {
					return c.withKeys(cmd, accesstoken.ListKeys)
				},
			},
			{
				Name: "add", Usage: "make new keys, which make tokens some time later",
				Description: "Until then they only check tokens, so that every server can get them before. Without keys, it makes the first ones.",
				Flags: flags(
					oneOf(&cli.StringFlag{Name: "use", Usage: "`USE` of the key: enc, which seals opaque tokens, or sig, which signs JWTs; absent: a key of each"}, "enc", "sig"),
					&cli.DurationFlag{Name: "after", Usage: "`TIME` until they make tokens, from 5m to 168h; absent: 1h in a key set, 5m in a folder", HideDefault: true},
				),
				OnUsageError: onUsageError, Action: c.addKeys,
			},
			{
				Name: "retire", Usage: "take a key out of use for which there is no token any more", ArgsUsage: "ID",
				Flags:        flags(&cli.BoolFlag{Name: "force", Usage: "also when there are tokens, which are refused from then on"}),
				OnUsageError: onUsageError, Action: c.retireKey,
				ArgValidator: func(_ context.Context, cmd *cli.Command) error {
					if cmd.Args().Len() != 1 {
						return usagef("retire takes the id of one key; waybill keys list tells them")
					}
					return nil
				},
			},
		},
		Action: func(context.Context, *cli.Command) error { return usagef("keys is followed by list, add or retire") },
	}
}

func (c *command) addKeys(_ context.Context, cmd *cli.Command) error {
	after := cmd.Duration("after")
	if cmd.IsSet("after") && (after < accesstoken.MinKeyDelay || after > accesstoken.MaxKeyDelay) {
		return usagef("--after: %s is not from %s to %s", after, accesstoken.MinKeyDelay, accesstoken.MaxKeyDelay)
	}
	var uses []string
	if use := cmd.String("use"); use != "" {
		uses = []string{use}
	}
	return c.withKeys(cmd, func(source string) ([]accesstoken.KeyInfo, error) {
		list, err := accesstoken.AddKeys(source, after, uses...)
		if err != nil || !accesstoken.IsKeySet(source) {
			return list, err
		}
		var from time.Time
		for _, k := range list {
			if k.State == accesstoken.KeyPreActivation && (from.IsZero() || k.Active.Before(from)) {
				from = k.Active
			}
		}
		if !from.IsZero() {
			fmt.Fprintf(c.err, "Give %s to all servers before %s, when a new key begins to make tokens.\n", source, from.Format(time.RFC3339))
		}
		return list, nil
	})
}

func (c *command) retireKey(_ context.Context, cmd *cli.Command) error {
	return c.withKeys(cmd, func(source string) ([]accesstoken.KeyInfo, error) {
		list, err := accesstoken.RetireKey(source, cmd.Args().First(), cmd.Bool("force"))
		if errors.Is(err, accesstoken.ErrKeyInUse) {
			err = hintedError{err, "With --force it is taken out of use all the same, and all tokens made with it are refused."}
		}
		return list, err
	})
}

// withKeys does something with the keys of a source, and prints those that there are then.
func (c *command) withKeys(cmd *cli.Command, do func(source string) ([]accesstoken.KeyInfo, error)) error {
	source, err := c.keySource(cmd)
	if err != nil {
		return err
	}
	list, failed := do(source)
	switch {
	case list == nil:
	case cmd.String("output") == "json":
		err = c.printJSON(list)
	default:
		table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tUSE\tMADE\tSTATE")
		for _, k := range list {
			state := map[accesstoken.KeyState]string{
				accesstoken.KeyActive:        "makes tokens",
				accesstoken.KeyPreActivation: "will make tokens from " + k.Active.Format(time.RFC3339),
				accesstoken.KeyDeactivated:   "checks only, until " + k.Until.Format(time.RFC3339),
			}[k.State]
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", k.ID, k.Use, k.Created.Format(time.RFC3339), state)
		}
		err = table.Flush()
	}
	return cmp.Or(failed, err)
}

// keySource is where the keys are: as the command line says, or the configuration.
func (c *command) keySource(cmd *cli.Command) (string, error) {
	path, file := cmd.String("keys"), cmd.String("config")
	switch {
	case path != "" && file != "":
		return "", usagef("--keys and --config exclude each other")
	case keyfile.IsText(path):
		return "", usagef("--keys names a folder or file: keys themselves would show in the list of processes")
	case path != "":
		return path, nil
	case file == "" && c.getenv("WAYBILL_TOKENS_KEYS") == "" && c.getenv("WAYBILL_DATA") == "":
		return "", usagef("give --keys, or --config of the server whose keys they are")
	}
	cfg, problems, err := config.Inspect(file, os.Environ())
	if err != nil {
		return "", err
	}
	problems = slices.DeleteFunc(problems, func(p config.Problem) bool { // of others it is for check to tell
		return cfg.Data != "" && p.Key != "data" && p.Key != "tokens.keys"
	})
	if len(problems) > 0 {
		return "", &config.Error{Problems: problems}
	}
	return string(cfg.Tokens.Keys), nil
}
