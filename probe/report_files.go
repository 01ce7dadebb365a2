package probe

import (
	_ "embed"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed report.html
var page string

// WriteHTML writes one page that needs nothing else: no script, no other file, no address.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, struct {
		*Report

		Used    []Outcome
		Started string
		Trouble []Result
	}{r, r.used(), r.Started.Format(time.RFC3339), r.trouble()})
}

// WriteMarkdown writes a page for a wiki or the summary of a workflow.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Probe of %s\n\n%s, server %s, client %s, %s.\n\n**%s**\n\n", cell(string(r.Audience)), cell(r.Endpoint), cell(string(r.Audience)), cell(string(r.ClientID)),
		r.Started.Format(time.RFC3339), r.Summary())
	used := r.used()
	b.WriteString("| | rule |")
	for _, o := range used {
		fmt.Fprintf(&b, " %s |", o)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(used)) + "\n")
	for _, row := range r.Table() {
		fmt.Fprintf(&b, "| %s | `%s` |", row.Worst, row.Group)
		for _, o := range used {
			fmt.Fprintf(&b, " %s |", count(row.Outcomes[o]))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n| verdict | case | sends | wants | what came |\n|---|---|---|---|---|\n")
	for _, result := range r.Results {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s (%s: %s) | %s: %s |\n", result.Verdict, result.Name, cell(result.Sends), cell(result.Wants), result.Weight, cell(result.Spec),
			result.Outcome, cell(result.Came+result.Reason))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// cell makes a text fit for a cell of a table in Markdown, in which it can be no markup.
func cell(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r':
			b.WriteByte(' ')
		case strings.ContainsRune("\\`*_{}[]()<>#|!&~", r):
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// The elements of JUnit's XML that systems of continuous integration read.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		Class     string        `xml:"classname,attr"`
		Time      string        `xml:"time,attr"`
		Failure   *junitMessage `xml:"failure"`
		Skipped   *junitMessage `xml:"skipped"`
		SystemOut string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes XML for systems of continuous integration: a suite for each rule. A warning is a test that passes, with
// a line about it in its output. A run that was interrupted has a failure about that.
func (r *Report) WriteJUnit(w io.Writer) error {
	all := junitSuites{Name: "waybill probe", Time: fmt.Sprintf("%.3f", r.Seconds)}
	results := r.Results
	if r.Interrupted {
		results = append(slices.Clone(results), Result{Case: Case{Name: "run/complete", Sends: "All cases."}, Verdict: Fail, Outcome: "interrupted"})
	}
	for _, row := range (&Report{Results: results}).Table() {
		suite := junitSuite{Name: row.Group, Timestamp: r.Started.Format("2006-01-02T15:04:05")}
		var took float64
		for _, result := range results {
			if result.Group() != row.Group {
				continue
			}
			took += result.Seconds
			suite.add(result)
		}
		suite.Time = fmt.Sprintf("%.3f", took)
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Skipped += suite.Skipped
		all.Suites = append(all.Suites, suite)
	}
	b, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, b)
	return err
}

func (s *junitSuite) add(result Result) {
	c := junitCase{Name: result.Name, Class: "waybill.probe." + result.Group(), Time: fmt.Sprintf("%.3f", result.Seconds)}
	about := fmt.Sprintf("sends: %s\nwants: %s (%s: %s)\ncame: %s\n", result.Sends, result.Wants, result.Weight, result.Spec, result.Came)
	switch result.Verdict {
	case Fail:
		c.Failure = &junitMessage{Message: string(result.Outcome), Type: string(result.Weight), Text: about}
		s.Failures++
	case Skipped:
		c.Skipped = &junitMessage{Message: result.Reason}
		s.Skipped++
	case Warn:
		c.SystemOut = "warning: " + string(result.Outcome) + "\n" + about
	case Pass:
	}
	s.Tests++
	s.Cases = append(s.Cases, c)
}
