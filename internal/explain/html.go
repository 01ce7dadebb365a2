package explain

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/assertion"
)

// Style is the style sheet of the pages, and of [View.HTML].
//
//go:embed page.css
var Style string

//go:embed page.html
var pageText string

// page holds the template "view", which shows a [View], and the page around it for who has no other.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":   func() template.CSS { return template.CSS(Style) }, //nolint:gosec // it is ours
	"capital": func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
	"steps":   stepsOf,
	"drawing": (*View).drawing,
	"subject": (*View).subject,
	"ofToken": (*View).ofToken,
}).Parse(pageText))

// WriteHTML writes the view as one page that needs nothing else: no script, no font and no picture.
func (v *View) WriteHTML(w io.Writer) error { return page.Execute(w, v) }

// HTML is the part of the page that shows the view, for a page that has [Style].
func (v *View) HTML() (template.HTML, error) {
	var b strings.Builder
	err := page.ExecuteTemplate(&b, "view", v)
	return template.HTML(b.String()), err //nolint:gosec // a template has made it
}

// A step is rules that follow each other and of which the same is to be said, or one that fails.
type step struct {
	Outcome assertion.Outcome
	Rules   []Rule // one, if it fails
}

// stepsOf folds the rules that do not fail, so that those which do are seen.
func stepsOf(rules []Rule) []step {
	var steps []step
	for _, r := range rules {
		if n := len(steps); n > 0 && r.Outcome != assertion.Fail && steps[n-1].Outcome == r.Outcome {
			steps[n-1].Rules = append(steps[n-1].Rules, r)
			continue
		}
		steps = append(steps, step{r.Outcome, []Rule{r}})
	}
	return steps
}

// Label is the outcome as it is written in text.
func (s step) Label() string {
	if s.Outcome == assertion.Fail {
		return "FAIL"
	}
	return string(s.Outcome)
}

// Count says how many rules the step stands for.
func (s step) Count() string {
	if len(s.Rules) == 1 {
		return "1 rule"
	}
	return fmt.Sprintf("%d rules", len(s.Rules))
}

// Measures of a drawing, in units of its own.
const (
	boxWidth  = 320
	boxHeight = 84
	boxGap    = 40
	lineWidth = 44 // characters of a line in a box
)

// A drawing is a chain from the last certificate of x5c down to the seal.
type drawing struct {
	Width, Height int
	Boxes         []box
}

// A box is a certificate, with the line from the one above.
type box struct {
	Certificate

	X, Y  int
	Index int // in x5c
	Lines [3]string
	Mark  string // what is to be said of it; empty: nothing
	Bad   bool
	Link  *link // nil: there is none above
}

// A link is between a certificate and the one above, which has issued it or not.
type link struct {
	Y, End, Middle int
	Holds          bool
}

func (v *View) drawing() *drawing {
	if len(v.Certificates) == 0 {
		return nil
	}
	const margin = 10
	d := &drawing{Width: boxWidth + 2*margin, Height: len(v.Certificates)*(boxHeight+boxGap) - boxGap + 2*margin}
	for i, c := range slices.Backward(v.Certificates) {
		b := box{Certificate: c, X: margin, Y: margin + (len(v.Certificates)-1-i)*(boxHeight+boxGap), Index: i}
		b.Lines = [3]string{
			line(c.Name), line(c.about()),
			line(fmt.Sprintf("%s, %s to %s", c.Key, c.NotBefore.Format("2006-01-02"), c.NotAfter.Format("2006-01-02"))),
		}
		switch {
		case v.JudgedAt.Before(c.NotBefore):
			b.Mark, b.Bad = "not valid yet", true
		case v.JudgedAt.After(c.NotAfter):
			b.Mark, b.Bad = "expired", true
		case c.Anchor:
			b.Mark = "the trust anchor"
		}
		if i+1 < len(v.Certificates) {
			b.Link = &link{Y: b.Y - boxGap, End: b.Y, Middle: b.Y - boxGap/2, Holds: !v.Certificates[i+1].NotIssuer}
		}
		d.Boxes = append(d.Boxes, b)
	}
	return d
}

// about says whose certificate it is.
func (c *Certificate) about() string {
	switch {
	case len(c.PartyIDs) > 0:
		return Printable(string(c.PartyIDs[len(c.PartyIDs)-1])) // did:ishare:… is behind EU.EORI.…
	case c.Authority:
		return "a certificate authority"
	}
	return "names no participant"
}

// line is a text that fits into a box.
func line(s string) string {
	if runes := []rune(s); len(runes) > lineWidth {
		return string(runes[:lineWidth-1]) + "…"
	}
	return s
}
