package isharetest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	consumerID = "did:ishare:EU.NL.NTRNL-10000001"
	eori       = "EU.EORI.NL000000001"
)

func TestPartyIsInGoodStanding(t *testing.T) {
	for id, stated := range map[ishare.PartyID][]ishare.PartyID{
		consumerID:                        {consumerID},
		"did:ishare:EU.DE.VATDE-123":      {"did:ishare:EU.DE.VATDE-123"},
		eori:                              {eori},
		"did:web:consumer.example.org":    nil,
		"did:ishare:NA.NL.NTRNL-10000001": nil, // not the continent that the country is on
	} {
		p := shared().ca.Party(id, "Some Consumer")
		leaf := p.Certificates[0]
		if diff := cmp.Diff(stated, ishare.CertificateIDs(leaf)); diff != "" {
			t.Errorf("%s: identifiers in the seal (-want +got):\n%s", id, diff)
		}
		now := time.Now()
		if err := p.Record.Compliant(now); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if !p.Record.Certified(ishare.Thumbprint(leaf.Raw), now) || !p.Record.HasRole(isharetest.RoleServiceConsumer, now) {
			t.Errorf("%s: certificate or role is missing in %+v", id, p.Record)
		}
		if !p.Key.PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("%s: the key is not the seal's", id)
		}
	}
}

func TestRecordIsOneThatAReaderTakes(t *testing.T) {
	record := shared().ca.Party(consumerID, "Some Consumer", isharetest.MemberOf("demo"), isharetest.AlsoKnownAs(eori)).Record
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ishare.ParseParty(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record, read); diff != "" {
		t.Errorf("record (-written +read):\n%s", diff)
	}
}

func TestStandings(t *testing.T) {
	now := time.Now()
	good := shared().ca.Party(consumerID, "Some Consumer")
	thumbprint := ishare.Thumbprint(good.Certificates[0].Raw)
	type verdict struct {
		Compliant            string
		Certified, Role, Own bool
	}
	const fine = "<nil>"
	judge := func(p *isharetest.Party) verdict {
		v := verdict{Compliant: fine, Certified: p.Record.Certified(thumbprint, now), Role: p.Record.HasRole(isharetest.RoleServiceConsumer, now)}
		if err := p.Record.Compliant(now); err != nil {
			v.Compliant, _, _ = strings.Cut(err.Error(), " on ")
		}
		v.Own = p.Record.Certified(ishare.Thumbprint(p.Certificates[0].Raw), now)
		return v
	}
	for name, test := range map[string]struct {
		standing isharetest.Standing
		want     verdict
	}{
		"inactive":             {isharetest.Inactive, verdict{"compliance is inactive", true, true, true}},
		"suspended":            {isharetest.Suspended, verdict{"compliance is suspended", true, true, true}},
		"revoked":              {isharetest.Revoked, verdict{"compliance is revoked", true, true, true}},
		"ended":                {isharetest.Ended, verdict{"compliance ended", true, true, true}},
		"not yet begun":        {isharetest.NotYetBegun, verdict{"compliance begins", true, true, true}},
		"without dates":        {isharetest.WithoutDates, verdict{"compliance states no start or end date", true, true, true}},
		"other framework":      {isharetest.OtherFramework, verdict{"the record holds no compliance with iSHARE", true, true, true}},
		"without compliance":   {isharetest.WithoutCompliance, verdict{"the record holds no compliance with iSHARE", true, true, true}},
		"without certificate":  {isharetest.WithoutCertificate, verdict{fine, false, true, false}},
		"other certificate":    {isharetest.OtherCertificate, verdict{fine, false, true, false}},
		"inactive certificate": {isharetest.InactiveCertificate, verdict{fine, false, true, false}},
		"ended certificate":    {isharetest.EndedCertificate, verdict{fine, false, true, false}},
		"without role":         {isharetest.WithoutRole, verdict{fine, true, false, true}},
		"inactive role":        {isharetest.InactiveRole, verdict{fine, true, false, true}},
		"resealed":             {func(p *isharetest.Party) { *p = *p.Resealed(nil) }, verdict{fine, true, true, true}},
	} {
		if diff := cmp.Diff(test.want, judge(good.With(test.standing))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(verdict{fine, true, true, true}, judge(good)); diff != "" {
		t.Errorf("the party itself was changed (-want +got):\n%s", diff)
	}
	further := good.With(isharetest.WithRole("ServiceProvider"), isharetest.MemberOf("demo"), isharetest.AlsoKnownAs(eori)).Record
	if !further.HasRole("ServiceProvider", now) || !further.MemberOf("demo", now) || !further.KnownAs(eori) {
		t.Errorf("role, data space or identifier is missing in %+v", further)
	}
}

func TestPartyPanicsAtAnIdentifierThatIsNone(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a party without an identifier")
		}
	}()
	shared().ca.Party("some-consumer", "Some Consumer")
}

func TestCAsHaveTheSameNamesAndDifferentKeys(t *testing.T) {
	a, b := isharetest.NewCA(), isharetest.NewCA()
	if a.Root().Subject.String() != b.Root().Subject.String() {
		t.Errorf("%s and %s", a.Root().Subject, b.Root().Subject)
	}
	if a.Root().Equal(b.Root()) {
		t.Error("the same CA twice")
	}
	anchors, err := trust.ParseAnchors(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.Anchors(), anchors); diff != "" {
		t.Errorf("anchors and those of the PEM (-want +got):\n%s", diff)
	}
}

func TestList(t *testing.T) {
	party := shared().ca.Party(consumerID, "Some Consumer", isharetest.AlsoKnownAs(eori))
	list := isharetest.NewList(party)
	for _, id := range []ishare.PartyID{consumerID, eori} {
		if record, err := list.Party(t.Context(), id); err != nil || record.ID != consumerID {
			t.Errorf("%s: %v, %v", id, record, err)
		}
	}
	if _, err := list.Party(t.Context(), "did:x:y"); !errors.Is(err, ishare.ErrUnknownParty) {
		t.Errorf("unknown party: %v", err)
	}
	party.Record.Claims = nil
	if record, err := list.Party(t.Context(), eori); err != nil || len(record.Claims) == 0 {
		t.Errorf("the list shares its record with the party: %v, %v", record, err)
	}
	list.Put(party)
	if record, err := list.Party(t.Context(), eori); err != nil || len(record.Claims) != 0 {
		t.Errorf("the record was not replaced: %v, %v", record, err)
	}
	dead := errors.New("dead")
	list.Fail(dead)
	if _, err := list.Party(t.Context(), consumerID); !errors.Is(err, dead) || errors.Is(err, ishare.ErrUnknownParty) {
		t.Errorf("out of reach: %v", err)
	}
	list.Fail(nil)
	list.Remove(eori)
	if _, err := list.Party(t.Context(), consumerID); !errors.Is(err, ishare.ErrUnknownParty) {
		t.Errorf("removed party: %v", err)
	}
}

func TestObject(t *testing.T) {
	o := isharetest.Object{{"a", 1}, {"b", "é\n"}}
	o.Set("c", isharetest.Object{{"d", nil}})
	o.Set("a", isharetest.Raw("1.0"))
	o.Add("b", []any{true})
	if got, want := o.String(), `{"a":1.0,"b":"é\n","c":{"d":null},"b":[true]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := o.Get("b"); got != "é\n" || o.Get("x") != nil {
		t.Errorf("b is %v", got)
	}
	o.Delete("b")
	if got, want := o.String(), `{"a":1.0,"c":{"d":null}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("a channel has a JSON form")
		}
	}()
	o.Set("a", make(chan int))
	_ = o.String()
}

func TestForm(t *testing.T) {
	f := isharetest.Form{{"b", "2 3"}, {"a", "é&"}}
	f.Set("b", "2+3")
	f.Add("b", "")
	if got, want := f.Encode(), "b=2%2B3&a=%C3%A9%26&b="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if f.Get("b") != "2+3" || f.Get("x") != "" {
		t.Errorf("b is %q", f.Get("b"))
	}
	f.Delete("b")
	f.Set("c", "")
	if got, want := f.Encode(), "a=%C3%A9%26&c="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRequestIsWhatItSays(t *testing.T) {
	r := shared().attempts.Consumer.Request(server)
	r.Path = "/token"
	req := r.HTTP("http://127.0.0.1:1/")
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type": {"client_credentials"}, "scope": {"iSHARE"}, "client_id": {string(shared().attempts.Consumer.ID())},
		"client_assertion_type": {isharetest.AssertionType}, "client_assertion": {r.Assertion.Compact()},
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
	if req.Method != http.MethodPost || req.URL.String() != "http://127.0.0.1:1/token" || req.ContentLength != int64(len(body)) {
		t.Errorf("%s %s, length %d", req.Method, req.URL, req.ContentLength)
	}
	if diff := cmp.Diff(http.Header{"Content-Type": {isharetest.MediaType}}, req.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	r.InURL, r.Chunked = true, true
	if req := r.HTTP("http://127.0.0.1:1"); req.URL.RawQuery != r.Body() || req.ContentLength != -1 {
		t.Errorf("query %q, length %d", req.URL.RawQuery, req.ContentLength)
	}
}

func TestWorksInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := isharetest.NewCA()
		consumer := ca.Party(consumerID, "Some Consumer")
		v := newVerifier(t, ca, consumer)
		old := consumer.Assertion(server)
		time.Sleep(time.Minute)
		if _, _, err := v.Verify(t.Context(), consumerID, old); ruleOf(err) != rule.ClaimExp {
			t.Errorf("after a minute: %v", err)
		}
		if client, _, err := v.Verify(t.Context(), consumerID, consumer.Assertion(server)); err != nil || client.ID() != consumerID {
			t.Errorf("a new one: %v", err)
		}
		time.Sleep(4 * 365 * 24 * time.Hour)
		if _, _, err := v.Verify(t.Context(), consumerID, consumer.Assertion(server)); ruleOf(err) != rule.CertificateValidity {
			t.Errorf("after four years: %v", err)
		}
	})
}
