package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/jws"
)

// Members that hold the signed answer, and, in its payload, what is said. In each pair the first is that of 3.0.
var (
	partyTokens = []string{"partyToken", "partiesToken", "party_token", "parties_token"}
	listTokens  = []string{"trustedListToken", "trusted_list_token"}
)

// signedAnswer takes the one signed answer out of a body. The error quotes nothing of the body.
func signedAnswer(body []byte, names []string) (compact string, err error) {
	var members map[string]jsontext.Value
	if jws.UnmarshalObject(body, &members) != nil {
		return "", errors.New("the answer is not one JSON object in UTF-8 with each name once")
	}
	for _, name := range names {
		value, ok := members[name]
		if !ok || value.Kind() == 'n' {
			continue
		}
		if compact != "" {
			return "", fmt.Errorf("the answer holds %s and another one", name)
		}
		if json.Unmarshal(value, &compact) != nil || compact == "" {
			return "", fmt.Errorf("%s is not a text", name)
		}
	}
	if compact == "" {
		return "", fmt.Errorf("the answer holds none of %s", strings.Join(names, ", "))
	}
	return compact, nil
}

// partyRecords are the party records in a payload, none of them null, as they were
// written. The payload, which is signed, tells the version.
func partyRecords(payload []byte) (records []jsontext.Value, version Version, err error) {
	var p struct {
		Party3   jsontext.Value `json:"partyInfo"`
		Parties3 jsontext.Value `json:"partiesInfo"`
		Party2   jsontext.Value `json:"party_info"`
		Parties2 jsontext.Value `json:"parties_info"`
	}
	if err := jws.UnmarshalObject(payload, &p); err != nil {
		return nil, "", fmt.Errorf("the signed answer: %w", err)
	}
	one, several, version := p.Party3, p.Parties3, Version3
	if p.Party2 != nil || p.Parties2 != nil {
		one, several, version = p.Party2, p.Parties2, Version2
	}
	switch {
	case (p.Party3 != nil || p.Parties3 != nil) && version == Version2, one != nil && several != nil:
		return nil, "", errors.New("the signed answer speaks of parties twice")
	case one != nil:
		records = []jsontext.Value{one}
	case several != nil: // what is not there cannot be nobody: only data that is there and empty says so
		var found struct {
			Data jsontext.Value `json:"data"`
		}
		if err := json.Unmarshal(several, &found); err != nil || found.Data == nil {
			return nil, "", errors.New("the result of the search holds no data")
		}
		if json.Unmarshal(found.Data, &records) != nil {
			return nil, "", errors.New("the data of the search are not a list")
		}
	default:
		return nil, "", errors.New("the signed answer does not speak of parties")
	}
	// Null is what some registries of 2.x answer when there is nobody.
	return slices.DeleteFunc(records, func(v jsontext.Value) bool { return v.Kind() == 'n' }), version, nil
}
