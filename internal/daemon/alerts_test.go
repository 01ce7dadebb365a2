package daemon_test

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/internal/testservice"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// What is shipped for Prometheus and Grafana, and the page about it.
const (
	rulesFile     = "../../deploy/prometheus/waybill.rules.yml"
	rulesTest     = "../../deploy/prometheus/waybill.rules.test.yml"
	scrapeFile    = "../../deploy/prometheus/scrape.yml"
	dashboardFile = "../../deploy/grafana/waybill.json"
	metricsPage   = "../../docs/metrics.md"
)

// promtool runs the tool of Prometheus, without which the test is skipped, and returns what it says.
func promtool(t *testing.T, stdin string, args ...string) (said string, err error) {
	t.Helper()
	testservice.Program(t, "promtool")
	c := exec.CommandContext(t.Context(), "promtool", args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	return string(out), err
}

// An alertRule is one of the rules file; so is what is recorded.
type alertRule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func shippedRules(t *testing.T) (recorded, alerts []alertRule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(readFile(t, rulesFile)), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Record != "" {
				recorded = append(recorded, r)
			} else {
				alerts = append(alerts, r)
			}
		}
	}
	return recorded, alerts
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRulesFiles: Prometheus takes the files, and an outage of each dependency in a series written by hand fires its alert.
func TestRulesFiles(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTest}} {
		if said, err := promtool(t, "", args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	tested := readFile(t, rulesTest)
	_, alerts := shippedRules(t)
	for _, a := range alerts {
		if !strings.Contains(tested, a.Alert) {
			t.Errorf("no test has %s fire", a.Alert)
		}
		if a.Labels["severity"] != "critical" && a.Labels["severity"] != "warning" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: %v, %v", a.Alert, a.Labels, a.Annotations)
		}
		if !strings.HasSuffix(a.Annotations["runbook_url"], "/docs/metrics.md#"+strings.ToLower(a.Alert)) {
			t.Errorf("%s leads to %s", a.Alert, a.Annotations["runbook_url"])
		}
	}
}

// A use of a metric in PromQL, with the labels that it is asked for; a value is empty unless it must be that one.
type use struct {
	metric string
	labels map[string]string
}

var (
	token       = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9.]+[smhdwy]?|=~|!~|!=|[^\s]`)
	labelValues = regexp.MustCompile(`^label_values\((\w+)(?:\{[^}]*\})?, (\w+)\)$`)
	operators   = []string{"and", "or", "unless", "offset", "bool", "Inf", "inf", "NaN"}
	groupers    = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
)

// usesIn finds the metrics of an expression, and the labels by which it groups or matches, under an empty name.
func usesIn(expr string) []use {
	if m := labelValues.FindStringSubmatch(expr); m != nil {
		return []use{{m[1], map[string]string{m[2]: ""}}}
	}
	var found []use
	grouping := use{labels: map[string]string{}}
	tokens := token.FindAllString(expr, -1)
	word := regexp.MustCompile(`^[a-zA-Z_:]`)
	for i := 0; i < len(tokens); i++ {
		next := ""
		if i+1 < len(tokens) {
			next = tokens[i+1]
		}
		switch {
		case !word.MatchString(tokens[i]) || slices.Contains(operators, tokens[i]):
		case slices.Contains(groupers, tokens[i]):
			for i += 2; tokens[i] != ")"; i++ {
				if tokens[i] != "," {
					grouping.labels[tokens[i]] = ""
				}
			}
		case next == "(": // a function
		case next == "by" || next == "without": // an aggregation whose labels come first
		default:
			u := use{tokens[i], map[string]string{}}
			if next == "{" {
				for i += 2; tokens[i] != "}"; i++ {
					if tokens[i] == "," {
						continue
					}
					label, op, value := tokens[i], tokens[i+1], tokens[i+2]
					u.labels[label] = ""
					if op == "=" {
						u.labels[label], _ = strconv.Unquote(value)
					}
					i += 2
				}
			}
			found = append(found, u)
		}
	}
	return append(found, grouping)
}

func TestUsesIn(t *testing.T) {
	t.Parallel()
	got := fmt.Sprint(usesIn(`sum by (job, le) (rate(a_total{x="1", y=~"b|c"}[5m])) / on (z) b:c offset 10m and abs(d - time()) > 30 * 86400`))
	if want := "[{a_total map[x:1 y:]} {b:c map[]} {d map[]} { map[job: le: z:]}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// dashboard are the expressions of the dashboard.
func dashboard(t *testing.T) []string {
	t.Helper()
	var found []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				if text, ok := value.(string); ok && (key == "expr" || key == "query" && strings.HasPrefix(text, "label_values")) {
					found = append(found, text)
				}
				walk(value)
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		}
	}
	var all any
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &all); err != nil {
		t.Fatal(err)
	}
	walk(all)
	return found
}

// others are the labels that Prometheus adds, and the metrics that it makes itself.
var others = map[string][]string{"up": {"job", "instance"}}

// TestMetrics looks at what servers show after all that can happen: whatever rules, dashboard and page name is there, and whatever is
// there is on the page.
func TestMetrics(t *testing.T) {
	t.Parallel()
	shown := scripted(t)
	labels, values := map[string]map[string]bool{}, map[string]bool{} // by metric; and metric, label and value
	kinds, ours := map[string]string{}, map[string]bool{}
	for server, s := range shown {
		if complaints := lint(t, s); len(complaints) > 0 {
			t.Errorf("%s: %s", server, strings.Join(complaints, "\n"))
		}
		for name, family := range s {
			kinds[name] = strings.ToLower(family.GetType().String())
			ours[name] = ours[name] || strings.HasPrefix(name, "waybill_")
		}
		for series := range s.series() {
			name, rest, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
			if labels[name] == nil {
				labels[name] = map[string]bool{"job": true, "instance": true}
			}
			for _, m := range regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(rest, -1) {
				labels[name][m[1]], values[name+" "+m[1]+" "+m[2]] = true, true
			}
		}
	}
	recorded, alerts := shippedRules(t)
	exprs := dashboard(t)
	for _, r := range append(recorded, alerts...) {
		exprs = append(exprs, r.Expr)
		if r.Record != "" {
			labels[r.Record] = map[string]bool{"job": true, "instance": true, "rule": true}
		}
	}
	for name, own := range others {
		labels[name] = map[string]bool{}
		for _, label := range own {
			labels[name][label] = true
		}
	}
	for _, expr := range exprs {
		in := usesIn(expr)
		for _, u := range in[:len(in)-1] {
			if labels[u.metric] == nil {
				t.Errorf("there is no metric %s, as in %s", u.metric, expr)
				continue
			}
			for label, value := range u.labels {
				if !labels[u.metric][label] {
					t.Errorf("%s has no label %s, as in %s", u.metric, label, expr)
				} else if value != "" && label != "job" && label != "instance" && !strings.HasPrefix(value, "$") && !values[u.metric+" "+label+" "+value] {
					t.Errorf("%s of %s is never %q, as in %s", label, u.metric, value, expr)
				}
			}
		}
		for label := range in[len(in)-1].labels {
			if !slices.ContainsFunc(in, func(u use) bool { return labels[u.metric][label] }) && len(in) > 1 {
				t.Errorf("nothing has the label %s, as in %s", label, expr)
			}
		}
	}
	testMetricsPage(t, kinds, labels, alerts)
	t.Run("promtool check metrics", func(t *testing.T) {
		for server, s := range shown {
			if said, err := promtool(t, s.text(t, "waybill_"), "check", "metrics"); err != nil {
				t.Errorf("%s: %v: %s", server, err, said)
			}
		}
	})
}

// row is one of the table of metrics: name, type, labels.
var row = regexp.MustCompile("(?m)^\\| `(waybill_\\w+)` \\| (\\w+) \\| ([^|]*) \\| [^|]+ \\|$")

// testMetricsPage holds the page against the metrics, with their types and labels, and the alerts.
func testMetricsPage(t *testing.T, kinds map[string]string, labels map[string]map[string]bool, alerts []alertRule) {
	t.Helper()
	page := readFile(t, metricsPage)
	told := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		name, kind := m[1], m[2]
		told[name] = true
		if kinds[name] != kind {
			t.Errorf("the page says that %s is a %s; it is a %q", name, kind, kinds[name])
			continue
		}
		series := name
		if kind == "histogram" {
			series += "_count"
		}
		var want []string
		for label := range labels[series] {
			if label != "job" && label != "instance" {
				want = append(want, "`"+label+"`")
			}
		}
		slices.Sort(want)
		got := strings.Split(m[3], ", ")
		if m[3] == "" || m[3] == " " {
			got = nil
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the page says that %s has the labels %s; it has %s", name, got, want)
		}
	}
	for name := range kinds {
		if strings.HasPrefix(name, "waybill_") && !told[name] {
			t.Errorf("the page does not tell of %s", name)
		}
	}
	for _, a := range alerts {
		if !strings.Contains(page, "\n### "+a.Alert+"\n") {
			t.Errorf("the page does not tell of %s", a.Alert)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Waybill\w+)$`).FindAllStringSubmatch(page, -1) {
		if !slices.ContainsFunc(alerts, func(a alertRule) bool { return a.Alert == m[1] }) {
			t.Errorf("the page tells of %s, which is no alert", m[1])
		}
	}
}

// A timeline is what a Prometheus has of a server that it asks once a minute. Minutes pass as fast as the test is.
type timeline struct {
	server  *server
	began   time.Time
	scrapes []map[string]float64
}

func (l *timeline) minute(t *testing.T) {
	t.Helper()
	l.scrapes = append(l.scrapes, l.server.scrape(t).series())
}

// minutes passes some, in each of which something happens.
func (l *timeline) minutes(t *testing.T, n int, happens func()) {
	t.Helper()
	for range n {
		happens()
		l.minute(t)
	}
}

// firing has Prometheus evaluate the rules on the timeline, and fails the test unless these alerts and no others fire at its end.
func (l *timeline) firing(t *testing.T, when string, want ...string) {
	t.Helper()
	names := map[string]bool{}
	for _, s := range l.scrapes {
		for name := range s {
			if strings.HasPrefix(name, "waybill_") {
				names[name] = true
			}
		}
	}
	type input struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	}
	type sample struct {
		Labels string  `yaml:"labels"`
		Value  float64 `yaml:"value"`
	}
	up := input{`up{job="waybill",instance="a"}`, fmt.Sprintf("1+0x%d", len(l.scrapes)-1)}
	inputs := []input{up}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		in := input{Series: strings.Replace(strings.Replace(name, "{", `{job="waybill",instance="a",`, 1), ",}", "}", 1)}
		metric, _, _ := strings.Cut(name, "{")
		for _, s := range l.scrapes {
			value, ok := s[name]
			if strings.HasSuffix(metric, "_timestamp_seconds") { // the tool begins in 1970
				value -= float64(l.began.Unix())
			}
			text := strconv.FormatFloat(value, 'f', -1, 64)
			if !ok {
				text = "_"
			}
			in.Values += text + " "
		}
		inputs = append(inputs, in)
	}
	expected := []sample{}
	for _, alert := range want {
		expected = append(expected, sample{fmt.Sprintf("{alertname=%q}", alert), 1})
	}
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	test, err := yaml.Marshal(map[string]any{
		"rule_files": []string{rules}, "evaluation_interval": "1m",
		"tests": []any{map[string]any{
			"interval": "1m", "input_series": inputs,
			"promql_expr_test": []any{map[string]any{
				"expr": `count by (alertname) (count by (alertname, severity) (ALERTS{alertstate="firing"}))`, "eval_time": fmt.Sprintf("%dm", len(l.scrapes)-1), "exp_samples": expected,
			}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	write(t, file, test)
	if said, err := promtool(t, "", "test", "rules", file); err != nil {
		t.Errorf("%s: %v: %s", when, err, said)
	}
}

// watch begins a timeline with healthy minutes, in which nothing fires.
func watch(t *testing.T, s *server, healthy func()) *timeline {
	t.Helper()
	l := &timeline{server: s, began: time.Now()}
	l.minutes(t, 12, healthy)
	l.firing(t, "healthy")
	return l
}

// TestOutagesFireTheirAlerts has what a server needs fail in earnest, and the rules evaluated on what its metrics show.
func TestOutagesFireTheirAlerts(t *testing.T) {
	t.Parallel()
	ask := func(t *testing.T, s *server, p *isharetest.Party, want *rule.Rule) {
		t.Helper()
		if err := s.send(t, p.Request(providerID)).Meets(want); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"registry", func(t *testing.T) {
			w := newAskingWorld(t, "cache: 1h", "revocation: require")
			l := watch(t, w.server, func() { ask(t, w.server, w.known, nil) })
			w.registry.Fail(isharetest.FaultOff)
			l.minutes(t, 8, func() { ask(t, w.server, w.stranger(), rule.UnavailableRegistry) })
			l.firing(t, "outage", "WaybillRegistryOutOfReach", "WaybillClientsTurnedAway")
		}},
		{"registry from the start", func(t *testing.T) {
			s := start(t, daemon.Options{NoHistory: true}, withRegistry(t, newHome(t), nowhere, "trusted_list: true, revocation: off"))
			l := &timeline{server: s, began: time.Now()}
			l.minutes(t, 8, func() { ask(t, s, players().consumer, rule.UnavailableRegistry) })
			l.firing(t, "outage", "WaybillRegistryOutOfReach", "WaybillTrustedListNotInForce", "WaybillClientsTurnedAway")
		}},
		{"status services", func(t *testing.T) {
			w := newAskingWorld(t, "cache: 1h", "revocation: require")
			l := watch(t, w.server, func() { ask(t, w.server, w.known, nil) })
			w.status.FailOCSP(isharetest.FaultError)
			w.status.FailCRL(isharetest.FaultError)
			l.minutes(t, 8, func() { ask(t, w.server, w.newcomer(), rule.UnavailableRevocation) })
			l.firing(t, "outage", "WaybillOCSPFailing", "WaybillCRLFailing", "WaybillClientsTurnedAway")
		}},
		{"OCSP, and lists tell", func(t *testing.T) {
			w := newAskingWorld(t, "cache: 1h", "revocation: require")
			l := watch(t, w.server, func() { ask(t, w.server, w.known, nil) })
			w.status.FailOCSP(isharetest.FaultError)
			l.minutes(t, 8, func() { ask(t, w.server, w.newcomer(), nil) })
			l.firing(t, "outage", "WaybillOCSPFailing")
		}},
		{"status services, which are not needed", func(t *testing.T) {
			w := newAskingWorld(t, "cache: 1h", "revocation: prefer")
			l := watch(t, w.server, func() { ask(t, w.server, w.known, nil) })
			w.status.FailOCSP(isharetest.FaultError)
			w.status.FailCRL(isharetest.FaultError)
			l.minutes(t, 8, func() { ask(t, w.server, w.newcomer(), nil) })
			l.firing(t, "outage", "WaybillOCSPFailing", "WaybillCRLFailing", "WaybillSoftFail")
		}},
		{"store", func(t *testing.T) {
			redis := redistest.Start(t)
			s := replicas(t, 1, redis)[0]
			token := s.token(t)
			l := watch(t, s, func() { s.token(t); s.auth(t, token) })
			redis.Kill()
			s.eventually(t, "the end of what is known of revocations", func() bool { return s.auth(t, token) == http.StatusServiceUnavailable })
			l.minutes(t, 8, func() {
				ask(t, s, players().consumer, rule.UnavailableState)
				s.auth(t, token)
			})
			l.firing(t, "outage", "WaybillStateOutOfReach", "WaybillClientsTurnedAway", "WaybillTokensNotChecked", "WaybillNotReady")
		}},
		{"upstream", func(t *testing.T) {
			api := newUpstream(t)
			s := startNewborn(t, fmt.Sprintf("WAYBILL_ROUTES=[{path: /api, upstream: %q}]", api.URL))
			token := s.token(t)
			call := func() { get(t, plain(t), s.url+"/api", "Authorization", "Bearer "+token) }
			l := watch(t, s, call)
			api.Close()
			l.minutes(t, 8, call)
			l.firing(t, "outage", "WaybillUpstreamFailing")
		}},
		{"the program itself, its files and its seal", func(t *testing.T) {
			dir := newHome(t)
			us := players().provider.Resealed(func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 20) })
			seal := testca.Identity{Key: us.Key, Chain: us.Certificates}
			if err := seal.Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
				t.Fatal(err)
			}
			s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, dir))
			token := s.token(t)
			l := &timeline{server: s, began: time.Now()}
			l.minutes(t, 12, func() { s.token(t) })
			l.firing(t, "a seal that ends", "WaybillSealExpiresWithinMonth")
			get(t, plain(t), s.url+"/panic", "Authorization", "Bearer "+token)
			if err := s.Reload(t.Context(), parse(t, dir, "WAYBILL_PARTICIPANTS_FILE=nowhere.json")); err == nil {
				t.Error("a reload without participants")
			}
			write(t, filepath.Join(dir, "parties.json"), nil)
			s.eventually(t, "a problem", func() bool { _, r := s.ready(t); return len(r.Problems) > 0 })
			l.minutes(t, 8, func() { s.token(t) })
			l.firing(t, "outage", "WaybillSealExpiresWithinMonth", "WaybillInternalErrors", "WaybillReloadFailed", "WaybillPartiesFileBroken")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

// Not parallel: the trail goes to standard output, whose reader goes away.
func TestLostAuditTrailFiresItsAlert(t *testing.T) {
	read, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = stdout }()
	go func() {
		buffer := make([]byte, 64<<10)
		for err := error(nil); err == nil; {
			_, err = read.Read(buffer)
		}
	}()
	s := startNewborn(t, "WAYBILL_AUDIT_FILE=-", "WAYBILL_AUDIT_REQUIRED=true")
	os.Stdout = stdout
	l := watch(t, s, func() { s.token(t) })
	read.Close()
	l.minutes(t, 8, func() {
		if err := s.send(t, players().consumer.Request(providerID)).Meets(rule.UnavailableState); err != nil {
			t.Error(err)
		}
	})
	l.firing(t, "outage", "WaybillAuditNotWritten", "WaybillClientsTurnedAway", "WaybillNotReady")
}

// An askingWorld has a registry and status services that can fail.
type askingWorld struct {
	t        *testing.T
	server   *server
	registry *isharetest.Registry
	status   *isharetest.StatusServices
	known    *isharetest.Party
	parties  int
}

// newAskingWorld starts it with what the configuration says of participants and trust besides.
func newAskingWorld(t *testing.T, participants, trust string) *askingWorld {
	t.Helper()
	w := &askingWorld{t: t, status: isharetest.NewStatusServices()}
	t.Cleanup(w.status.Close)
	us := w.status.CA.Party(providerID, "Some Provider")
	w.known = w.status.CA.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	w.registry = isharetest.NewRegistry(w.status.CA, us, w.known)
	t.Cleanup(func() { _ = w.registry.Close() })
	dir := newHome(t)
	seal := testca.Identity{Key: us.Key, Chain: us.Certificates}
	if err := seal.Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "root.pem"), w.status.CA.RootPEM())
	text := strings.NewReplacer("{file: parties.json}", fmt.Sprintf("{registry: {id: %q, url: %q}, %s}", w.registry.ID, w.registry.URL, participants),
		"revocation: off", trust+", revocation_allow_private: true").Replace(configuration)
	cfg, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.server = start(t, daemon.Options{NoHistory: true}, cfg)
	return w
}

// stranger is a party that nobody has asked about.
func (w *askingWorld) stranger() *isharetest.Party {
	w.parties++
	return w.status.CA.Party(ishare.PartyID(fmt.Sprintf("did:ishare:EU.NL.NTRNL-%08d", 20000000+w.parties)), "Another")
}

// newcomer is one that the registry knows.
func (w *askingWorld) newcomer() *isharetest.Party {
	p := w.stranger()
	w.registry.Parties.Put(p)
	return p
}
