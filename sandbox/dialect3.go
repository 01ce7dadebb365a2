package sandbox

import (
	"net/url"
	"strings"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// dialect3 is that of framework 3.0.
func dialect3() dialect {
	return dialect{
		trustedListPath: "/trustedList",
		search:          search3,
		party: func(e entry) answer {
			return answer{"partyToken", func(v envelope) any { return partyPayload3{v, e.record} }}
		},
		parties: func(p page) answer {
			return answer{"partiesToken", func(v envelope) any { return partiesPayload3{v, partiesOf3(p)} }}
		},
		trustedList: func(list []trustedCA) answer {
			return answer{"trustedListToken", func(v envelope) any { return trustedListPayload3{v, trustedListOf3(list)} }}
		},
		capabilities: func(o offer) answer {
			return answer{"capabilitiesToken", func(v envelope) any { return capabilitiesPayload3{v, capabilitiesOf3(o)} }}
		},
	}
}

type partyPayload3 struct {
	envelope

	PartyInfo *ishare.Party `json:"partyInfo"`
}

type partiesPayload3 struct {
	envelope

	PartiesInfo parties3 `json:"partiesInfo"`
}

type parties3 struct {
	CurrentPage int             `json:"currentPage"`
	PageSize    int             `json:"pageSize"`
	TotalPages  int             `json:"totalPages"`
	TotalCount  int             `json:"totalCount"`
	Count       int             `json:"count"`
	Data        []*ishare.Party `json:"data"`
}

func partiesOf3(p page) parties3 {
	answer := parties3{
		CurrentPage: p.page, PageSize: p.perPage,
		TotalPages: p.pages(), TotalCount: p.total, Count: len(p.entries),
	}
	for _, e := range p.entries {
		answer.Data = append(answer.Data, e.record)
	}
	return answer
}

type trustedListPayload3 struct {
	envelope

	TrustedList []trusted3 `json:"trustedList"`
}

type trusted3 struct {
	Subject     string `json:"subject"`
	Fingerprint string `json:"certificateFingerprint"`
	Validity    string `json:"validity"`
	Status      string `json:"status"`
}

func trustedListOf3(list []trustedCA) []trusted3 {
	answer := make([]trusted3, len(list))
	for i, ca := range list {
		answer[i] = trusted3{Subject: ca.subject, Fingerprint: strings.ToUpper(ca.fingerprint.String()), Validity: "valid", Status: ca.status()}
	}
	return answer
}

type capabilitiesPayload3 struct {
	envelope

	Capabilities capabilities3 `json:"capabilitiesInfo"`
}

type capabilities3 struct {
	Public     []service3 `json:"publicServices"`
	Restricted []service3 `json:"restrictedServices,omitempty"`
}

type service3 struct {
	Identifier    string   `json:"identifier"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	EndpointURL   string   `json:"endpointURL"`
	TokenEndpoint string   `json:"tokenEndpoint"`
	Status        string   `json:"status"`
	Type          string   `json:"serviceType"`
	Version       version3 `json:"version"`
	Methods       []string `json:"methods"`
}

type version3 struct {
	Frameworks []string `json:"compliesWithFrameworkVersions"`
	Capability string   `json:"capabilityVersion"`
}

func capabilitiesOf3(o offer) capabilities3 {
	answer := capabilities3{Public: []service3{
		o.service3("request-oauth-token", "Access token", tokenendpoint.Path, "POST"),
		o.service3("get-capabilities-token", "Capabilities", capabilitiesPath, "GET"),
	}}
	if o.restricted {
		answer.Restricted = []service3{
			o.service3("get-parties-list-token", "Parties", partiesPath, "GET"),
			o.service3("get-trusted-list", "Trusted list", "/trustedList", "GET"),
		}
	}
	return answer
}

func (o offer) service3(identifier, title, path, method string) service3 {
	return service3{
		Identifier: identifier, Title: title, Description: title + " of the sandbox's registry",
		EndpointURL: o.base + path, TokenEndpoint: o.base + tokenendpoint.Path,
		Status: "active", Type: "framework-defined",
		Version: version3{Frameworks: []string{"3.0"}, Capability: "3.0"}, Methods: []string{method},
	}
}

// search3 reads the query of GET /parties.
func search3(q url.Values) (s search, err error) {
	s.id, s.alias, s.name = ishare.PartyID(q.Get("id")), ishare.PartyID(q.Get("alsoKnownAs")), q.Get("name")
	s.page, s.perPage, err = pageOf(q, "page", "pageSize")
	return s, err
}
