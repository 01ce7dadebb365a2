package sandbox_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/sandbox"
)

// numbers are those of decisions.
func numbers(made []sandbox.Decision) (list []uint64) {
	for i := range made {
		list = append(list, made[i].Number)
	}
	return list
}

// Each token request is a decision, with what it came to and what it was about, and without the token.
func TestDecisions(t *testing.T) {
	t.Parallel()
	s := start(t)
	changed := s.Changed()
	ticket := s.ticket(t, maker(t, s.Consumer, s.Consumer.ChainFile))
	s.present(t.Context(), plain(), ticket).wants(t, "the consumer", "")
	<-changed
	s.try(t, s.Former).wants(t, "the former consumer", rule.PartyNotActive.ID)
	s.present(t.Context(), plain(), url.Values{"scope": {"iSHARE"}}).wants(t, "nobody", rule.RequestMissingParameter.ID)
	if status, _ := getAny(t, s.URL+"/capabilities"); status != http.StatusOK {
		t.Errorf("capabilities: %d", status)
	}
	made := s.Decisions(0)
	if got := numbers(made); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Fatalf("decisions %d", got)
	}
	for i, want := range []struct {
		client string
		status int
		rule   *rule.Rule
	}{
		{string(s.Consumer.ID), http.StatusOK, nil},
		{string(s.Former.ID), http.StatusBadRequest, rule.PartyNotActive},
		{"", http.StatusBadRequest, rule.RequestMissingParameter},
	} {
		d := &made[i]
		if d.ClientID() != want.client || d.Status != want.status || d.Rule != want.rule || (d.Sentence == "") != (want.rule == nil) || d.Time.IsZero() {
			t.Errorf("%d: %+v by %s", i+1, d.Rule, d.ClientID())
		}
	}
	if r, body := made[0].Request(); r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || string(body) != ticket.Encode() {
		t.Errorf("the request is another one: %s %v", r.Method, r.Header)
	}
	for _, sent := range []struct{ mediaType, body string }{
		{"application/json", `{"client_id":"me"}`},
		{"text/plain", "client_id=me"},
		{"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"client_id\"\r\n\r\nme\r\n--b--\r\n"},
	} {
		answer, err := plain().Post(s.URL+"/connect/token", sent.mediaType, strings.NewReader(sent.body))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		d := s.Decisions(0)
		last := d[len(d)-1]
		if _, body := last.Request(); last.Rule != rule.RequestMediaType || string(body) != sent.body || last.ClientID() != "me" {
			t.Errorf("what is refused before it is read: %s by %q: %q", last.Rule.ID, last.ClientID(), body)
		}
	}
	for from, want := range map[uint64][]uint64{1: {1, 2, 3, 4, 5, 6}, 5: {5, 6}, 6: {6}, 7: nil} {
		if got := numbers(s.Decisions(from)); !slices.Equal(got, want) {
			t.Errorf("from %d: %d", from, got)
		}
	}
}

// What is turned is told, and what is sent is neither changed nor kept without an end.
func TestDecisionsAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t)
	changed := s.Changed()
	s.set(t, "registry", "slow")
	<-changed
	changed = s.Changed()
	s.Reset()
	<-changed
	for range sandbox.MaxDecisions + 5 {
		response, err := plain().Post(s.URL+"/connect/token", "application/x-www-form-urlencoded", strings.NewReader("client_id="+strings.Repeat("x", 60<<10)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	made := s.Decisions(0)
	if len(made) != sandbox.MaxDecisions || made[0].Number != 6 || len(made[0].ClientID()) > 64<<10 {
		t.Errorf("%d decisions from %d on", len(made), made[0].Number)
	}
}

// Whoever asks for the start page of the provider in a browser on this machine is led to the console, and nobody else is.
func TestStartPageLeadsToTheConsole(t *testing.T) {
	t.Parallel()
	with := func(c http.Handler) *space {
		config := sandbox.ConfigForTest(t.TempDir())
		s, err := sandbox.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		s.Console = c
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return &space{Sandbox: s}
	}
	console := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the console") })
	s, bare := with(console), with(nil)
	if status, body := getAny(t, s.URL); status != http.StatusOK || string(body) != "the console" {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := getAny(t, bare.URL); status != http.StatusNotFound {
		t.Errorf("without a console: %d", status)
	}
	for name, header := range map[string]http.Header{"another host": {"Host": {"provider.example"}}, "another path": nil, "a POST": nil} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = header.Get("Host")
		switch name {
		case "another path":
			r.URL.Path = "/state"
		case "a POST":
			r.Method = http.MethodPost
		}
		response, err := plain().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}
}
