package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is made of the code in docs instead of comparing it")

const reference = "../../docs/commands.md"

// TestReference keeps docs/commands.md true to the commands: it is made of what --help and the manual page say.
func TestReference(t *testing.T) {
	t.Parallel()
	want := commandReference(allNodes())
	if *update {
		write(t, reference, want)
		return
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/commands.md is out of date; run go test ./cmd/waybill -run TestReference -update (-want +got):\n%s", diff)
	}
}

// Every command that does something says when the answer is no.
func TestRefusals(t *testing.T) {
	t.Parallel()
	all := refusals()
	for _, n := range allNodes() {
		groups := slices.Contains([]string{"", "keys", "audit", "profile", "completion"}, n.name())
		if _, ok := all[n.name()]; ok == groups {
			t.Errorf("waybill %s: says when its exit status is 1: %t", n.name(), ok)
		}
		delete(all, n.name())
	}
	for name := range all {
		t.Errorf("there is no command %s, of which an exit status is told", name)
	}
}

const referenceIntro = `# Commands

Every command of §waybill§, its flags, and when it says no. The same is in §waybill COMMAND --help§ and in §waybill man§.
Addresses, names of files and identifiers in the examples are made up.

This page is generated from the commands: §go test ./cmd/waybill -run TestReference -update§.

## What holds for all

%s %s

A name behind two hyphens is a flag; §--flag VALUE§ and §--flag=VALUE§ are the same. §-§ in place of an input file is standard input. Colour
is for terminals only, and not with §NO_COLOR§ or §TERM=dumb§.

## Variables

%s

| variable | what it says | read by |
|---|---|---|
`

// others are variables that no flag names.
var others = [][3]string{
	{passwordVariable, "password of the file of your key, or PIN of the hardware that holds it", "`waybill init`, `serve`, `check`, `token`, `request`, `profile add`, `assertion`, `probe`, `bench`"},
	{passwordVariable + "_FILE", "file that holds it", "the same"},
	{"WAYBILL_…", "a key of the configuration: [how they are called](configuration.md), and [secrets](configuration.md#secrets)", "`waybill serve`, `check`, `keys`, `explain --config`"},
	{"XDG_CONFIG_HOME", "folder of the settings of an account, `~/.config` unless set, in which `waybill/profiles` is (Linux; elsewhere as the system has it)", "what takes `--profile`"},
	{"HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "proxy by which a server or registry is called", "`waybill token`, `request`, `init`, `serve`, `check`; revocation services never: [trust.revocation_proxy](configuration.md)"},
	{"GOGC, GOMEMLIMIT", "when garbage is collected: [what is set without them](configuration.md)", "`waybill serve`"},
	{"LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID", "sockets of a service manager: [restarts](configuration.md#stopping-and-restarting)", "`waybill serve`"},
	{"NO_COLOR, TERM", "see above", "`waybill explain`"},
}

// commandReference is the page.
func commandReference(all []node) string {
	var b strings.Builder
	fmt.Fprintf(&b, backquoted(referenceIntro), aboutStreams, aboutStatus, aboutEnvironment)
	writeVariables(&b, all)
	b.WriteString("\n## The commands\n\n")
	for _, n := range all[1:] {
		fmt.Fprintf(&b, "%s- [`waybill %s`](#waybill-%s): %s\n", strings.Repeat("  ", len(n.path)-1), n.name(), strings.ReplaceAll(n.name(), " ", "-"), n.command.Usage)
	}
	for _, n := range all[1:] {
		writeCommand(&b, n)
	}
	return b.String()
}

// backquoted puts the backquotes into a text that is itself between backquotes.
func backquoted(text string) string { return strings.ReplaceAll(text, "§", "`") }

// variable cuts the name of a variable from the end of what a flag says.
func variable(f flagDoc) (usage, name string) {
	usage, name, _ = strings.Cut(f.usage, " [$")
	return usage, strings.TrimSuffix(name, "]")
}

func writeVariables(b *strings.Builder, all []node) {
	var order []string
	flags, readers := make(map[string]string), make(map[string][]string)
	for _, n := range all {
		for _, f := range n.flags {
			if _, name := variable(f); name != "" {
				if flags[name] == "" {
					order = append(order, name)
				}
				flags[name] = f.spelled()[0]
				readers[name] = append(readers[name], "`"+n.name()+"`")
			}
		}
	}
	for _, name := range order {
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", name, flags[name], strings.Join(readers[name], ", "))
	}
	for _, row := range others {
		names := strings.Split(row[0], ", ")
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.Join(names, "`, `"), row[1], row[2])
	}
}

func writeCommand(b *strings.Builder, n node) {
	anchor := strings.ReplaceAll(n.name(), " ", "-")
	fmt.Fprintf(b, "\n## waybill %s\n\n%s\n\n```text\nwaybill %s\n```\n", n.name(), sentence(n.command.Usage), synopsis(n))
	about, _, _ := strings.Cut(n.command.Description, "Examples:\n\n")
	for paragraph := range strings.SplitSeq(strings.Trim(about, "\n"), "\n\n") {
		switch {
		case paragraph == "":
		case strings.HasPrefix(paragraph, "   "):
			writeLines(b, strings.Split(strings.ReplaceAll(paragraph[3:], "\n   ", "\n"), "\n"))
		default:
			fmt.Fprintf(b, "\n%s\n", paragraph)
		}
	}
	for i, sub := range n.visible() {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "- [`%s`](#waybill-%s-%s): %s\n", sub.Name, anchor, sub.Name, sub.Usage)
	}
	writeFlagTable(b, n.flags)
	if lines := examples()[n.name()]; len(lines) > 0 {
		b.WriteString("\nExamples:\n")
		writeLines(b, lines)
	}
	if when := refusals()[n.name()]; when != "" {
		fmt.Fprintf(b, "\nIts exit status is 1 when %s.\n", when)
	}
}

// writeLines shows lines as they are. They are no shell blocks, since what they name does not exist.
func writeLines(b *strings.Builder, lines []string) {
	fmt.Fprintf(b, "\n```text\n%s\n```\n", strings.Join(lines, "\n"))
}

// synopsis is how a command is called: a command that says by itself nothing needs another one behind it.
func synopsis(n node) string {
	words := []string{n.name()}
	switch _, acts := refusals()[n.name()]; {
	case len(n.visible()) > 0 && acts:
		words = append(words, "[COMMAND]")
	case len(n.visible()) > 0:
		words = append(words, "COMMAND")
	}
	return strings.TrimSpace(strings.Join(append(words, "[FLAGS]", strings.TrimSpace(n.command.ArgsUsage)), " "))
}

func writeFlagTable(b *strings.Builder, flags []flagDoc) {
	b.WriteString("\n| flag | what it says | default | variable |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace
	for _, f := range flags {
		names := strings.Join(f.spelled(), "`, `")
		if f.value != "" {
			names += " " + f.value
		}
		usage, name := variable(f)
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", names, cell(usage), quoted(f.fallback), quoted(name))
	}
}

// quoted is a text between backquotes; nothing stays nothing.
func quoted(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
