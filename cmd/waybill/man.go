package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

// What holds for every command, on the manual page and in docs/commands.md.
const (
	aboutStreams     = "Results go to standard output, all else to standard error."
	aboutStatus      = "The exit status is 0 when it is done, 1 when the answer is no, and 2 when the command line is wrong."
	aboutEnvironment = "Flags whose text names a variable take their value from it when neither they are given nor a profile that is named says it; " +
		"a profile that is not named comes after both. " +
		"Every key of a configuration has a variable, too: party.id is WAYBILL_PARTY_ID."
)

// man prints the manual page, which is made of what --help says.
func (c *command) man() *cli.Command {
	return &cli.Command{
		Name:        "man",
		Usage:       "print the manual page",
		Description: "The page tells of all commands. Put it where man looks for pages of section 1.",
		Action: func(_ context.Context, cmd *cli.Command) error {
			_, err := io.WriteString(c.out, manual(nodes(cmd.Root())))
			return err
		},
	}
}

// manual is a page for man (man-pages(7)).
func manual(all []node) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".\\\" Written by waybill man.\n.nr HY 0\n.TH WAYBILL 1 \"\" %s \"User Commands\"\n", roffWord("waybill "+buildVersion()))
	fmt.Fprintf(&b, ".SH NAME\nwaybill \\- %s\n", roff(all[0].command.Usage))
	b.WriteString(".SH SYNOPSIS\n.B waybill\n.I command\n[options] [arguments]\n")
	b.WriteString(".SH DESCRIPTION\n" + roff(aboutStreams) + "\n")
	b.WriteString(".SH OPTIONS\n")
	writeFlags(&b, all[0].flags)
	b.WriteString(".SH COMMANDS\n")
	for _, n := range all[1:] {
		fmt.Fprintf(&b, ".SS %s\n%s\n", roffWord("waybill "+n.name()+" "+strings.TrimSpace(n.command.ArgsUsage)), roff(sentence(n.command.Usage)))
		writeDescription(&b, n.command.Description)
		writeFlags(&b, n.flags)
	}
	b.WriteString(".SH EXIT STATUS\n" + roff(aboutStatus) + " A command ends with 1 when\n")
	for _, n := range all {
		if when := refusals()[n.name()]; when != "" {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roffWord("waybill "+n.name()), roff(when))
		}
	}
	b.WriteString(".SH ENVIRONMENT\n" + roff(aboutEnvironment) + "\n")
	b.WriteString(".SH FILES\n.TP\n.I ~/.config/waybill/profiles/NAME.yaml\n" + roff("a profile; see waybill profile") + "\n")
	b.WriteString(".TP\n.I ./waybill\\-client.yaml\n" + roff("the profile of a folder, which is used when none is named") + "\n")
	return b.String()
}

func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// writeDescription keeps the lines that are indented, such as examples, as they are.
func writeDescription(b *strings.Builder, text string) {
	literal := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch indented := strings.HasPrefix(line, "   "); {
		case indented != literal && indented:
			b.WriteString(".PP\n.RS 4\n.EX\n")
		case indented != literal && line != "":
			b.WriteString(".EE\n.RE\n.PP\n")
		case line == "" && !literal:
			b.WriteString(".PP\n")
			continue
		case line == "":
			continue
		}
		literal = strings.HasPrefix(line, "   ")
		b.WriteString(roff(strings.TrimSpace(line)) + "\n")
	}
	if literal {
		b.WriteString(".EE\n.RE\n")
	}
}

func writeFlags(b *strings.Builder, flags []flagDoc) {
	for _, f := range flags {
		names := make([]string, len(f.names))
		for i, name := range f.spelled() {
			names[i] = `\fB` + roff(name) + `\fR`
			if f.value != "" {
				names[i] += ` \fI` + roff(f.value) + `\fR`
			}
		}
		usage := f.usage
		if f.fallback != "" {
			usage += " (default: " + f.fallback + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", strings.Join(names, ", "), roff(usage))
	}
}

// roff writes a text so that every character stands for itself.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// roffWord is a text as one argument of a request.
func roffWord(text string) string {
	return `"` + strings.ReplaceAll(roff(strings.TrimSpace(text)), `"`, `\(dq`) + `"`
}
