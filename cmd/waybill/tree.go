package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// A node is a command as its help shows it.
type node struct {
	path    []string // below waybill; empty: the program itself
	command *cli.Command
	flags   []flagDoc
}

func (n *node) name() string { return strings.Join(n.path, " ") }

// visible are the commands below this one.
func (n *node) visible() []*cli.Command {
	return slices.DeleteFunc(slices.Clone(n.command.Commands), func(c *cli.Command) bool { return c.Hidden })
}

// A flagDoc is a flag as it is told of.
type flagDoc struct {
	names    []string // without hyphens, the long one first
	value    string   // what stands for its value; empty: it has none
	values   []string // those that are known
	profiles bool     // the value is the name of a profile, or of a file
	usage    string
	fallback string
}

// A valuesFlag has values of which some are known, and can be completed.
type valuesFlag struct {
	*cli.StringFlag

	values []string
}

// A listFlag is the same, and may be given several times.
type listFlag struct {
	*cli.StringSliceFlag

	values []string
}

// A profileFlag has the name of a profile for its value, or that of a file.
type profileFlag struct{ *cli.StringFlag }

// suggesting is a flag some of whose values are known.
func suggesting(f *cli.StringFlag, values ...string) cli.Flag { return &valuesFlag{f, values} }

// oneOf is a flag with few values. It refuses others.
func oneOf(f *cli.StringFlag, values ...string) cli.Flag {
	f.Validator = func(s string) error {
		if slices.Contains(values, s) {
			return nil
		}
		return errors.New(strings.TrimSpace(fmt.Sprintf("%q is none of %s. %s", s, strings.Join(values, ", "), meant(s, values)))) // of which only the text is kept
	}
	return suggesting(f, values...)
}

// nodes are all commands that are shown, each with its flags and those that it has from above.
func nodes(root *cli.Command) []node {
	var all []node
	var walk func(path []string, inherited []cli.Flag, cmd *cli.Command)
	walk = func(path []string, inherited []cli.Flag, cmd *cli.Command) {
		n := node{path: path, command: cmd}
		for _, f := range slices.Concat(cmd.Flags, inherited) {
			n.flags = append(n.flags, docOf(f))
		}
		if !slices.ContainsFunc(n.flags, func(d flagDoc) bool { return d.names[0] == "help" }) { // added when a command runs
			n.flags = append(n.flags, flagDoc{names: []string{"help", "h"}, usage: "show help"})
		}
		all = append(all, n)
		below := slices.Clone(inherited)
		for _, f := range cmd.Flags {
			if local, ok := f.(cli.LocalFlag); ok && !local.IsLocal() {
				below = append(below, f)
			}
		}
		for _, sub := range n.visible() {
			walk(slices.Concat(path, []string{sub.Name}), below, sub)
		}
	}
	walk(nil, nil, root)
	return all
}

// docOf is what help says of a flag: what stands between backquotes in its usage is the name of its value.
func docOf(f cli.Flag) flagDoc {
	d := flagDoc{names: f.Names()}
	told, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return d
	}
	switch f := f.(type) {
	case *valuesFlag:
		d.values = f.values
	case *listFlag:
		d.values = f.values
	case *profileFlag:
		d.profiles = true
	}
	d.usage = told.GetUsage()
	before, rest, quoted := strings.Cut(d.usage, "`")
	name, after, closed := strings.Cut(rest, "`")
	if quoted && closed {
		d.usage = before + name + after
	}
	if told.TakesValue() {
		d.value = "VALUE"
		if quoted && closed {
			d.value = name
		}
		if value := told.GetValue(); !slices.Contains([]string{"", "0", "0s", "[]"}, value) {
			d.fallback = strings.Trim(value, `"`)
		}
	}
	return d
}
