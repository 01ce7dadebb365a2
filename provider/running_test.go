package provider_test

import (
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/rule"
)

// A provider that runs explains what it decides, by what it knows at that moment, and uses nothing up.
func TestRunningProviderExplains(t *testing.T) {
	t.Parallel()
	c := configuration(t.TempDir(), true)
	parties := isharetest.NewList(players().consumer)
	c.Parties = parties
	s := serve(t, c)
	request := players().consumer.Request(isharetest.ProviderID)
	compact := request.Assertion.Compact()
	judged := func() *rule.Rejection {
		e := provider.Must(s.Explain(t.Context(), assertion.Request{Assertion: compact}, time.Now()))(t)
		if e.Accepted != (e.Rejection == nil) {
			t.Errorf("accepted %t, %v", e.Accepted, e.Rejection)
		}
		return e.Rejection
	}
	for range 2 {
		if refused := judged(); refused != nil {
			t.Errorf("refused: %v", refused)
		}
	}
	request.Form.Set("client_assertion", compact)
	if err := s.send(t, request).Meets(nil); err != nil {
		t.Errorf("after it was explained: %v", err)
	}
	parties.Put(players().consumer.With(isharetest.Suspended))
	if refused := judged(); refused == nil || refused.Rule != rule.PartyNotActive {
		t.Errorf("suspended: %v", refused)
	}
	c.Party, c.AlsoKnownAs = "did:ishare:EU.NL.NTRNL-10000077", nil
	if err := s.Reload(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if refused := judged(); refused == nil || refused.Rule != rule.ClaimAud {
		t.Errorf("after a reload: %v", refused)
	}
}
