package console_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/waybill-token/waybill/internal/console"
	"github.com/waybill-token/waybill/internal/workbench"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/sandbox"
)

// patience is for what must become true. It is no measure of how soon it does.
const patience = time.Minute

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// value is where a switch stands.
func (w *world) value(t *testing.T, name string) string {
	t.Helper()
	for _, s := range w.State().Switches {
		if s.Name == name {
			return s.Value
		}
	}
	t.Fatalf("there is no switch %s", name)
	return ""
}

// ask has a participant ask for a token, and returns the decision.
func (w *world) ask(t *testing.T, folder string) sandbox.Decision {
	t.Helper()
	if a := w.post(t, "/try", url.Values{"party": {folder}}); a.status != http.StatusSeeOther {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	made := w.Decisions(0)
	return made[len(made)-1]
}

// Every answer says what belongs to it, and no page holds a script or a style of its own.
func TestEveryAnswerIsLockedDown(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.ask(t, "consumer")
	send := formOf(t, parse(t, w.get(t, "/workbench").body))
	send.Set("do", "send")
	pages := map[string]answer{
		"the space": w.get(t, "/"), "a decision": w.get(t, "/decisions/1"), "the workbench": w.get(t, "/workbench"), "explain": w.get(t, "/explain"),
		"a result": w.post(t, "/workbench", send), "an explanation": w.post(t, "/explain", url.Values{"text": {"a.b.c"}}),
		"nothing": w.get(t, "/nothing"), "a switch": w.post(t, "/set", url.Values{"switch": {"registry"}, "value": {"normal"}}),
		"no switch": w.post(t, "/set", url.Values{"switch": {"nothing"}}),
		"the style": w.get(t, "/assets/console.css"), "the style of views": w.get(t, "/assets/explain.css"), "the script": w.get(t, "/assets/console.js"), "no asset": w.get(t, "/assets/nothing"),
	}
	for name, a := range pages {
		for field, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if got := a.header.Get(field); got != want {
				t.Errorf("%s: %s is %q", name, field, got)
			}
		}
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			continue
		}
		ids := map[string]bool{}
		for n := range parse(t, a.body).Descendants() {
			if n.Data == "style" || n.Data == "script" && attribute(n, "src") == "" {
				t.Errorf("%s: holds a %s", name, n.Data)
			}
			for _, at := range n.Attr {
				if at.Key == "style" || strings.HasPrefix(at.Key, "on") {
					t.Errorf("%s: %s has %s", name, n.Data, at.Key)
				}
				if (at.Key == "src" || at.Key == "href" || at.Key == "action") && !strings.HasPrefix(at.Val, "/") && !strings.HasPrefix(at.Val, "#") && at.Val != "data:," {
					t.Errorf("%s: %s leads to %s", name, n.Data, at.Val)
				}
				if at.Key == "id" {
					if ids[at.Val] {
						t.Errorf("%s: the id %s is there twice", name, at.Val)
					}
					ids[at.Val] = true
				}
			}
		}
	}
}

var routes = []struct{ method, path string }{
	{http.MethodGet, "/"},
	{http.MethodGet, "/events"},
	{http.MethodGet, "/decisions/1"},
	{http.MethodGet, "/workbench"},
	{http.MethodGet, "/explain"},
	{http.MethodGet, "/assets/console.js"},
	{http.MethodPost, "/set"},
	{http.MethodPost, "/undo"},
	{http.MethodPost, "/try"},
	{http.MethodPost, "/workbench"},
	{http.MethodPost, "/explain"},
}

// Nobody gets in by another name, nor changes anything from another site.
func TestOthersAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	u, err := url.Parse(w.State().Control)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"switch": {"consumer.standing"}, "value": {"suspended"}, "party": {"consumer"}, "text": {"a.b.c"}}
	for _, r := range routes {
		var body url.Values
		if r.method == http.MethodPost {
			body = form
		}
		for name, host := range map[string]string{"another name": "evil.example:" + u.Port(), "no port": "localhost", "another port": "localhost:1"} {
			if a := w.do(t, r.method, r.path, body, map[string]string{"Host": host}); a.status != http.StatusMisdirectedRequest {
				t.Errorf("%s %s, %s: %d", r.method, r.path, name, a.status)
			}
		}
		for name, header := range map[string]map[string]string{
			"another site":   {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
			"another port":   {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
			"another origin": {"Origin": "http://evil.example"},
			"a frame":        {"Origin": "null"},
		} {
			// A GET changes nothing, and without Sec-Fetch-Site nobody can tell where it comes from: it cannot be read.
			if r.method == http.MethodGet && header["Sec-Fetch-Site"] == "" {
				continue
			}
			if a := w.do(t, r.method, r.path, body, header); a.status != http.StatusForbidden {
				t.Errorf("%s %s, %s: %d", r.method, r.path, name, a.status)
			}
		}
	}
	if got := w.value(t, "consumer.standing"); got != "active" || len(w.Decisions(0)) != 0 {
		t.Errorf("the consumer is %s, %d decisions", got, len(w.Decisions(0)))
	}
	link := map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
	if a := w.do(t, http.MethodGet, "/", nil, link); a.status != http.StatusOK {
		t.Errorf("a link of another site: %d", a.status)
	}
	own := map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": w.State().Control}
	if a := w.do(t, http.MethodPost, "/set", form, own); a.status != http.StatusSeeOther || w.value(t, "consumer.standing") != "suspended" {
		t.Errorf("a page of its own: %d", a.status)
	}
}

// The control API is what it was.
func TestControlAPIStays(t *testing.T) {
	t.Parallel()
	w := start(t)
	if a := w.get(t, "/state"); a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("/state: %d %s", a.status, a.header.Get("Content-Type"))
	}
	for _, path := range []string{"/reset", "/switches/registry"} {
		if a := w.post(t, path, url.Values{}); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("a form to %s: %d", path, a.status)
		}
	}
	r, err := sandbox.Find(strings.TrimSuffix(w.CAFolder, "/ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Set(t.Context(), "registry", "off"); err != nil || w.value(t, "registry") != "off" {
		t.Errorf("Set: %v", err)
	}
}

// Nothing that somebody sends is without an end.
func TestBounds(t *testing.T) {
	t.Parallel()
	w := share(t)
	long := strings.Repeat("x", console.MaxBody)
	for _, path := range []string{"/set", "/try", "/workbench", "/explain"} {
		if a := w.post(t, path, url.Values{"text": {long}}); a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := w.paste(t, "text", long); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a form with a file: %d", a.status)
	}
	form := formOf(t, parse(t, w.get(t, "/workbench").body))
	for range 50 {
		form.Add("claim-name", "x")
		form.Add("claim-value", "1")
	}
	if a := w.post(t, "/workbench", form); a.status != http.StatusBadRequest {
		t.Errorf("many claims: %d", a.status)
	}
}

// paste sends the form of the page explain, as a browser does.
func (w *world) paste(t *testing.T, field, text string) answer {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	part, err := m.CreateFormField(field)
	if field == "file" {
		part, err = m.CreateFormFile(field, "assertion.jwt")
	}
	if err == nil {
		_, err = part.Write([]byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.State().Control+"/explain", &b)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", m.FormDataContentType())
	response, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, body.String()}
}

// Each preset that breaks a rule shows that rule as the failing one, whether it is sent or only made.
func TestPresets(t *testing.T) {
	t.Parallel()
	w := start(t)
	bench, err := workbench.New(w.Sandbox)
	if err != nil {
		t.Fatal(err)
	}
	w.knowsTheList(t)
	covered := map[string]bool{}
	for _, p := range bench.Presets() {
		form := formOf(t, parse(t, w.get(t, "/workbench?party=consumer&preset="+p.Name).body))
		for _, do := range []string{"send", "make"} {
			form.Set("do", do)
			a := w.post(t, "/workbench", form)
			page := parse(t, a.body)
			rules := failing(page)
			switch {
			case a.status != http.StatusOK:
				t.Errorf("%s, %s: status %d", p.Name, do, a.status)
			case p.Rule == nil:
				if len(rules) > 0 || len(all(page, "p", "accepted")) != 1 {
					t.Errorf("%s, %s: fails %q", p.Name, do, rules)
				}
			case do == "make" && p.Rule == rule.JTIReplayed: // which only a server knows
			case len(rules) == 0 || rules[0] != p.Rule.ID:
				t.Errorf("%s, %s: fails %q, want %s first", p.Name, do, rules, p.Rule.ID)
			default:
				covered[p.Rule.ID] = true
				if said := textOf(page); !strings.Contains(said, p.Rule.Spec) || len(all(page, "p", "rejected")) != 1 {
					t.Errorf("%s, %s: the page does not say what is asked", p.Name, do)
				}
			}
		}
	}
	for _, r := range rule.All() {
		if !covered[r.ID] {
			t.Errorf("no preset breaks %s", r.ID)
		}
	}
}

// knowsTheList waits until the provider has the trusted list: it calls nobody untrusted before.
func (w *world) knowsTheList(t *testing.T) {
	t.Helper()
	began := time.Now()
	for w.ask(t, "untrusted-consumer").Rule != rule.ChainUntrusted {
		if time.Since(began) > patience {
			t.Fatal("the provider has no trusted list")
		}
	}
}

// A naive client is told of every fault at once.
func TestNaiveClient(t *testing.T) {
	t.Parallel()
	w := share(t)
	form := formOf(t, parse(t, w.get(t, "/workbench?preset=naive").body))
	form.Set("do", "send")
	got := failing(parse(t, w.post(t, "/workbench", form).body))
	for _, r := range []*rule.Rule{rule.JWTHeaderParameter, rule.JWTX5C, rule.ClaimAud, rule.ClaimLifetime} {
		if !slices.Contains(got, r.ID) {
			t.Errorf("%s is not among %q", r.ID, got)
		}
	}
}

// Nobody is tried in place of a participant that there is not.
func TestTryNobody(t *testing.T) {
	t.Parallel()
	w := share(t)
	if a := w.post(t, "/try", url.Values{"party": {"nobody"}}); a.status != http.StatusBadRequest {
		t.Errorf("status %d", a.status)
	}
}

// The command to copy sends what the workbench does, whatever a parameter is called.
func TestCommandEscapesNames(t *testing.T) {
	t.Parallel()
	w := share(t)
	form := formOf(t, parse(t, w.get(t, "/workbench").body))
	form["form-name"][len(form["form-name"])-1] = "a b&'c"
	form["form-value"][len(form["form-value"])-1] = "x"
	form.Set("do", "make")
	page := parse(t, w.post(t, "/workbench", form).body)
	for _, n := range all(page, "code", "") {
		if attribute(n, "id") == "command-curl" && !strings.Contains(textOf(n), "--data-urlencode a+b%26%27c=x") {
			t.Errorf("%s", textOf(n))
		}
	}
}

// A field that somebody edits is what is signed.
func TestFieldsAreWhatIsSent(t *testing.T) {
	t.Parallel()
	w := share(t)
	form := formOf(t, parse(t, w.get(t, "/workbench").body))
	form["claim-name"][len(form["claim-name"])-1] = "näme <b>"
	form["claim-value"][len(form["claim-value"])-1] = `{"deep": [1, "<script>alert(1)</script>"]}`
	form.Set("do", "make")
	page := parse(t, w.post(t, "/workbench", form).body)
	payload := textOf(all(all(page, "div", "payload")[0], "pre", "")[0])
	if !strings.Contains(payload, `"näme <b>": { "deep": [ 1, "<script>alert(1)</script>" ] }`) {
		t.Errorf("the payload is %s", payload)
	}
	if n := len(all(page, "script", "")); n != 1 {
		t.Errorf("%d scripts", n)
	}
	again := formOf(t, page)
	if !slices.Contains(again["claim-name"], "näme <b>") {
		t.Errorf("the form has lost the field: %q", again["claim-name"])
	}
	for _, command := range []string{"command-curl", "command-explain", "command-token"} {
		if !slices.ContainsFunc(all(page, "code", ""), func(n *html.Node) bool { return attribute(n, "id") == command }) {
			t.Errorf("no %s", command)
		}
	}
}

// The seal signs with the algorithm that the header names.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	w := share(t)
	for _, alg := range []string{"RS256", "RS384", "RS512"} {
		form := formOf(t, parse(t, w.get(t, "/workbench").body))
		form["header-value"][0] = strconv.Quote(alg)
		form.Set("do", "send")
		page := parse(t, w.post(t, "/workbench", form).body)
		if rules := failing(page); len(rules) > 0 || len(all(page, "p", "accepted")) != 1 {
			t.Errorf("%s: fails %q", alg, rules)
		}
	}
}

// What cannot be made is said.
func TestWrongDrafts(t *testing.T) {
	t.Parallel()
	w := share(t)
	for name, change := range map[string]func(url.Values){
		"nobody":     func(v url.Values) { v.Set("party", "nobody") },
		"no chain":   func(v url.Values) { v.Set("chain", "nothing") },
		"no signer":  func(v url.Values) { v.Set("signer", "nothing") },
		"no change":  func(v url.Values) { v.Set("change", "everything") },
		"one value":  func(v url.Values) { v["claim-value"] = v["claim-value"][1:] },
		"nothing":    func(v url.Values) { clear(v) },
		"other form": func(v url.Values) { v.Del("party") },
	} {
		form := formOf(t, parse(t, w.get(t, "/workbench").body))
		change(form)
		if a := w.post(t, "/workbench", form); a.status != http.StatusBadRequest || !strings.Contains(a.body, "<h1>That did not work</h1>") {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

// Forms alone suspend a consumer, and undo it; what the provider decides is in the list, with its ladder.
func TestWithoutJavaScript(t *testing.T) {
	t.Parallel()
	w := start(t)
	if d := w.ask(t, "consumer"); d.Rule != nil {
		t.Fatalf("refused by %s: %s", d.Rule.ID, d.Sentence)
	}
	button := func(id string) url.Values {
		page := parse(t, w.get(t, "/").body)
		for _, form := range all(page, "form", "") {
			if slices.ContainsFunc(all(form, "button", ""), func(n *html.Node) bool { return attribute(n, "id") == id }) {
				values := url.Values{}
				for _, input := range all(form, "input", "") {
					values.Add(attribute(input, "name"), attribute(input, "value"))
				}
				return values
			}
		}
		t.Fatalf("there is no button %s", id)
		return nil
	}
	for _, c := range []struct{ id, name, there, back string }{
		{"quick-consumer.standing", "consumer.standing", "suspended", "active"},
		{"quick-consumer.certificate", "consumer.certificate", "held", "registered"},
		{"quick-registry", "registry", "off", "normal"},
		{"quick-ocsp", "ocsp", "off", "normal"},
		{"quick-crl", "crl", "off", "normal"},
		{"quick-other-ca", "other-ca", "granted", "withdrawn"},
	} {
		for _, want := range []string{c.there, c.back, c.there} {
			a := w.post(t, "/set", button(c.id))
			if got := w.value(t, c.name); a.status != http.StatusSeeOther || got != want {
				t.Errorf("%s: %d, %s, want %s", c.name, a.status, got, want)
			}
			if to := a.header.Get("Location"); !strings.Contains(w.get(t, "/").body, `id="`+strings.TrimPrefix(to, "/#")+`"`) {
				t.Errorf("%s leads to %s, which there is not", c.name, to)
			}
		}
	}
	w.post(t, "/undo", nil)
	w.post(t, "/set", url.Values{"switch": {"consumer.standing"}, "value": {"suspended"}})
	began := time.Now()
	d := w.ask(t, "consumer")
	for ; d.Rule != rule.PartyNotActive; d = w.ask(t, "consumer") {
		if time.Since(began) > patience {
			t.Fatalf("still %+v", d)
		}
	}
	at := "/decisions/" + strconv.FormatUint(d.Number, 10)
	if line := w.get(t, "/").body; !strings.Contains(line, `href="`+at+`"`) {
		t.Error("the decision is not in the list")
	}
	page := parse(t, w.get(t, at).body)
	if got := failing(page); !slices.Equal(got, []string{rule.PartyNotActive.ID}) {
		t.Errorf("the ladder fails %q", got)
	}
	if held := all(page, "li", "pass"); len(held) != 1 || len(all(held[0], "li", "")) != slices.Index(rule.All(), rule.PartyNotActive) {
		t.Errorf("what holds is %d steps", len(held))
	}
	if n := len(all(page, "rect", "")); n != 4 {
		t.Errorf("the chain is drawn with %d certificates", n)
	}
	w.post(t, "/undo", nil)
	if got := w.value(t, "consumer.standing"); got != "active" {
		t.Errorf("after all was put back: %s", got)
	}
}

// What could not be decided is told as that.
func TestOutage(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.post(t, "/set", url.Values{"switch": {"registry"}, "value": {"off"}})
	d := w.ask(t, "replaced-consumer") // of whom the provider knows nothing
	page := parse(t, w.get(t, "/decisions/"+strconv.FormatUint(d.Number, 10)).body)
	if d.Rule != rule.UnavailableRegistry || len(all(page, "p", "undecided")) != 1 || len(failing(page)) > 0 {
		t.Errorf("decided by %v, fails %q", d.Rule, failing(page))
	}
}

// stream reads events until one is met.
func (w *world) stream(t *testing.T, after uint64, until func(name, id, data string) bool) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.State().Control+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
	response, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("status %d, %s", response.StatusCode, kind)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	var name, id, data string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data += value + "\n"
		case "":
			if lines.Text() == "" && name != "" {
				if until(name, id, data) {
					return
				}
				name, id, data = "", "", ""
			}
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
}

// A page of an earlier start is told so, also when there are as many decisions again as it has seen.
func TestPageOfThePast(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.ask(t, "consumer")
	log := all(parse(t, w.get(t, "/").body), "div", "")
	i := slices.IndexFunc(log, func(n *html.Node) bool { return attribute(n, "id") == "log" })
	for start, want := range map[string]string{attribute(log[i], "data-start"): "event: space", "another": "event: restart"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.State().Control+"/events?after=1&start="+start, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		if err != nil || strings.TrimSpace(line) != want {
			t.Errorf("start %s: %q, want %q, %v", start, line, want, err)
		}
		response.Body.Close()
	}
}

// A decision is told as it happens, and one that was missed when the connection comes back; so is a switch that somebody
// turns elsewhere.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.ask(t, "consumer")
	w.ask(t, "former-consumer")
	var seen []string
	w.stream(t, 0, func(name, id, data string) bool {
		if name == "decision" {
			seen = append(seen, id)
			line := parse(t, data)
			if len(all(line, "a", "")) != 1 || attribute(all(line, "a", "")[0], "href") != "/decisions/"+id {
				t.Errorf("the line is %s", data)
			}
		}
		if len(seen) == 2 {
			w.ask(t, "consumer")
		}
		return len(seen) == 3
	})
	if !slices.Equal(seen, []string{"1", "2", "3"}) {
		t.Errorf("decisions %q", seen)
	}
	first := ""
	w.stream(t, 2, func(name, id, data string) bool {
		if first == "" && name == "decision" {
			first = id
		}
		if name != "space" {
			return false
		}
		if w.value(t, "consumer.standing") == "active" {
			if err := w.Set("consumer.standing", "suspended"); err != nil {
				t.Error(err)
			}
			return false
		}
		return strings.Contains(data, ">suspended<") && strings.Contains(data, "Reinstate")
	})
	if first != "3" {
		t.Errorf("behind 2 comes %s", first)
	}
	w.stream(t, 57, func(name, _, _ string) bool { // which is of another start
		if name != "restart" {
			t.Errorf("a page of another start gets %s", name)
		}
		return true
	})
}

// Whatever a stranger writes is shown, and is nothing but text.
func TestStrangersText(t *testing.T) {
	t.Parallel()
	w := start(t)
	const wicked = "<script>alert(1)</script>\r\n\r\nevent: space\ndata: \x1b[31m\u202e"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+"/connect/token", strings.NewReader(url.Values{
		"client_id": {wicked}, "client_assertion": {wicked}, "scope": {wicked},
	}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for _, path := range []string{"/", "/decisions/1"} {
		a := w.get(t, path)
		if n := len(all(parse(t, a.body), "script", "")); n != 1 || strings.ContainsAny(a.body, "\r\x1b") {
			t.Errorf("%s: %d scripts, or control characters", path, n)
		}
	}
	events := 0
	w.stream(t, 0, func(name, _, data string) bool {
		events++
		if name == "decision" && !strings.Contains(data, "&lt;script&gt;") {
			t.Errorf("the line is %s", data)
		}
		return name == "space"
	})
	if events != 2 {
		t.Errorf("%d events", events)
	}
}

// There are no more streams than there are places, and one that ends makes room.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	w := start(t)
	looking, stop := context.WithCancel(t.Context())
	defer stop()
	open := func(ctx context.Context) (status int, retry string) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.State().Control+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response.StatusCode, response.Header.Get("Retry-After")
	}
	for n := 0; ; n++ {
		status, retry := open(looking)
		if status == http.StatusServiceUnavailable && retry != "" {
			break
		}
		if status != http.StatusOK || n > 100 {
			t.Fatalf("status %d of stream %d", status, n)
		}
	}
	stop()
	began := time.Now()
	for {
		if status, _ := open(t.Context()); status == http.StatusOK {
			return
		}
		if time.Since(began) > patience {
			t.Fatal("no place becomes free")
		}
	}
}

// Only as many decisions are kept as are said to be, and the page of an older one says so.
func TestOldDecisionsGo(t *testing.T) {
	t.Parallel()
	w := start(t)
	for range sandbox.MaxDecisions + 1 {
		response, err := w.client.Post(w.URL+"/connect/token", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	if a := w.get(t, "/decisions/1"); a.status != http.StatusNotFound {
		t.Errorf("the first: %d", a.status)
	}
	if a := w.get(t, "/decisions/2"); a.status != http.StatusOK || !strings.Contains(a.body, rule.RequestMediaType.ID) {
		t.Errorf("the second: %d", a.status)
	}
	for _, path := range []string{"0", "-1", "x", "102", "99999999999999999999999"} {
		if a := w.get(t, "/decisions/"+path); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if n := len(all(parse(t, w.get(t, "/").body), "li", "refused")); n != sandbox.MaxDecisions {
		t.Errorf("%d lines", n)
	}
}

// What is pasted is judged as the provider would judge it, and leaves no trace.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := start(t)
	bench, err := workbench.New(w.Sandbox)
	if err != nil {
		t.Fatal(err)
	}
	made := func(preset string) string {
		m, err := bench.Make(bench.Preset(preset, "consumer"))
		if err != nil {
			t.Fatal(err)
		}
		return m.Assertion
	}
	right := made("right")
	for _, c := range []struct {
		name, field, text, verdict string
		rule                       *rule.Rule
	}{
		{"right", "text", right, "accepted", nil},
		{"with an end of line", "text", right + "\n", "accepted", nil},
		{"a file", "file", right, "accepted", nil},
		{"wrong", "text", made("aud-array"), "rejected", rule.ClaimAud},
		{"a wrong file", "file", made("alg-none"), "rejected", rule.JWTAlg},
		{"no JWT", "text", "hello <b>", "rejected", rule.JWTCompact},
		{"nothing", "text", "  ", "undecided", nil},
	} {
		a := w.paste(t, c.field, c.text)
		page := parse(t, a.body)
		got := failing(page)
		if a.status != http.StatusOK || len(all(page, "p", c.verdict)) != 1 || (c.rule == nil) != (len(got) == 0) || c.rule != nil && got[0] != c.rule.ID {
			t.Errorf("%s: status %d, fails %q", c.name, a.status, got)
		}
	}
	if n := len(w.Decisions(0)); n > 0 {
		t.Errorf("%d decisions", n)
	}
	for part := range strings.SplitSeq(right, ".") {
		if strings.Contains(w.log.String(), part) {
			t.Error("the log holds a part of what was pasted")
		}
	}
}

// What was made at another time is judged at that time, unless one asks for now.
func TestExplainAtATime(t *testing.T) {
	t.Parallel()
	w := share(t)
	bench, err := workbench.New(w.Sandbox)
	if err != nil {
		t.Fatal(err)
	}
	d := bench.Draft("consumer")
	d.Claims.Set("iat", "{now-600}")
	d.Claims.Set("exp", "{now-570}")
	made, err := bench.Make(d)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{"made": "[]", "now": fmt.Sprint([]string{rule.ClaimExp.ID})} {
		page := parse(t, w.post(t, "/explain", url.Values{"text": {made.Assertion}, "at": {at}}).body)
		if got := fmt.Sprint(failing(page)); got != want {
			t.Errorf("%s: fails %s", at, got)
		}
	}
}
