package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/permission"
)

// completion prints scripts for shells. They hold all commands and flags, and the values of flags that have few: nothing of a
// line that is being typed is carried out to complete it. The names of profiles are those of their files.
func (c *command) completion() *cli.Command {
	shell := func(name, usage string, script func([]node) string) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, OnUsageError: onUsageError,
			Action: func(_ context.Context, cmd *cli.Command) error {
				_, err := io.WriteString(c.out, script(nodes(cmd.Root())))
				return err
			},
		}
	}
	return &cli.Command{
		Name:  "completion",
		Usage: "print a script that completes commands and flags in a shell",
		Description: "Load it from the file that your shell reads at its start, or put it where the shell looks for such\n" +
			"scripts. Print it again after an update of waybill.",
		Commands: []*cli.Command{
			shell("bash", "for bash 3.2 or later", bashCompletion),
			shell("zsh", "for zsh", zshCompletion),
			shell("fish", "for fish 3 or later", fishCompletion),
		},
		Action: func(context.Context, *cli.Command) error {
			return usagef("completion is followed by the name of a shell: bash, zsh or fish")
		},
	}
}

// spelled are the names of a flag as they are typed.
func (d flagDoc) spelled() []string {
	spelled := make([]string, len(d.names))
	for i, name := range d.names {
		spelled[i] = "--" + name
		if len(name) == 1 {
			spelled[i] = "-" + name
		}
	}
	return spelled
}

// words are what can follow the command: the commands below it, and its flags. Valued are the flags that have a value.
func (n *node) words() (commands, flags, valued []string) {
	for _, sub := range n.visible() {
		commands = append(commands, sub.Name)
	}
	for _, f := range n.flags {
		flags = append(flags, f.spelled()...)
		if f.value != "" {
			valued = append(valued, f.spelled()...)
		}
	}
	return commands, flags, valued
}

// choices calls back for each spelling of a flag whose values are known.
func (n *node) choices(tell func(spelled string, f flagDoc)) {
	for _, f := range n.flags {
		if f.profiles || len(f.values) > 0 {
			for _, name := range f.spelled() {
				tell(name, f)
			}
		}
	}
}

// step is the path before a command and its name, as the scripts match them while they go along the line.
func (n *node) step() string {
	last := len(n.path) - 1
	return strings.Join(n.path[:last], " ") + "/" + n.path[last]
}

// bashCompletion leaves a word that is the value of a flag to the completion of files, unless its values are known, and so one
// for which there is nothing.
func bashCompletion(all []node) string {
	var steps, cases, choices strings.Builder
	for _, n := range all {
		commands, flags, valued := n.words()
		if len(n.path) > 0 {
			fmt.Fprintf(&steps, "      %s) at=%s ;;\n", permission.Quote(n.step()), permission.Quote(n.name()))
		}
		fmt.Fprintf(&cases, "    %s)\n      commands=%s\n      flags=%s\n      valued=%s ;;\n", permission.Quote(n.name()),
			permission.Quote(strings.Join(commands, " ")), permission.Quote(strings.Join(flags, " ")), permission.Quote(" "+strings.Join(valued, " ")+" "))
		n.choices(func(spelled string, f flagDoc) {
			values := permission.Quote(strings.Join(f.values, " "))
			if f.profiles {
				values = `$(_waybill_profiles)`
			}
			fmt.Fprintf(&choices, "    %s) values=%s ;;\n", permission.Quote(n.name()+" "+spelled), values)
		})
	}
	return `# Completes waybill in bash. Written by waybill completion bash.
` + profileNames("    [ -e \"$file\" ] || continue\n") + `_waybill() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} at= commands= flags= valued= values= i
  COMPREPLY=()
  if [[ $current == = ]]; then
    current=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/${COMP_WORDS[i]}" in
` + steps.String() + `    esac
  done
  case $at in
` + cases.String() + `  esac
  case "$at $before" in
` + choices.String() + `  esac
  if [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    return
  fi
  case $valued in *" $before "*) return ;; esac
  case $current in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$commands" -- "$current")) ;;
  esac
}
complete -o bashdefault -o default -F _waybill waybill
`
}

// profileNames is a function for shells like that of POSIX, which prints the names of profiles. In the loop over their files
// comes first what is given.
func profileNames(first string) string {
	return `_waybill_profiles() {
  local file
  for file in "${XDG_CONFIG_HOME:-$HOME/.config}"/waybill/profiles/*.yaml "$HOME/Library/Application Support"/waybill/profiles/*.yaml; do
` + first + `    file=${file##*/}
    printf '%s\n' "${file%.yaml}"
  done
}
`
}

func zshCompletion(all []node) string {
	var steps, cases, choices strings.Builder
	described := func(word, usage string) string {
		return " " + permission.Quote(strings.ReplaceAll(word, ":", `\:`)+":"+oneLine(usage))
	}
	for _, n := range all {
		if len(n.path) > 0 {
			fmt.Fprintf(&steps, "      (%s) at=%s ;;\n", permission.Quote(n.step()), permission.Quote(n.name()))
		}
		var commands, flags strings.Builder
		for _, sub := range n.visible() {
			commands.WriteString(described(sub.Name, sub.Usage))
		}
		for _, f := range n.flags {
			for _, name := range f.spelled() {
				flags.WriteString(described(name, f.usage))
			}
		}
		_, _, valued := n.words()
		fmt.Fprintf(&cases, "    (%s)\n      commands=(%s)\n      flags=(%s)\n      valued=(%s) ;;\n", permission.Quote(n.name()),
			strings.TrimSpace(commands.String()), strings.TrimSpace(flags.String()), strings.Join(valued, " "))
		n.choices(func(spelled string, f flagDoc) {
			values := strings.Join(f.values, " ")
			if f.profiles {
				values = `${(f)"$(_waybill_profiles)"}`
			}
			fmt.Fprintf(&choices, "    (%s) values=(%s) ;;\n", permission.Quote(n.name()+" "+spelled), values)
		})
	}
	return `#compdef waybill
# Completes waybill in zsh. Written by waybill completion zsh.
` + profileNames("    [[ -e $file ]] || continue\n") + `_waybill() {
  setopt local_options null_glob
  local at= word before=${words[CURRENT-1]}
  local -a commands flags valued values
  for word in "${(@)words[2,CURRENT-1]}"; do
    case "$at/$word" in
` + steps.String() + `    esac
  done
  case $at in
` + cases.String() + `  esac
  if [[ ${words[CURRENT]} == --*=* ]]; then
    before=${words[CURRENT]%%=*}
    compset -P '*='
  fi
  case "$at $before" in
` + choices.String() + `  esac
  if (( ${#values} )); then
    if [[ $before == (--profile|-p) ]]; then
      _files
    fi
    _describe value values
  elif (( ${valued[(Ie)$before]} )); then
    _files
  elif [[ ${words[CURRENT]} == -* ]]; then
    _describe -o flag flags
  elif (( ${#commands} )); then
    _describe command commands
  else
    _files
  fi
}
if [ "${funcstack[1]}" = _waybill ]; then
  _waybill "$@"
else
  compdef _waybill waybill
fi
`
}

//nolint:dupword // fish ends each block so
func fishCompletion(all []node) string {
	var steps, lines strings.Builder
	for _, n := range all {
		if len(n.path) > 0 {
			fmt.Fprintf(&steps, "            case %s\n                set at %s\n", fishQuote(n.step()), fishQuote(n.name()))
		}
		when := "complete -c waybill -n " + fishQuote("test (__waybill_at) = "+fishQuote(n.name()))
		for _, sub := range n.visible() {
			fmt.Fprintf(&lines, "%s -f -a %s -d %s\n", when, sub.Name, fishQuote(oneLine(sub.Usage)))
		}
		for _, f := range n.flags {
			lines.WriteString(when)
			for _, name := range f.names {
				kind := " -l "
				if len(name) == 1 {
					kind = " -s "
				}
				lines.WriteString(kind + name)
			}
			switch {
			case f.profiles:
				lines.WriteString(" -r -a '(__waybill_profiles)'")
			case len(f.values) > 0:
				lines.WriteString(" -x -a " + fishQuote(strings.Join(f.values, " ")))
			case f.value != "":
				lines.WriteString(" -r")
			}
			fmt.Fprintf(&lines, " -d %s\n", fishQuote(oneLine(f.usage)))
		}
	}
	return `# Completes waybill in fish. Written by waybill completion fish.
function __waybill_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        switch "$at/$word"
` + steps.String() + `        end
    end
    echo "$at"
end
function __waybill_profiles
    set -l settings $XDG_CONFIG_HOME
    test -n "$settings"; or set settings $HOME/.config
    for file in $settings/waybill/profiles/*.yaml "$HOME/Library/Application Support"/waybill/profiles/*.yaml
        basename $file .yaml
    end
end
complete -c waybill -e
` + lines.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
