package probe

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A Verdict is what a case says of a server.
type Verdict string

// The verdicts.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"    // a must does not hold, or there was no answer, or one of 500 and above
	Warn    Verdict = "warn"    // a recommendation does not hold, or a refusal was not one of RFC 6749
	Skipped Verdict = "skipped" // it could not be judged, and Reason says why
)

// An Outcome is what the server did, in the words of the table.
type Outcome string

// The outcomes.
const (
	Refused      Outcome = "refused as it must"
	Accepted     Outcome = "accepted as it must"
	AsItMustBe   Outcome = "as it must be"
	GaveToken    Outcome = "GAVE A TOKEN"
	LetIn        Outcome = "LET IN"
	ServerError  Outcome = "500"
	RefusedRight Outcome = "refused what is right"
	OddRefusal   Outcome = "refused oddly"
	Otherwise    Outcome = "not as it must be"
	NoAnswer     Outcome = "no answer"
	NotJudged    Outcome = "skipped"
)

// outcomes lists them as the table does, what is good first.
func outcomes() []Outcome {
	return []Outcome{Refused, Accepted, AsItMustBe, GaveToken, LetIn, ServerError, RefusedRight, OddRefusal, Otherwise, NoAnswer, NotJudged}
}

// A Result is what came of a case.
type Result struct {
	Case

	Verdict Verdict `json:"verdict"`
	Outcome Outcome `json:"outcome"`
	// Came is what the server said, in a line, and what is wrong with that.
	Came string `json:"came,omitempty"`
	// Reason says why the case could not be judged.
	Reason string `json:"reason,omitempty"`
	// Sent is the last token request: method, header and payload of the assertion, no signature.
	Sent string `json:"sent,omitempty"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
}

// A Report is what came of all cases. It holds neither an assertion nor a token.
type Report struct {
	// Endpoint is the token endpoint, Server the base URL, if it was given.
	Endpoint string `json:"endpoint"`
	Server   string `json:"server,omitempty"`
	// Audience is the server's identifier, ClientID that of the one who asked.
	Audience ishare.PartyID `json:"audience"`
	ClientID ishare.PartyID `json:"client_id"`
	// Started and Seconds say when, and how long.
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Requests is how many were sent.
	Requests int `json:"requests"`
	// Interrupted says that not all cases were tried.
	Interrupted bool     `json:"interrupted,omitempty"`
	Results     []Result `json:"results"`
}

// Count is how many cases have the verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Good says whether no case failed, all were tried, and a right request got a token.
func (r *Report) Good() bool {
	return !r.Interrupted && r.Count(Fail) == 0 && len(r.Results) > 0 && r.Results[0].Verdict == Pass
}

// A Row is the line of the table for a rule, or another group of cases.
type Row struct {
	Group    string
	Title    string // what the rule asks, if it is one
	Outcomes map[Outcome]int
	Worst    Verdict
}

// Table counts the outcomes by group, in the order of the catalogue and other groups behind it.
func (r *Report) Table() []Row {
	rows := map[string]*Row{}
	var groups []string
	for _, result := range r.Results {
		row := rows[result.Group()]
		if row == nil {
			row = &Row{Group: result.Group(), Outcomes: map[Outcome]int{}, Worst: Skipped}
			rows[row.Group] = row
			groups = append(groups, row.Group)
		}
		row.Outcomes[result.Outcome]++
		if severity(result.Verdict) > severity(row.Worst) {
			row.Worst = result.Verdict
		}
	}
	table := make([]Row, 0, len(groups))
	for _, group := range inCatalogueOrder(groups) {
		for _, known := range rule.All() {
			if known.ID == group {
				rows[group].Title = known.Title
			}
		}
		table = append(table, *rows[group])
	}
	return table
}

func severity(v Verdict) int { return slices.Index([]Verdict{Skipped, Pass, Warn, Fail}, v) }

// inCatalogueOrder sorts the ids of rules, and leaves other groups behind them as they are.
func inCatalogueOrder(groups []string) []string {
	place := func(group string) int {
		i := slices.IndexFunc(rule.All(), func(known *rule.Rule) bool { return known.ID == group })
		if group == "right" {
			return -1
		}
		if i < 0 {
			return len(rule.All())
		}
		return i
	}
	slices.SortStableFunc(groups, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	return groups
}

// used lists the outcomes that occur, in the order of the table.
func (r *Report) used() []Outcome {
	return slices.DeleteFunc(outcomes(), func(o Outcome) bool {
		return !slices.ContainsFunc(r.Results, func(result Result) bool { return result.Outcome == o })
	})
}

// trouble lists the results that a reader must look at, the failed ones first.
func (r *Report) trouble() []Result {
	bad := slices.DeleteFunc(slices.Clone(r.Results), func(result Result) bool { return result.Verdict != Fail && result.Verdict != Warn })
	slices.SortStableFunc(bad, func(a, b Result) int { return cmp.Compare(severity(b.Verdict), severity(a.Verdict)) })
	return bad
}

// Summary is the whole in a line.
func (r *Report) Summary() string {
	text := fmt.Sprintf("%d passed, %d failed, %d warnings, %d skipped; %d requests in %.0f s",
		r.Count(Pass), r.Count(Fail), r.Count(Warn), r.Count(Skipped), r.Requests, r.Seconds)
	if r.Interrupted {
		text += "; interrupted"
	}
	return text
}

// WriteText writes the table by rule, then what failed and what is odd, and the summary last.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range r.Table() {
		var cells []string
		for _, o := range outcomes() {
			if n := row.Outcomes[o]; n > 0 {
				cells = append(cells, fmt.Sprintf("%d %s", n, o))
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.Worst, row.Group, strings.Join(cells, ", "))
	}
	_ = t.Flush() // into memory
	for _, result := range r.trouble() {
		fmt.Fprintf(&b, "\n%s  %s: %s\n", strings.ToUpper(string(result.Verdict)), result.Name, result.Outcome)
		if result.Official != "" {
			fmt.Fprintf(&b, "  official case  %s\n", result.Official)
		}
		fmt.Fprintf(&b, "  sends          %s\n  wants          %s (%s: %s)\n  came           %s\n", result.Sends, result.Wants, result.Weight, result.Spec, result.Came)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Summary())
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes all of it, which reads back into the same Report.
func (r *Report) WriteJSON(w io.Writer) error {
	b, err := json.Marshal(r, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// A Format writes a report.
type Format func(r *Report, w io.Writer) error

// Formats are those of reports as files, by the extension of the name.
func Formats() map[string]Format {
	return map[string]Format{
		".html": (*Report).WriteHTML,
		".xml":  (*Report).WriteJUnit,
		".json": (*Report).WriteJSON,
		".md":   (*Report).WriteMarkdown,
	}
}
