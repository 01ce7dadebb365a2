package probe_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waybill-token/waybill/probe"
)

// A wiretap keeps what goes over the wire and must not be in a report.
type wiretap struct {
	mu      sync.Mutex
	secrets []string
	agents  map[string]bool
}

var (
	assertionSent = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.([\w-]{20,})`)
	tokenCame     = regexp.MustCompile(`"access_token":"([^"]+)"`)
)

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := must(io.ReadAll(r.Body))
	r.Body = io.NopCloser(bytes.NewReader(sent))
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	came := must(io.ReadAll(response.Body))
	response.Body = io.NopCloser(bytes.NewReader(came))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agents[r.UserAgent()] = true
	for _, found := range append(assertionSent.FindAllSubmatch(sent, -1), tokenCame.FindAllSubmatch(came, -1)...) {
		w.secrets = append(w.secrets, string(found[1]))
	}
	return response, nil
}

// gossip repeats in each error what it was sent.
type gossip struct{ *lenient }

func (g gossip) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := must(io.ReadAll(r.Body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := &recorder{header: http.Header{}}
	g.lenient.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.header)
	w.WriteHeader(max(answer.status, http.StatusOK))
	text := answer.body.String()
	if answer.status >= 400 {
		text = strings.Replace(text, `"error_description":"`, `"error_description":"\u001b[31m<b>|you sent `+strings.NewReplacer(`"`, "", `\`, "").Replace(string(body)+r.Header.Get("Authorization"))+` `, 1)
	}
	io.WriteString(w, text)
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }
func (r *recorder) Write(b []byte) (int, error) {
	r.status = max(r.status, 200)
	return r.body.Write(b)
}

// mixed is a report with every verdict, and what went over the wire for it: of a server that is broken in one way, is asked
// without a test CA, and says in its errors what it was sent.
var mixed = sync.OnceValues(func() (*probe.Report, *wiretap) {
	s := newLenient(players(), "claim.aud/array-of-two")
	server := httptest.NewServer(gossip{s})
	defer server.Close()
	s.url = server.URL
	config := players().everything(server.URL, server.URL+"/secured")
	config.TestSeals = nil
	tap := &wiretap{agents: map[string]bool{}}
	config.Transport, config.UserAgent = tap, "probe-test/1"
	return must(probe.Run(context.Background(), config)), tap
})

func TestReportsHoldNoSecret(t *testing.T) {
	report, tap := mixed()
	if len(tap.secrets) < 100 || len(tap.agents) != 1 || !tap.agents["probe-test/1"] {
		t.Fatalf("%d secrets over the wire, from %v", len(tap.secrets), tap.agents)
	}
	certificate := base64.StdEncoding.EncodeToString(players().consumer.Certificate().Raw)
	formats := map[string]probe.Format{"text": (*probe.Report).WriteText}
	maps.Copy(formats, probe.Formats())
	for name, write := range formats {
		var b bytes.Buffer
		if err := write(report, &b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, secret := range tap.secrets {
			if strings.Contains(b.String(), secret[:20]) {
				t.Errorf("%s holds %.20s…", name, secret)
				break
			}
		}
		if strings.Contains(b.String(), certificate[:100]) {
			t.Errorf("%s holds a certificate", name)
		}
		if strings.Contains(b.String(), "\x1b") {
			t.Errorf("%s holds a control character", name)
		}
		if !strings.Contains(b.String(), "claim.aud/array-of-two") || !strings.Contains(b.String(), string(probe.GaveToken)) {
			t.Errorf("%s does not tell what is wrong", name)
		}
	}
}

func TestJUnit(t *testing.T) {
	report, _ := mixed()
	var b bytes.Buffer
	if err := report.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	type testcase struct {
		Name    string    `xml:"name,attr"`
		Class   string    `xml:"classname,attr"`
		Failure *struct{} `xml:"failure"`
		Skipped *struct{} `xml:"skipped"`
	}
	type counts struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Errors   int `xml:"errors,attr"`
	}
	var read struct {
		XMLName xml.Name `xml:"testsuites"`
		counts
		Suites []struct {
			counts
			Name  string     `xml:"name,attr"`
			Cases []testcase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	var sum counts
	names := map[string]bool{}
	for _, suite := range read.Suites {
		var own counts
		for _, c := range suite.Cases {
			own.Tests++
			names[c.Name] = true
			if c.Failure != nil {
				own.Failures++
			}
			if c.Skipped != nil {
				own.Skipped++
			}
			if !strings.HasPrefix(c.Name, suite.Name+"/") || c.Class != "waybill.probe."+suite.Name {
				t.Errorf("%s of %s in the suite %s", c.Name, c.Class, suite.Name)
			}
		}
		if own != suite.counts {
			t.Errorf("%s: it says %+v, and holds %+v", suite.Name, suite.counts, own)
		}
		sum.Tests += own.Tests
		sum.Failures += own.Failures
		sum.Skipped += own.Skipped
	}
	want := counts{len(report.Results), report.Count(probe.Fail), report.Count(probe.Skipped), 0}
	if sum != read.counts || sum != want || len(names) != len(report.Results) {
		t.Errorf("it says %+v, holds %+v, want %+v", read.counts, sum, want)
	}
	if want.Failures != 1 || want.Skipped == 0 {
		t.Errorf("the report has %+v", want)
	}
}

// TestHTML: the page works by itself, wherever it is mailed to.
func TestHTML(t *testing.T) {
	report, _ := mixed()
	var b bytes.Buffer
	if err := report.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	shown := html.UnescapeString(page)
	for _, forbidden := range []string{"<script", "<link", "<img", "<iframe", " src=", " href=", "url(", "@import", " onload=", "<b>"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page holds %s", forbidden)
		}
	}
	if err := xml.NewDecoder(strings.NewReader(asXML(page))).Decode(new(struct{})); err != nil {
		t.Errorf("the page is not well-formed: %v", err)
	}
	if !strings.Contains(page, "prefers-color-scheme: dark") || !strings.Contains(page, "&lt;b&gt;|you sent") {
		t.Error("the page knows no dark, or does not show what the server said")
	}
	for _, r := range report.Results {
		if !strings.Contains(shown, "<code>"+r.Name+"</code>") {
			t.Errorf("%s is missing", r.Name)
		}
	}
}

// asXML closes the elements that HTML leaves open.
func asXML(page string) string {
	page = regexp.MustCompile(`(<meta [^>]*)>`).ReplaceAllString(page, "$1/>")
	page = strings.Replace(page, "<!DOCTYPE html>", "", 1)
	return strings.ReplaceAll(page, "<details open>", "<details>")
}

func TestJSONReadsBack(t *testing.T) {
	report, _ := mixed()
	var b bytes.Buffer
	if err := report.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var read probe.Report
	if err := json.Unmarshal(b.Bytes(), &read, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report, &read, cmpopts.IgnoreUnexported(probe.Case{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMarkdown: each table has as many cells in each row, whatever the server said.
func TestMarkdown(t *testing.T) {
	report, _ := mixed()
	var b bytes.Buffer
	if err := report.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	cells, rows := 0, 0
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		if n := strings.Count(line, "|"); cells == 0 {
			cells = n
		} else if n != cells {
			t.Errorf("%d cells, want %d: %s", n, cells, line)
		}
		rows++
	}
	if rows < len(report.Results) {
		t.Errorf("%d rows", rows)
	}
	if strings.Contains(b.String(), "<b>") {
		t.Error("it holds what the server wrote as markup")
	}
}

// TestTable: every result is counted once, in the row of its group.
func TestTable(t *testing.T) {
	report, _ := mixed()
	sum := 0
	for _, row := range report.Table() {
		for _, n := range row.Outcomes {
			sum += n
		}
		if row.Group == "claim.aud" && (row.Worst != probe.Fail || row.Outcomes[probe.GaveToken] != 1 || row.Title == "") {
			t.Errorf("claim.aud: %+v", row)
		}
	}
	if sum != len(report.Results) {
		t.Errorf("the table counts %d, want %d", sum, len(report.Results))
	}
	if report.Good() || report.Started.IsZero() || time.Since(report.Started) > time.Hour {
		t.Errorf("good %t, started %s", report.Good(), report.Started)
	}
}
