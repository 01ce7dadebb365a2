package sandbox_test

import (
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
		{string(s.Consumer.ID), http.StatusOK, nil}, {string(s.Former.ID), http.StatusBadRequest, rule.PartyNotActive},
		{"", http.StatusBadRequest, rule.RequestMissingParameter},
	} {
		d := &made[i]
		if d.ClientID() != want.client || d.Status != want.status || d.Rule != want.rule || (d.Sentence == "") != (want.rule == nil) || d.Time.IsZero() {
			t.Errorf("%d: %+v by %s", i+1, d.Rule, d.ClientID())
		}
	}
	if made[0].Assertion() != ticket.Get("client_assertion") {
		t.Error("the assertion is another one")
	}
	for from, want := range map[uint64][]uint64{1: {1, 2, 3}, 2: {2, 3}, 3: {3}, 4: nil} {
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
		response, err := plain().Post(s.URL+"/connect/token", "application/x-www-form-urlencoded", strings.NewReader("client_id="+strings.Repeat("x", 70<<10)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	made := s.Decisions(0)
	if len(made) != sandbox.MaxDecisions || made[0].Number != 6 || len(made[0].ClientID()) > 64<<10 {
		t.Errorf("%d decisions from %d on", len(made), made[0].Number)
	}
}
