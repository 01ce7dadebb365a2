package rule_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
)

// Who the examples of docs/rules.md are about.
const (
	exampleProvider = "did:ishare:EU.NL.NTRNL-10000000"
	exampleConsumer = "did:ishare:EU.NL.NTRNL-10000001"
)

// moment is when the examples are true.
var moment = time.Unix(1795456800, 0)

// TestTypicalBreaches sends to a provider what docs/rules.md says is sent, which must be refused by that rule, and what it
// says is right, which must get a token.
func TestTypicalBreaches(t *testing.T) {
	t.Parallel()
	all, status := typicals(), isharetest.NewStatusServices()
	t.Cleanup(status.Close)
	for _, reason := range rule.All() {
		example, ok := all[reason]
		if !ok || example.refused == "" || example.cause == "" || example.answer == "" || example.sent == "" || example.right == "" {
			t.Errorf("%s: docs/rules.md lacks something", reason.ID)
			continue
		}
		if (example.put == nil) != (example.attempt != "") {
			t.Errorf("%s: the example is to be tried in one way", reason.ID)
			continue
		}
		if example.put == nil {
			continue // see below
		}
		for part, want := range map[string]*rule.Rule{example.sent: reason, example.right: nil} {
			t.Run(reason.ID, func(t *testing.T) {
				t.Parallel()
				answer := newTrial(t, status, example.put, part).send(t)
				if err := answer.Meets(want); err != nil {
					t.Errorf("%s: %v", part, err)
				}
				if want != nil && !example.says(answer) {
					t.Errorf("%s is answered with\n%s\nand not with\n%s", part, answer.Description, example.answer)
				}
			})
		}
	}
	if len(all) != len(rule.All()) {
		t.Errorf("docs/rules.md has examples of %d rules; there are %d", len(all), len(rule.All()))
	}
	for _, outage := range rule.Outages() {
		if about := unavailabilities()[outage]; about.cause == "" || about.operator == "" {
			t.Errorf("%s: docs/rules.md lacks something", outage.ID)
		}
	}
}

// TestTypicalAttempts: certificates that no text can make are those of isharetest.
func TestTypicalAttempts(t *testing.T) {
	t.Parallel()
	ca := isharetest.NewCA()
	attempts := isharetest.NewAttempts(ca, exampleProvider)
	server := isharetest.NewProvider(ca, attempts.Parties()...)
	defer server.Close()
	for reason, example := range typicals() {
		if example.attempt == "" {
			continue
		}
		breaking := attempts.Breaking(reason)
		i := slices.IndexFunc(breaking, func(a isharetest.Attempt) bool { return a.Name == example.attempt })
		if i < 0 {
			t.Errorf("%s: no attempt is called %q", reason.ID, example.attempt)
			continue
		}
		answer, err := breaking[i].Requests()[0].Send(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Meets(reason); err != nil || !example.says(answer) {
			t.Errorf("%s is answered with\n%s\nand not with\n%s\n%v", reason.ID, answer.Description, example.answer, err)
		}
	}
}

// says whether a server has answered as the page says it does, where … stands for anything.
func (e typical) says(answer *isharetest.Answer) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(e.answer), "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(answer.Description)
}

// A trial is a right request to a provider that also asks about revocation, until an example is put into it.
type trial struct {
	status   *isharetest.StatusServices // of all trials; the seals of each are its own
	consumer *isharetest.Party
	parties  *isharetest.List
	request  *isharetest.Request
	before   *isharetest.Request // sent first; nil: nothing is
	url      string
}

// put puts the part that an example shows into a trial.
type put func(t *testing.T, w *trial, part string)

func newTrial(t *testing.T, status *isharetest.StatusServices, put put, part string) *trial {
	t.Helper()
	w := &trial{status: status}
	w.consumer = w.status.CA.Party(exampleConsumer, "Some Consumer")
	w.parties = isharetest.NewList(w.consumer)
	w.request = w.consumer.Request(exampleProvider)
	p, err := provider.New(provider.Config{
		Party: exampleProvider, Anchors: w.status.CA.Anchors(), Parties: w.parties,
		Revocation: provider.Revocation{Mode: revocation.Require, AllowPrivate: true},
		Data:       t.TempDir(), NoHistory: true,
		Roles: []string{isharetest.RoleServiceConsumer}, Scopes: []string{"orders"},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	stopped := make(chan error, 1)
	go func() { stopped <- p.Run(ctx) }()
	server := httptest.NewServer(p.Public())
	t.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	w.url = server.URL
	issued, ok := w.request.Assertion.Payload.Get("iat").(int64)
	if !ok {
		t.Fatal("the request has no iat")
	}
	put(t, w, atPresent(part, time.Unix(issued, 0)))
	return w
}

func (w *trial) send(t *testing.T) *isharetest.Answer {
	t.Helper()
	if w.before != nil {
		if answer, err := w.before.Send(w.url); err != nil || answer.Meets(nil) != nil {
			t.Fatalf("the request before: %+v, %v", answer, err)
		}
	}
	answer, err := w.request.Send(w.url)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

var instants = regexp.MustCompile(`\b1795\d{6}(000)?\b|\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\b`)

// atPresent moves the times of an example from its moment to the present one, which is the one of the request that it is put into:
// a second may begin between two looks at the clock.
func atPresent(part string, present time.Time) string {
	passed := present.Sub(moment)
	return instants.ReplaceAllStringFunc(part, func(text string) string {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			return at.Add(passed).Format(time.RFC3339)
		}
		number, _ := strconv.ParseInt(text, 10, 64)
		if len(text) > len("1795456800") {
			return strconv.FormatInt(number+passed.Milliseconds(), 10)
		}
		return strconv.FormatInt(number+int64(passed.Seconds()), 10)
	})
}

// absent tells a text in place of something that is not there.
func absent(part string) bool { return strings.HasPrefix(part, "(") }

func inMethod(_ *testing.T, w *trial, part string) {
	w.request.Method, _, _ = strings.Cut(part, " ")
	if w.request.Method == http.MethodGet {
		w.request.InURL = true
		w.request.Header.Del("Content-Type")
	}
}

func inHTTP(_ *testing.T, w *trial, part string) {
	if name, value, _ := strings.Cut(part, ": "); !absent(part) {
		w.request.Header.Set(name, value)
	}
}

func inLength(t *testing.T, w *trial, part string) {
	t.Helper()
	size, err := strconv.Atoi(strings.TrimPrefix(part, "Content-Length: "))
	if err != nil {
		t.Fatal(err)
	}
	w.request.Rewrite = func(form string) string { return form + "&x=" + strings.Repeat("x", size-len(form)-len("&x=")) }
}

func inForm(_ *testing.T, w *trial, part string) {
	for pair := range strings.SplitSeq(part, "&") {
		name, _, _ := strings.Cut(pair, "=")
		w.request.Form.Delete(name)
	}
	w.request.Rewrite = func(form string) string { return form + "&" + part }
}

// inSignature: what stands behind the last part of the example stands behind the signature.
func inSignature(_ *testing.T, w *trial, part string) {
	w.request.Assertion.Rewrite = func(compact string) string {
		return compact + strings.TrimLeft(part[strings.LastIndexByte(part, '.')+1:], base64URLDigits)
	}
}

const base64URLDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func asHeader(_ *testing.T, w *trial, part string) {
	entries := `"` + strings.Join(isharetest.X5C(w.consumer.Certificates...), `", "`) + `"`
	w.request.Assertion.HeaderText = strings.Replace(part, `"…"`, entries, 1)
}

func inHeader(t *testing.T, w *trial, part string) {
	t.Helper()
	if absent(part) {
		return
	}
	var members map[string]any
	if err := json.Unmarshal([]byte("{"+part+"}"), &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range members {
		w.request.Assertion.Header.Set(name, value)
	}
}

// inFirstCertificate: the first entry is what begins as the example does.
func inFirstCertificate(t *testing.T, w *trial, part string) {
	t.Helper()
	leaf := w.consumer.Certificates[0].Raw
	_, begins, _ := strings.Cut(part, `["`)
	begins, _, _ = strings.Cut(begins, "…")
	entries := isharetest.X5C(w.consumer.Certificates...)
	if !strings.HasPrefix(entries[0], begins) {
		entries[0] = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}))
	}
	if !strings.HasPrefix(entries[0], begins) {
		t.Fatalf("nothing begins with %s", begins)
	}
	w.request.Assertion.Header.Set("x5c", entries)
}

var claimName = regexp.MustCompile(`"(\w+)":`)

func inPayload(_ *testing.T, w *trial, part string) {
	a := w.request.Assertion
	for _, match := range claimName.FindAllStringSubmatch(part, -1) {
		a.Payload.Delete(match[1])
	}
	a.PayloadText = strings.TrimSuffix(a.Payload.String(), "}") + "," + part + "}"
}

func inChain(t *testing.T, w *trial, part string) {
	t.Helper()
	names := []string{"seal", "issuing CA", "sub CA", "root"} // as isharetest makes them
	all := isharetest.X5C(w.consumer.Certificates...)
	if len(all) != len(names) {
		t.Fatalf("the chain has %d certificates", len(all))
	}
	var chain []string
	for name := range strings.SplitSeq(strings.TrimPrefix(part, "x5c: "), ", ") {
		i := slices.Index(names, name)
		if i < 0 {
			t.Fatalf("there is no %s", name)
		}
		chain = append(chain, all[i])
	}
	w.request.Assertion.Header.Set("x5c", chain)
}

func asParty(_ *testing.T, w *trial, part string) {
	_, id, _ := strings.Cut(part, ": ")
	w.request.As(ishare.PartyID(id))
}

func inRecord(t *testing.T, w *trial, part string) {
	t.Helper()
	var claim ishare.Claim
	if err := json.Unmarshal([]byte(strings.TrimPrefix(part, "registered: ")), &claim); err != nil {
		t.Fatal(err)
	}
	changed := w.consumer.With()
	for i, c := range changed.Record.Claims {
		if c.Type == claim.Type {
			changed.Record.Claims[i] = claim
		}
	}
	w.parties.Put(changed)
}

func atStatusService(_ *testing.T, w *trial, part string) {
	if strings.HasSuffix(part, ": revoked") {
		w.status.Revoke(w.consumer.Certificates[0])
	}
}

var tried = regexp.MustCompile(`: ([0-9a-f]+)`)

func inTwoTries(_ *testing.T, w *trial, part string) {
	found := tried.FindAllStringSubmatch(part, -1)
	w.before = w.consumer.Request(exampleProvider)
	w.before.Assertion.Payload.Set("jti", found[0][1])
	w.request.Assertion.Payload.Set("jti", found[1][1])
}
