package isharetest_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

func newProvider(t *testing.T, c isharetest.ProviderConfig) *isharetest.Provider {
	t.Helper()
	p, err := isharetest.StartProvider(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestProviderJudgesAttemptsByTheirRule(t *testing.T) {
	provider := newProvider(t, isharetest.ProviderConfig{
		CA: shared().ca, Parties: shared().attempts.Parties(), AlsoKnownAs: []ishare.PartyID{alias},
	})
	for _, a := range shared().attempts.All() {
		for i, r := range a.Requests() {
			answer, err := r.Send(provider.URL)
			if err != nil {
				t.Errorf("%s, request %d: %v", a, i+1, err)
				continue
			}
			if err := answer.Meets(r.Expect); err != nil {
				t.Errorf("%s, request %d: %v", a, i+1, err)
			}
			if r.Expect != nil && answer.RuleID() != r.Expect.ID {
				t.Errorf("%s, request %d: the answer names the rule %q", a, i+1, answer.RuleID())
			}
		}
	}
}

// get calls the provider's service.
func get(t *testing.T, provider *isharetest.Provider, authorization string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, provider.URL+isharetest.SecuredPath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	response, err := (&http.Client{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

func send(t *testing.T, r *isharetest.Request, base string) *isharetest.Answer {
	t.Helper()
	answer, err := r.Send(base)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestProviderKnowsItsCallers(t *testing.T) {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer", isharetest.AlsoKnownAs("EU.EORI.NL000000001"))
	provider := newProvider(t, isharetest.ProviderConfig{CA: ca, Parties: []*isharetest.Party{consumer}, Scopes: []string{"orders"}, Lifetime: time.Minute})

	request := consumer.Request(provider.Audience)
	request.As("EU.EORI.NL000000001")
	request.Form.Set("scope", "orders iSHARE")
	answer := send(t, request, provider.URL)
	if err := answer.Meets(nil); err != nil {
		t.Fatal(err)
	}
	if answer.TokenType != "Bearer" || answer.ExpiresIn != 60 || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("type %s, expires in %v, headers %v", answer.TokenType, answer.ExpiresIn, answer.Header)
	}
	status, body := get(t, provider, "Bearer "+answer.AccessToken)
	want := `{"party":"did:ishare:EU.NL.NTRNL-10000001","client_id":"EU.EORI.NL000000001","scope":"orders iSHARE"}`
	if status != http.StatusOK || strings.TrimSpace(body) != want {
		t.Errorf("status %d: %s, want %s", status, body, want)
	}
	if status, _ := get(t, provider, ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	if status, _ := get(t, provider, "Bearer "+answer.AccessToken+"A"); status != http.StatusUnauthorized {
		t.Errorf("with an altered token: status %d", status)
	}
}

func TestProviderNoticesChangesOfStanding(t *testing.T) {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := newProvider(t, isharetest.ProviderConfig{CA: ca, Dataspaces: []string{"demo"}})
	for _, step := range []struct {
		change func()
		want   *rule.Rule
	}{
		{func() {}, rule.PartyUnknown},
		{func() { provider.Parties.Put(consumer) }, rule.PartyPolicy},
		{func() { provider.Parties.Put(consumer.With(isharetest.MemberOf("demo"))) }, nil},
		{func() { provider.Parties.Put(consumer.With(isharetest.Suspended)) }, rule.PartyNotActive},
		{func() { provider.Parties.Fail(errors.New("the line is dead")) }, rule.UnavailableRegistry},
		{func() { provider.Parties.Fail(nil) }, rule.PartyNotActive},
		{func() { provider.Parties.Remove(consumer.ID()) }, rule.PartyUnknown},
	} {
		step.change()
		if err := send(t, consumer.Request(provider.Audience), provider.URL).Meets(step.want); err != nil {
			t.Error(err)
		}
	}
}

func TestProviderLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	provider := isharetest.NewProvider(isharetest.NewCA())
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) == 0 {
		t.Fatalf("the provider keeps its keys elsewhere: %v, %v", left, err)
	}
	provider.Close()
	provider.Close() // once more does no harm
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, provider.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := (&http.Client{}).Do(req); err == nil {
		response.Body.Close()
		t.Error("it answers after it was closed")
	}
}

func TestStartProviderSaysWhatIsWrong(t *testing.T) {
	ca := isharetest.NewCA()
	for name, c := range map[string]isharetest.ProviderConfig{
		"CA":         {},
		"identifier": {CA: ca, ID: "provider"},
		"lifetime":   {CA: ca, Lifetime: time.Millisecond},
		"scope":      {CA: ca, Scopes: []string{"two values"}},
	} {
		if p, err := isharetest.StartProvider(c); err == nil {
			p.Close()
			t.Errorf("%s: started", name)
		}
	}
}

// answering is a server that gives everybody the same answer.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestCheckNoticesWrongServers(t *testing.T) {
	generous := answering(t, http.StatusOK, `{"access_token":"token","token_type":"Bearer","expires_in":3600}`)
	strict := answering(t, http.StatusBadRequest, `{"error":"invalid_client"}`)
	crashing := answering(t, http.StatusInternalServerError, `{"error":"invalid_client"}`)
	mute := answering(t, http.StatusBadRequest, "Bad Request\n")
	mistaken := answering(t, http.StatusBadRequest, `{"error":"invalid_client","error_description":"claim.sub: sub is missing"}`)
	both := answering(t, http.StatusBadRequest, `{"error":"invalid_client","access_token":"token"}`)
	for _, a := range shared().attempts.All() {
		if len(a.Requests()) > 1 || a.Rule != nil && a.Rule != rule.ClaimSub && a.Rule != rule.ClaimAud {
			continue
		}
		right := a.Rule == nil
		for name, server := range map[string]struct {
			url  string
			good bool
		}{
			"generous": {generous, right}, "strict": {strict, !right}, "crashing": {crashing, false},
			"mute": {mute, false}, "mistaken": {mistaken, a.Rule == rule.ClaimSub}, "both": {both, false},
		} {
			if err := a.Check(server.url); (err == nil) != server.good {
				t.Errorf("%s at a %s server: %v", a, name, err)
			}
		}
	}
}

func TestCheckStopsAtTheFirstWrongAnswer(t *testing.T) {
	generous := answering(t, http.StatusOK, `{"access_token":"token"}`)
	for _, a := range shared().attempts.Breaking(rule.JTIReplayed) {
		if err := a.Check(generous); err == nil || !strings.Contains(err.Error(), "request 2") {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestSendTellsThatNobodyAnswers(t *testing.T) {
	const nobody = "http://127.0.0.1:1" // a port that no system gives to others
	if _, err := shared().attempts.Consumer.Request(server).Send(nobody); err == nil {
		t.Error("an answer of nobody")
	}
}
