package capabilities

import "github.com/waybill-token/waybill/ishare"

// info2 says in the words of iSHARE 2.x what info says. A service that is deprecated, what type it is, and
// what versions it complies with have no word there.
type info2 struct {
	Party    ishare.PartyID `json:"party_id"`
	Roles    []role2        `json:"ishare_roles"`
	Versions []version2     `json:"supported_versions"`
}

type role2 struct {
	Role string `json:"role"`
}

type version2 struct {
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
	TokenEndpoint string `json:"token_endpoint,omitempty"` // absent: it is the token endpoint
}

// earlierVersion is the one whose clients read info2.
const earlierVersion = "2.0"

func earlier(c Config, what info) info2 {
	features := []features2{{Public: featuresOf(what.Public)}}
	if what.Restricted != nil && len(*what.Restricted) > 0 {
		features = append(features, features2{Restricted: featuresOf(*what.Restricted)})
	}
	i := info2{Party: c.Party, Versions: []version2{{earlierVersion, features}}}
	for _, role := range c.Roles {
		i.Roles = append(i.Roles, role2{role})
	}
	return i
}

func featuresOf(services []Service) []feature2 {
	features := make([]feature2, len(services))
	for i, s := range services {
		features[i] = feature2{ID: s.Identifier, Feature: s.Title, Description: s.Description, URL: s.EndpointURL}
		if s.TokenEndpoint != s.EndpointURL {
			features[i].TokenEndpoint = s.TokenEndpoint
		}
	}
	return features
}
