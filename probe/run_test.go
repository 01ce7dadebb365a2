package probe_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/probe"
)

// serve starts a server, and returns its base URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func answering(status int, header map[string]string, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	})
}

func result(t *testing.T, report *probe.Report, name string) probe.Result {
	t.Helper()
	for _, r := range report.Results {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no result of %s", name)
	return probe.Result{}
}

// TestStrangeServers: whatever answers, the report says what.
func TestStrangeServers(t *testing.T) {
	jsonType := map[string]string{"Content-Type": "application/json"}
	followed := new(atomic.Int32)
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	for name, test := range map[string]struct {
		handler http.Handler
		verdict probe.Verdict
		outcome probe.Outcome
		said    string
	}{
		"refuses everything": {answering(401, jsonType, `{"error":"invalid_client","error_description":"no such client"}`), probe.Fail, probe.RefusedRight, "401 invalid_client: no such client"},
		"500":                {answering(500, nil, "Traceback (most recent call last)"), probe.Fail, probe.ServerError, "500 Traceback"},
		"503":                {answering(503, nil, "upstream"), probe.Fail, probe.ServerError, "503 upstream"},
		"a page":             {answering(200, map[string]string{"Content-Type": "text/html"}, "<html><p>Welcome"), probe.Fail, probe.RefusedRight, "200 Welcome"},
		"redirect":           {answering(302, map[string]string{"Location": elsewhere}, ""), probe.Fail, probe.RefusedRight, "302 a redirect"},
		"token in an array":  {answering(200, jsonType, `[{"access_token":"abcdef","token_type":"Bearer"}]`), probe.Pass, probe.Accepted, "200 and a token"},
		"token in a form":    {answering(200, nil, `token_type=Bearer&access_token=abcdef`), probe.Pass, probe.Accepted, "200 and a token"},
		"talks of tokens":    {answering(400, jsonType, `{"error":"invalid_request","error_description":"access_token=none"}`), probe.Fail, probe.RefusedRight, "access_token=none"},
	} {
		t.Run(name, func(t *testing.T) {
			config := players().everything(serve(t, test.handler), "")
			config.Only = []string{probe.RightCase}
			r := result(t, run(t, config), probe.RightCase)
			if r.Verdict != test.verdict || r.Outcome != test.outcome || !strings.Contains(r.Came, test.said) {
				t.Errorf("%s, %s: %s", r.Verdict, r.Outcome, r.Came)
			}
		})
	}
	if followed.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

// TestNobodyThere: a server that is out of reach is no server that refuses.
func TestNobodyThere(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	report := run(t, players().everything(gone.URL, gone.URL))
	if r := result(t, report, probe.RightCase); r.Verdict != probe.Fail || r.Outcome != probe.NoAnswer {
		t.Errorf("%s, %s: %s", r.Verdict, r.Outcome, r.Came)
	}
	if report.Good() || report.Count(probe.Pass) > 0 || report.Requests > 5 {
		t.Errorf("%s", report.Summary())
	}
}

// TestRefusalOfTheRight: what would be refused anyway is skipped, what gives no token in the URL is judged, and so is the
// form of the errors.
func TestRefusalOfTheRight(t *testing.T) {
	server := serve(t, answering(401, map[string]string{"Content-Type": "application/json"}, `{"error":"invalid_client"}`))
	report := run(t, players().everything(server, server+"/secured"))
	for _, r := range report.Results {
		skipped := strings.Contains(r.Name, ".") && r.Group() != "request.method" || r.Group() == "secured"
		if got := r.Verdict == probe.Skipped && strings.HasPrefix(r.Reason, "not even the right request"); skipped && !got {
			t.Errorf("%s: %s, %s%s", r.Name, r.Verdict, r.Came, r.Reason)
		}
	}
	for name, want := range map[string]probe.Verdict{
		"answer/error-code": probe.Pass, "answer/error-no-store": probe.Fail, "answer/error-challenge": probe.Warn, "request.method/GET": probe.Warn,
	} {
		if r := result(t, report, name); r.Verdict != want {
			t.Errorf("%s: %s, want %s: %s%s", name, r.Verdict, want, r.Came, r.Reason)
		}
	}
	if report.Requests > 20 {
		t.Errorf("%d requests to a server that refuses everything", report.Requests)
	}
}

// TestServerErrors: a server that gives tokens and fails on what is wrong fails the suite, but is not said to give tokens.
func TestServerErrors(t *testing.T) {
	s := startLenient(t, players(), "nothing")
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &recorder{header: http.Header{}}
		s.ServeHTTP(answer, r)
		if answer.status == http.StatusBadRequest {
			http.Error(w, "java.lang.NullPointerException", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.status)
		w.Write(answer.body.Bytes())
	}))
	config := players().everything(server, "")
	config.Only = []string{"claim.aud", "jti.replayed"}
	report := run(t, config)
	for _, r := range report.Results {
		if r.Name == probe.RightCase {
			continue
		}
		if want := r.Name != "jti.replayed/not-burned"; (r.Outcome == probe.ServerError) != want {
			t.Errorf("%s: %s, %s: %s", r.Name, r.Verdict, r.Outcome, r.Came)
		}
	}
}

// TestBusyServer: a server that asks to wait is asked again, with a new assertion.
func TestBusyServer(t *testing.T) {
	s := startLenient(t, players(), "nothing")
	var asked atomic.Int32
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, r)
	}))
	config := players().everything(server, "")
	config.Only = []string{probe.RightCase}
	if report := run(t, config); !report.Good() || asked.Load() != 2 {
		t.Errorf("%s, asked %d times", report.Summary(), asked.Load())
	}
}

// TestInterrupted: the report holds what was done until then.
func TestInterrupted(t *testing.T) {
	s := startLenient(t, players(), "nothing")
	ctx, cancel := context.WithCancel(t.Context())
	config := players().everything(s.url, "")
	var told int
	config.Progress = func(_ probe.Result, done, of int) {
		told++
		if done != told || of != len(probe.Cases()) {
			t.Errorf("told of %d of %d", done, of)
		}
		if done == 5 {
			cancel()
		}
	}
	report, err := probe.Run(ctx, config)
	if err != nil || !report.Interrupted || len(report.Results) != 5 || report.Good() || report.Count(probe.Pass) != 5 {
		t.Errorf("%v, %d results, %s", err, len(report.Results), report.Summary())
	}
	var b strings.Builder
	if err := errors.Join(report.WriteJUnit(&b), report.WriteText(&b)); err != nil || !strings.Contains(b.String(), `failures="1"`) || !strings.Contains(b.String(), "; interrupted") {
		t.Errorf("%v: %s", err, b.String())
	}
}

// TestUnregisteredTestSeals: where a right seal of the test CA is refused, the refusal of a wrong one shows nothing, and
// a token for it shows all the same that it should not have been given.
func TestUnregisteredTestSeals(t *testing.T) {
	s := startLenient(t, players(), "right/seal-of-the-test-CA")
	config := players().everything(s.url, "")
	config.Only = []string{"certificate.validity", "right/seal-of-the-test-CA", "certificate.usage"}
	for _, r := range run(t, config).Results {
		named := strings.Contains(r.Came, r.Group()+"/") // the lenient server names the case, and not the rule
		if r.Needs == probe.NeedsTestCA && (r.Verdict != probe.Skipped || named || !strings.Contains(r.Reason, "400 invalid_client")) {
			t.Errorf("%s: %s, %s%s", r.Name, r.Verdict, r.Came, r.Reason)
		}
	}
}

// TestConfig: what is of no use is an error before anything is sent.
func TestConfig(t *testing.T) {
	right := players().everything("http://127.0.0.1:1", "")
	for name, change := range map[string]func(*probe.Config){
		"no server":            func(c *probe.Config) { c.Server = "" },
		"no URL":               func(c *probe.Config) { c.Server = "provider.example" },
		"plain http":           func(c *probe.Config) { c.Server = "http://provider.example" },
		"credentials":          func(c *probe.Config) { c.TokenEndpoint = "https://a:b@provider.example" },
		"secured plain http":   func(c *probe.Config) { c.SecuredURL = "http://provider.example/orders" },
		"no audience":          func(c *probe.Config) { c.Audience = "" },
		"no client":            func(c *probe.Config) { c.Seal.ClientID = "somebody" },
		"no key":               func(c *probe.Config) { c.Seal.Key = nil },
		"no certificates":      func(c *probe.Config) { c.Seal.Certificates = nil },
		"unknown case":         func(c *probe.Config) { c.Only = []string{"claim.aud", "claim.audience"} },
		"an empty name":        func(c *probe.Config) { c.Only = []string{""} },
		"a wrong revoked seal": func(c *probe.Config) { c.Revoked = &probe.Seal{} },
	} {
		c := right
		change(&c)
		if report, err := probe.Run(t.Context(), c); err == nil {
			t.Errorf("%s: it ran: %s", name, report.Summary())
		}
	}
}

// TestCases holds the table to what is said of it.
func TestCases(t *testing.T) {
	cases := probe.Cases()
	seen := map[string]bool{}
	alone, official := 0, 0
	ours := false
	for _, c := range cases {
		if seen[c.Name] || strings.ContainsAny(c.Name, " \t|`") || !strings.Contains(c.Name, "/") {
			t.Errorf("the name %q", c.Name)
		}
		seen[c.Name] = true
		if c.Sends == "" || c.Wants == "" || c.Spec == "" || c.Weight == "" || !strings.HasSuffix(c.Sends, ".") {
			t.Errorf("%s: %+v", c.Name, c)
		}
		if c.Official != "" {
			official++
			if ours && c.Name != waits {
				t.Errorf("%s is official and comes after ours", c.Name)
			}
		} else {
			ours = true
		}
		if c.Needs == "" {
			alone++
		}
		if selected, err := probe.Select(c.Name); err != nil || len(selected) == 0 {
			t.Errorf("%s cannot be selected", c.Name)
		}
	}
	if cases[0].Name != probe.RightCase || alone < 60 || official < 40 {
		t.Errorf("%s is the first, %d need nothing but a seal, %d are official", cases[0].Name, alone, official)
	}
	if selected, _ := probe.Select("official"); len(selected) != official {
		t.Errorf("official selects %d, want %d", len(selected), official)
	}
	if selected, _ := probe.Select("aud missing"); len(selected) != 1 || selected[0].Name != "claim.aud/missing" {
		t.Errorf("aud missing selects %d", len(selected))
	}
}

// TestOtherParty: whom the cases pretend to be is nobody, and a party as the client is.
func TestOtherParty(t *testing.T) {
	for id, want := range map[ishare.PartyID]ishare.PartyID{
		"did:ishare:EU.NL.NTRNL-10000001": "did:ishare:EU.NL.NTRNL-99999999",
		"did:ishare:EU.NL.NTRNL-99999999": "did:ishare:EU.NL.NTRNL-99999998",
		"EU.EORI.NL000000001":             "EU.EORI.NL999999999",
		"did:web:provider.example":        "did:web:provider.example1",
		"did:web:a1.example":              "did:web:a9.example",
	} {
		if got := probe.OtherParty(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

// TestOpaqueTokenIsNotTold: a token is known from the answer that gave it, whatever it looks like.
func TestOpaqueTokenIsNotTold(t *testing.T) {
	const token = "short-token-1"
	var asked atomic.Int32
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if asked.Add(1) == 1 {
			w.Write([]byte(`{"access_token":"` + token + `","token_type":"` + token + `"}`))
			return
		}
		w.Header().Set("Cache-Control", token)
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(`{"error":"invalid_client","error_description":"you have ` + token + ` already"}`))
	}))
	config := players().everything(server, "")
	config.Only = []string{"claim.aud", "answer"}
	report := run(t, config)
	for name, write := range map[string]probe.Format{"JSON": (*probe.Report).WriteJSON, "text": (*probe.Report).WriteText} {
		var b strings.Builder
		if err := write(report, &b); err != nil || strings.Contains(b.String(), token) || !strings.Contains(b.String(), "[removed]") {
			t.Errorf("%s, %v: %s", name, err, b.String())
		}
	}
	if r := result(t, report, "claim.aud/missing"); r.Came != "400 invalid_client: you have [removed] already" {
		t.Errorf("it is told as %s", r.Came)
	}
}

// TestCertificatesOfTestCA: they are put in order, and what they lack is taken from those of the client.
func TestCertificatesOfTestCA(t *testing.T) {
	issuing, own := players().ca.Authority(testca.Issuing), players().consumer.Chain
	backwards := slices.Clone(issuing.Chain)
	slices.Reverse(backwards)
	for name, test := range map[string]struct{ certificates, own []*x509.Certificate }{
		"in order": {issuing.Chain, own[:1]}, "backwards": {backwards, own[:1]}, "alone": {issuing.Chain[:1], own}, "with others": {append(slices.Clone(own), backwards...), own[:1]},
	} {
		seals, err := probe.CheapTestSeals(issuing.Key, test.certificates, test.own)
		if err != nil || !slices.EqualFunc(seals.Chain()[1:], own[1:], (*x509.Certificate).Equal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, certificates := range map[string][]*x509.Certificate{"none": nil, "of others": own[:1]} {
		if _, err := probe.CheapTestSeals(issuing.Key, certificates, own); err == nil {
			t.Errorf("%s: there are seals", name)
		}
	}
	if _, err := probe.CheapTestSeals(players().consumer.Key, own, own); err == nil {
		t.Error("a seal was taken for a CA")
	}
}

// TestWeights: what the specification does not demand fails nobody.
func TestWeights(t *testing.T) {
	lenient := startLenient(t, players(), "nothing")
	for name, test := range map[string]struct {
		change  func(answer *recorder, r *http.Request)
		only    string
		verdict probe.Verdict
	}{
		"PUT is not implemented": {func(a *recorder, r *http.Request) {
			if r.Method == http.MethodPut {
				a.status = http.StatusNotImplemented
			}
		}, "request.method/PUT", probe.Warn},
		"PUT fails": {func(a *recorder, r *http.Request) {
			if r.Method == http.MethodPut {
				a.status = http.StatusInternalServerError
			}
		}, "request.method/PUT", probe.Fail},
		"no expires_in": {func(a *recorder, _ *http.Request) {
			a.body = *bytes.NewBuffer(bytes.Replace(a.body.Bytes(), []byte(`"expires_in":3600`), []byte(`"expires":3600`), 1))
		}, "answer/expires_in", probe.Warn},
		"errors of its own": {func(a *recorder, _ *http.Request) {
			if a.status == http.StatusBadRequest {
				a.status, a.body = http.StatusForbidden, *bytes.NewBufferString("access denied")
				a.header.Set("Content-Type", "text/plain")
			}
		}, "answer/error-", probe.Warn},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := &recorder{header: http.Header{}}
				lenient.ServeHTTP(answer, r)
				test.change(answer, r)
				maps.Copy(w.Header(), answer.header)
				w.WriteHeader(answer.status)
				w.Write(answer.body.Bytes())
			}))
			config := players().everything(server, "")
			config.Only = []string{test.only}
			worst := probe.Skipped
			for _, r := range run(t, config).Results {
				switch {
				case r.Verdict == probe.Fail:
					worst = probe.Fail
				case r.Verdict == probe.Warn && worst != probe.Fail:
					worst = probe.Warn
				}
			}
			if worst != test.verdict {
				t.Errorf("%s, want %s", worst, test.verdict)
			}
		})
	}
}

// TestPiecesOfAssertionAreNotTold: a server that quotes an assertion so that it does not look like one gets it told of no more
// than any other. Somebody could put it together, and use it where this server did not.
func TestPiecesOfAssertionAreNotTold(t *testing.T) {
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		compact := r.PostFormValue("client_assertion")
		signature := compact[strings.LastIndexByte(compact, '.')+1:]
		pieces := strings.Join([]string{signature[:50], signature[50:100], signature[100:120]}, ", ")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(`{"error":"invalid_client","error_description":"who signs ` + pieces + `?"}`))
	}))
	config := players().everything(server, "")
	config.Only = []string{probe.RightCase}
	if r := result(t, run(t, config), probe.RightCase); r.Came != "400 invalid_client: who signs [removed], [removed], [removed]?" {
		t.Errorf("it is told as %s", r.Came)
	}
}
