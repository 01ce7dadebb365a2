package client_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

// The real token endpoint, guard and all, in front of every kind of client.
func TestAgainstRealProvider(t *testing.T) {
	ca := isharetest.NewCA()
	good := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Consumer")
	suspended := ca.Party("did:ishare:EU.NL.NTRNL-10000003", "Suspended", isharetest.Suspended)
	replaced := ca.Party("did:ishare:EU.NL.NTRNL-10000004", "Other seal", isharetest.OtherCertificate)
	unknown := ca.Party("did:ishare:EU.NL.NTRNL-10000005", "Unknown")
	stranger := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000006", "Of another CA")
	server := isharetest.NewProvider(ca, good, suspended, replaced, stranger)
	defer server.Close()

	tests := []struct {
		name   string
		party  *isharetest.Party
		change func(*client.Config)
		rule   *rule.Rule // nil: a token
	}{
		{"good", good, nil, nil},
		{"RS384", good, func(c *client.Config) { c.Algorithm = jws.RS384 }, nil},
		{"RS512", good, func(c *client.Config) { c.Algorithm = jws.RS512 }, nil},
		{"wrong audience", good, func(c *client.Config) { c.Audience = "did:ishare:EU.NL.NTRNL-99999999" }, rule.ClaimAud},
		{"unknown scope", good, func(c *client.Config) { c.Scope = ishare.Scope{"iSHARE", "moon"} }, rule.RequestScope},
		{"chain cut short", good, func(c *client.Config) { c.Certificates = c.Certificates[:1] }, rule.ChainUntrusted},
		{"suspended", suspended, nil, rule.PartyNotActive},
		{"another seal registered", replaced, nil, rule.PartyCertificate},
		{"unknown", unknown, nil, rule.PartyUnknown},
		{"untrusted CA", stranger, nil, rule.ChainUntrusted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conf := client.Config{
				Server: server.URL, Audience: server.Audience,
				ClientID: test.party.ID(), Key: test.party.Key, Certificates: test.party.Certificates,
			}
			if test.change != nil {
				test.change(&conf)
			}
			status, err := get(t, newClient(t, conf).HTTPClient(), server.URL+isharetest.SecuredPath)
			if test.rule == nil {
				if err != nil || status != http.StatusOK {
					t.Errorf("%d, %v", status, err)
				}
				return
			}
			e, ok := errors.AsType[*client.Error](err)
			if !ok || e.RuleID != test.rule.ID || e.Code != test.rule.Code || e.Hint != test.rule.Hint || e.ClockOffset != 0 {
				t.Errorf("got %+v, %v; want %s", e, err, test.rule.ID)
			}
		})
	}
}
