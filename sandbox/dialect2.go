package sandbox

import (
	"net/url"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// dialect2 is that of the 2.x frameworks.
func dialect2() dialect {
	return dialect{
		trustedListPath: "/trusted_list",
		search:          search2,
		party: func(e entry) answer {
			return answer{"party_token", func(v envelope) any { return partyPayload2{v, partyOf2(e)} }}
		},
		parties: func(p page) answer {
			return answer{"parties_token", func(v envelope) any { return partiesPayload2{v, partiesOf2(p)} }}
		},
		trustedList: func(list []trustedCA) answer {
			return answer{"trusted_list_token", func(v envelope) any { return trustedListPayload2{v, trustedListOf2(list)} }}
		},
		capabilities: func(o offer) answer {
			return answer{"capabilities_token", func(v envelope) any { return capabilitiesPayload2{v, capabilitiesOf2(o)} }}
		},
	}
}

type partyPayload2 struct {
	envelope

	PartyInfo party2 `json:"party_info"`
}

type party2 struct {
	ID           ishare.PartyID   `json:"party_id"`
	AlsoKnownAs  []ishare.PartyID `json:"alsoKnownAs"` // from 2.2 on
	Name         string           `json:"party_name"`
	RegistrarID  string           `json:"registrar_id"`
	Adherence    adherence2       `json:"adherence"`
	Certificates []certificate2   `json:"certificates"`
	Roles        []role2          `json:"roles"`
}

type adherence2 struct {
	Status string    `json:"status"`
	Start  time.Time `json:"start_date"`
	End    time.Time `json:"end_date"`
}

type certificate2 struct {
	SubjectName string    `json:"subject_name"`
	Type        string    `json:"certificate_type"`
	EnabledFrom time.Time `json:"enabled_from"`
	X5C         string    `json:"x5c"`
	X5T         string    `json:"x5t#s256"`
}

type role2 struct {
	Role  string    `json:"role"`
	Start time.Time `json:"start_date"`
	End   time.Time `json:"end_date"`
	LoA   string    `json:"loa"`
}

// partyOf2 writes an entry as the earlier framework does.
func partyOf2(e entry) party2 {
	p := party2{ID: e.record.ID, AlsoKnownAs: e.record.AlsoKnownAs, Name: e.record.Name, Certificates: []certificate2{}, Roles: []role2{}}
	for _, c := range e.record.Claims {
		switch c.Type {
		case ishare.ClaimFrameworkCompliance:
			p.RegistrarID = c.RegistrarID
			p.Adherence = adherence2{Status: e.standing.status2, Start: c.Start, End: c.End}
		case ishare.ClaimFrameworkRole:
			p.Roles = append(p.Roles, role2{Role: c.RoleID, Start: c.Start, End: c.End, LoA: c.LoA})
		case ishare.ClaimX509Certificate:
			p.Certificates = append(p.Certificates, certificate2{
				SubjectName: c.SubjectName, Type: c.CertificateType, EnabledFrom: c.Start, X5C: c.X5C, X5T: c.X5T,
			})
		}
	}
	return p
}

type partiesPayload2 struct {
	envelope

	PartiesInfo parties2 `json:"parties_info"`
}

type parties2 struct {
	TotalCount int      `json:"total_count"`
	Count      int      `json:"count"`
	Data       []party2 `json:"data"`
}

func partiesOf2(p page) parties2 {
	answer := parties2{TotalCount: p.total, Count: len(p.entries), Data: make([]party2, len(p.entries))}
	for i, e := range p.entries {
		answer.Data[i] = partyOf2(e)
	}
	return answer
}

type trustedListPayload2 struct {
	envelope

	TrustedList []trusted2 `json:"trusted_list"`
}

type trusted2 struct {
	Subject     string `json:"subject"`
	Fingerprint string `json:"certificate_fingerprint"`
	Validity    string `json:"validity"`
	Status      string `json:"status"`
}

// trustedListOf2 begins words with a capital, as registries of the earlier framework do.
func trustedListOf2(list []trustedCA) []trusted2 {
	answer := make([]trusted2, len(list))
	for i, ca := range list {
		status := ca.status()
		answer[i] = trusted2{
			Subject: ca.subject, Fingerprint: strings.ToUpper(ca.fingerprint.String()),
			Validity: "Valid", Status: strings.ToUpper(status[:1]) + status[1:],
		}
	}
	return answer
}

type capabilitiesPayload2 struct {
	envelope

	Capabilities capabilities2 `json:"capabilities_info"`
}

type capabilities2 struct {
	Party    ishare.PartyID         `json:"party_id"`
	Roles    []roleName2            `json:"ishare_roles"`
	Versions []capabilities2Version `json:"supported_versions"`
}

type roleName2 struct {
	Role string `json:"role"`
}

type capabilities2Version struct {
	Version  string      `json:"version"`
	Features []features2 `json:"supported_features"`
}

// features2 holds one of its lists.
type features2 struct {
	Public     []feature2 `json:"public,omitempty"`
	Restricted []feature2 `json:"restricted,omitempty"`
}

type feature2 struct {
	ID            string `json:"id"`
	Feature       string `json:"feature"`
	Description   string `json:"description"`
	URL           string `json:"url"`
	TokenEndpoint string `json:"token_endpoint,omitempty"`
}

func capabilitiesOf2(o offer) capabilities2 {
	features := []features2{{Public: []feature2{
		o.feature2("access token", tokenendpoint.Path),
		o.feature2("capabilities", capabilitiesPath),
	}}}
	if o.restricted {
		features = append(features, features2{Restricted: []feature2{
			o.feature2("parties", partiesPath),
			o.feature2("trusted list", "/trusted_list"),
		}})
	}
	return capabilities2{
		Party: o.party, Roles: []roleName2{{Role: "iShareSatellite"}},
		Versions: []capabilities2Version{{Version: "2.0", Features: features}},
	}
}

func (o offer) feature2(name, path string) feature2 {
	return feature2{
		ID: strings.ReplaceAll(name, " ", "-"), Feature: name, Description: name + " of the sandbox's registry",
		URL: o.base + path, TokenEndpoint: o.base + tokenendpoint.Path,
	}
}

// search2 reads the query of GET /parties, in which eori became id with 2.1.
func search2(q url.Values) (s search, err error) {
	s.id = ishare.PartyID(orElse(q.Get("id"), q.Get("eori")))
	s.name, s.activeOnly = q.Get("name"), q.Get("active_only") == "true"
	s.page, s.perPage, err = pageOf(q, "page", "page_size")
	return s, err
}
