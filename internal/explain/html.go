package explain

import (
	_ "embed"
	"html/template"
	"io"
	"slices"

	"github.com/waybill-token/waybill/assertion"
)

//go:embed page.html
var pageText string

// page holds the templates "ladder", which draws a [View], and "style", which whoever embeds the ladder has to bring.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"failed":  func(rules []Rule) []Rule { return only(rules, assertion.Fail) },
	"passed":  func(rules []Rule) []Rule { return only(rules, assertion.Pass) },
	"unknown": func(rules []Rule) []Rule { return only(rules, assertion.Unknown) },
	"skipped": func(rules []Rule) []string { return inGroups(only(rules, assertion.Skipped), rules) },
	"tree": func(certificates []Certificate) []Certificate {
		tree := slices.Clone(certificates)
		slices.Reverse(tree)
		return tree
	},
}).Parse(pageText))

func only(rules []Rule, outcome assertion.Outcome) (some []Rule) {
	for _, r := range rules {
		if r.Outcome == outcome {
			some = append(some, r)
		}
	}
	return some
}

// WriteHTML writes the view as one page that needs nothing else: no script, no font and no picture.
func (v *View) WriteHTML(w io.Writer) error { return page.Execute(w, v) }

// WriteLadder writes the part of the page that shows the view, for a page that brings the style.
func (v *View) WriteLadder(w io.Writer) error { return page.ExecuteTemplate(w, "ladder", v) }

// WriteStyle writes the style sheet of the page.
func WriteStyle(w io.Writer) error { return page.ExecuteTemplate(w, "style", nil) }
