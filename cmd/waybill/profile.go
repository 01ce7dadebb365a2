package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/profile"
)

func (c *command) profile() *cli.Command {
	one := func(_ context.Context, cmd *cli.Command) error {
		if cmd.Args().Len() != 1 {
			return usagef("%s takes the name of one profile", cmd.Name)
		}
		return nil
	}
	return &cli.Command{
		Name:  "profile",
		Usage: "keep what waybill token and waybill request have to know of a server",
		Description: "A profile is a YAML file with the flags of waybill token. It is in the folder of this account's settings\n" +
			"(~/.config/waybill/profiles), or wherever a path says. It is used when --profile names it; ./" + profile.Local + " and\n" +
			"the profile " + profile.Default + " are used when none is named. A flag wins over a profile that is named, which wins over the\n" +
			"environment, and that over a profile that is not.",
		Commands: []*cli.Command{
			{
				Name: "add", Usage: "write a profile", ArgsUsage: "NAME",
				Description: "Its flags are those of waybill token; what is not given is not written. The key and its certificates are\n" +
					"read and judged before, and the name of a file is written so that it is found from any folder.",
				Flags: append(flagsOf(withoutFallbacks(tokenSettings())),
					&cli.BoolFlag{Name: "force", Usage: "also when there is a profile of this name, which is replaced"}),
				OnUsageError: onUsageError, ArgValidator: one, Action: c.addProfile,
			},
			{
				Name: "list", Usage: "print the names of the profiles, and their servers", OnUsageError: onUsageError, Action: c.listProfiles,
			},
			{
				Name: "show", Usage: "print a profile", ArgsUsage: "NAME", OnUsageError: onUsageError, ArgValidator: one,
				Action: func(_ context.Context, cmd *cli.Command) error {
					path, err := profile.Locate(cmd.Args().First())
					if err != nil {
						return usageError{err}
					}
					if _, err := profile.Load(path); err != nil {
						return noProfile(cmd.Args().First(), err)
					}
					text, err := os.ReadFile(path)
					if err != nil {
						return err
					}
					c.say("%s", path)
					_, err = c.out.Write(text)
					return err
				},
			},
		},
		Action: func(context.Context, *cli.Command) error { return usagef("profile is followed by add, list or show") },
	}
}

// withoutFallbacks are settings that are not written when nobody gives them.
func withoutFallbacks(all []setting) []setting {
	for i := range all {
		all[i].variable, all[i].fallback = "", ""
	}
	return all
}

func (c *command) addProfile(_ context.Context, cmd *cli.Command) error {
	path, err := profile.Locate(cmd.Args().First())
	if err != nil {
		return usageError{err}
	}
	set := &settings{given: make(map[string]given), known: withoutFallbacks(tokenSettings())}
	var values []profile.Value
	for _, f := range set.known {
		if cmd.IsSet(f.flag) {
			set.given[f.flag] = given{cmd.String(f.flag), "--" + f.flag}
			values = append(values, profile.Value{Key: f.key(), Text: cmd.String(f.flag)})
		}
	}
	if len(values) == 0 {
		return usagef("there is nothing to write: give the flags of waybill token, such as --server and --audience")
	}
	if keyfile.IsText(set.get("certificates")) {
		return usagef("--certificates: name the file that holds them")
	}
	text, err := profile.Format(path, "Written by waybill profile add. Relative paths are relative to this file.", values)
	if err != nil {
		return err
	}
	if _, err := profile.Parse(path, text); err != nil {
		return usageError{asFlags(err)}
	}
	if err := c.checkFiles(set); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := writeFile(path, text, 0o600, cmd.Bool("force")); err != nil {
		return err
	}
	c.say("written: %s", path)
	if left := set.missingForToken(); left != nil {
		c.say("note: it does not say everything: %v", left)
	}
	return nil
}

// asFlags says of flags what is wrong with the profile that they would make.
func asFlags(err error) error {
	found, ok := errors.AsType[*config.Error](err)
	if !ok {
		return err
	}
	var wrong []error
	for _, p := range found.Problems {
		wrong = append(wrong, errors.New(strings.TrimSpace(fmt.Sprintf("--%s: %s. %s", strings.ReplaceAll(p.Key, "_", "-"), p.Message, p.Hint))))
	}
	return errors.Join(wrong...)
}

// checkFiles reads the files that settings name.
func (c *command) checkFiles(set *settings) error {
	if set.get("key") != "" {
		pair, err := c.readSeal(set)
		if err != nil {
			return err
		}
		if err := pair.Close(); err != nil {
			return err
		}
	}
	if ca := set.get("ca"); ca != "" {
		if _, err := readCertificates(ca); err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
	}
	return nil
}

func (c *command) listProfiles(context.Context, *cli.Command) error {
	names, err := profile.Names()
	if err != nil {
		return err
	}
	dir, err := profile.Dir()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		c.say("there is no profile in %s", dir)
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSERVER\tCLIENT")
	var broken []error
	for _, name := range names {
		path, err := profile.Locate(name)
		var p *profile.Profile
		if err == nil {
			p, err = profile.Load(path)
		}
		if err != nil {
			broken = append(broken, err)
			p = new(profile.Profile)
		}
		server := p.Value("server")
		if server == "" {
			server = p.Value("token_endpoint")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, server, p.Value("client_id"))
	}
	return errors.Join(append(broken, table.Flush())...)
}

// writeFile writes a file of this mode, whole or not at all. One that is there is replaced by force only.
func writeFile(path string, data []byte, mode fs.FileMode, force bool) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with the mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if removed := os.Remove(file.Name()); err == nil && !errors.Is(removed, fs.ErrNotExist) {
			err = removed
		}
	}()
	_, err = file.Write(data)
	if err := errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
		return err
	}
	if force {
		return os.Rename(file.Name(), path)
	}
	err = os.Link(file.Name(), path) // which, other than a rename, never replaces a file
	if errors.Is(err, fs.ErrExist) {
		return hintedError{fmt.Errorf("%s is there already", path), "Choose another name, or replace it with --force."}
	}
	return err
}
