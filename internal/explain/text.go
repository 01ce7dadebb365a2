package explain

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/assertion"
)

// Width is that of a line of text.
const Width = 80

// Colours of a terminal.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// A printer writes lines for a terminal.
type printer struct {
	strings.Builder

	colour bool
}

// WriteText writes the view for people: what the assertion holds, what became of each rule, and the verdict, which is where
// the eye is when all has scrolled by. The first line is the verdict too, for whoever takes no more.
func (v *View) WriteText(w io.Writer, colour bool) error {
	p := &printer{colour: colour}
	p.WriteString(v.headline() + "\n\n")
	p.fields("header", v.Header)
	p.fields("claims", v.Claims)
	p.chain(v.Certificates)
	if v.Party != "" && !v.ofToken() { // whose is among its claims, and nobody was asked
		p.row("party", v.Party+", known to the registry")
	}
	if v.TrustedList != "" {
		p.row("list", v.TrustedList)
	}
	for _, status := range v.Revocation {
		p.row("status", status)
	}
	if len(v.Header)+len(v.Claims)+len(v.Certificates) > 0 {
		p.WriteByte('\n')
	}
	p.ladder(v.Rules)
	p.WriteByte('\n')
	for _, note := range v.Notes {
		p.wrapped("note: ", "      ", note)
	}
	p.wrapped("", "", v.Time)
	p.verdict(v)
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *printer) paint(colour, text string) string {
	if !p.colour {
		return text
	}
	return colour + text + plain
}

func (p *printer) row(name, text string) { p.wrapped(fmt.Sprintf("%-7s", name), "       ", text) }

// wrapped writes a text in lines of Width, the first behind a label and the others behind an indent.
func (p *printer) wrapped(label, indent, text string) {
	line, room := label, Width-len([]rune(indent))
	length, begun := visible(label)-len([]rune(indent)), false
	for word := range strings.FieldsSeq(text) {
		for rest := []rune(word); len(rest) > room; rest = []rune(word) { // it fits no line
			if begun {
				p.WriteString(line + "\n")
				line, length, begun = indent, 0, false
			}
			n := max(1, room-max(0, length))
			p.WriteString(line + string(rest[:n]) + "\n")
			line, length, word = indent, 0, string(rest[n:])
		}
		n := len([]rune(word))
		if begun && length+1+n > room {
			p.WriteString(line + "\n")
			line, length, begun = indent, 0, false
		}
		if begun {
			line += " "
			length++
		}
		line += word
		length += n
		begun = true
	}
	p.WriteString(strings.TrimRight(line, " ") + "\n")
}

// visible is how many places a text takes on a terminal, of which colours take none.
func visible(s string) int {
	for _, colour := range []string{red, green, yellow, bold, plain} {
		s = strings.ReplaceAll(s, colour, "")
	}
	return len([]rune(s))
}

func (p *printer) fields(title string, fields []Field) {
	if len(fields) == 0 {
		return
	}
	p.WriteString(p.paint(bold, title) + "\n")
	for _, f := range fields {
		text := f.Value
		if f.About != "" {
			text += " = " + f.About
		}
		label := fmt.Sprintf("  %-4s ", f.Name)
		if len(label) > Width/2 { // a stranger chose it
			label, text = "  ", f.Name+" "+text
		}
		p.wrapped(label, strings.Repeat(" ", 7), text)
	}
}

// chain draws the certificates as a tree, the root first.
func (p *printer) chain(certificates []Certificate) {
	if len(certificates) == 0 {
		return
	}
	p.WriteString(p.paint(bold, "chain") + "\n")
	indent := "  "
	if last := certificates[len(certificates)-1]; !last.SelfIssued {
		note := "(not in x5c)"
		if last.Anchor {
			note = "(not in x5c, and not needed)"
		}
		p.wrapped(indent, indent, last.Issuer+" "+note)
		indent += "└─ "
	}
	for i, c := range slices.Backward(certificates) {
		blank := strings.Repeat(" ", len([]rune(indent)))
		subject := c.Subject
		if c.Anchor {
			subject += " <- the trust anchor"
		}
		if i+1 < len(certificates) && certificates[i+1].NotIssuer {
			subject += " <- not issued by the one above"
		}
		p.wrapped(indent, blank, subject)
		for _, id := range c.PartyIDs {
			p.wrapped(blank, blank, "names "+Printable(string(id)))
		}
		p.wrapped(blank, blank, fmt.Sprintf("x5c[%d], %s, valid %s to %s", i, c.Key, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly)))
		if i == 0 {
			p.wrapped(blank, blank, "SHA-256 "+c.Thumbprint)
		}
		indent = blank + "└─ "
	}
}

// ladder writes a line for each rule, and one for all that were not reached.
func (p *printer) ladder(rules []Rule) {
	const indent = 8
	var skipped []Rule
	for _, r := range rules {
		label := fmt.Sprintf("%-*s", indent, r.Outcome)
		switch r.Outcome {
		case assertion.Fail:
			p.wrapped(p.paint(red, fmt.Sprintf("%-*s", indent, "FAIL"))+r.ID+"  ", strings.Repeat(" ", indent), r.Detail)
			p.wrapped(strings.Repeat(" ", indent)+"mend: ", strings.Repeat(" ", indent+6), r.Hint)
		case assertion.Pass:
			p.wrapped(fmt.Sprintf("%s%-29s ", p.paint(green, label), r.ID), strings.Repeat(" ", indent+30), r.Title)
		case assertion.Unknown:
			p.wrapped(fmt.Sprintf("%s%-29s ", p.paint(yellow, label), r.ID), strings.Repeat(" ", indent+30), r.Detail)
		case assertion.Skipped:
			skipped = append(skipped, r)
		}
	}
	if len(skipped) > 0 {
		p.wrapped(fmt.Sprintf("%-*s", indent, assertion.Skipped), strings.Repeat(" ", indent), "not reached: "+strings.Join(inGroups(skipped, rules), ", "))
	}
}

// inGroups names rules, and a group of which all are there by its name alone.
func inGroups(some, all []Rule) []string {
	size := func(rules []Rule) map[string]int {
		n := map[string]int{}
		for _, r := range rules {
			group, _, _ := strings.Cut(r.ID, ".")
			n[group]++
		}
		return n
	}
	in, of := size(some), size(all)
	var names []string
	for _, r := range some {
		group, _, _ := strings.Cut(r.ID, ".")
		name := r.ID
		if in[group] == of[group] && of[group] > 1 {
			name = group + ".*"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (p *printer) verdict(v *View) {
	failed, unknown := 0, 0
	for _, r := range v.Rules {
		switch r.Outcome {
		case assertion.Fail:
			failed++
		case assertion.Unknown:
			unknown++
		case assertion.Pass, assertion.Skipped:
		}
	}
	switch v.Verdict {
	case Accepted:
		p.wrapped("verdict: "+p.paint(green, "accepted"), "", ": every rule that applies to "+v.subject()+" holds")
	case Unknown:
		p.wrapped("verdict: "+p.paint(yellow, "not known"), "", fmt.Sprintf(": no rule fails; %d cannot be judged without what they need", unknown))
	case Undecided:
		p.wrapped("verdict: "+p.paint(yellow, "cannot be decided"), "", fmt.Sprintf(", %s: %s", v.Rule, v.Sentence))
		p.wrapped("hint: ", "      ", v.Hint)
	default:
		p.wrapped("verdict: "+p.paint(red, "rejected")+" ", "", fmt.Sprintf("by %s: %s", v.Rule, v.Sentence))
		p.wrapped("hint: ", "      ", v.Hint)
		if failed > 1 {
			p.wrapped("", "", fmt.Sprintf("%d rules fail; a server names the first", failed))
		}
	}
}

// ofToken reports whether an access token was judged.
func (v *View) ofToken() bool { return len(v.Rules) > 0 && strings.HasPrefix(v.Rules[0].ID, "token.") }

// subject is what the rules of the view are about.
func (v *View) subject() string {
	switch {
	case v.ofToken():
		return "an access token"
	case len(v.Rules) > 0 && v.Rules[0].Outcome != assertion.Skipped:
		return "this request"
	}
	return "an assertion alone"
}

// headline is the verdict in one line.
func (v *View) headline() string {
	switch v.Verdict {
	case Accepted:
		return "accepted: every rule that applies to " + v.subject() + " holds"
	case Unknown:
		return "not known: no rule fails, and some cannot be judged without what they need"
	case Undecided:
		return "cannot be decided, " + v.Rule + ": " + v.Sentence
	}
	return "rejected by " + v.Rule + ": " + v.Sentence
}
