package tokenendpoint

import (
	"net/http"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/ishare"
)

// The values that RFC 6749 section 4.4.2 and RFC 7523 section 2.2 fix.
const (
	grantClientCredentials = "client_credentials"
	assertionTypeJWTBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// A request is a token request that keeps the request's rules. Its assertion is
// not looked at yet.
type request struct {
	clientID   ishare.PartyID
	scope      ishare.Scope
	askedScope string
	assertion  string
}

// asking is what the rules about parameters look at.
type asking struct {
	form          form.Form
	authorization bool // the request has an Authorization header with a value
	known         map[string]bool
}

var parameterTests = []ishare.Test[asking]{
	{Rule: ishare.RequestMissingParameter, Check: allFiveArePresent},
	{Rule: ishare.RequestGrantType, Check: grantIsClientCredentials},
	{Rule: ishare.RequestScope, Check: scopeIsKnown},
	{Rule: ishare.RequestClientID, Check: clientIDIsPartyID},
	{Rule: ishare.RequestAssertionType, Check: assertionTypeIsJWTBearer},
	{Rule: ishare.RequestClientAuthentication, Check: nothingElseAuthenticates},
}

// judge applies the rules about parameters.
func (h *Handler) judge(r *http.Request, f form.Form) (*request, error) {
	said := func(value string) bool { return strings.Trim(value, " \t") != "" }
	a := asking{form: f, authorization: slices.ContainsFunc(r.Header.Values("Authorization"), said), known: h.scopes}
	if err := ishare.Judge(nil, a, parameterTests); err != nil {
		return nil, err
	}
	clientID, err := ishare.ParsePartyID(f.Get("client_id"))
	if err != nil {
		return nil, ishare.RequestClientID.Reject().From(err)
	}
	scope, err := ishare.ParseScope(f.Get("scope"))
	if err != nil {
		return nil, ishare.RequestScope.Reject().From(err)
	}
	return &request{clientID: clientID, scope: scope, askedScope: f.Get("scope"), assertion: f.Get("client_assertion")}, nil
}

func allFiveArePresent(a asking) *ishare.Rejection {
	for _, name := range []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"} {
		if a.form.Get(name) == "" {
			return ishare.RequestMissingParameter.Because("the parameter %s is missing or empty", name)
		}
	}
	return nil
}

func grantIsClientCredentials(a asking) *ishare.Rejection {
	if a.form.Get("grant_type") != grantClientCredentials {
		return ishare.RequestGrantType.Reject()
	}
	return nil
}

func scopeIsKnown(a asking) *ishare.Rejection {
	scope, err := ishare.ParseScope(a.form.Get("scope"))
	if err != nil {
		return ishare.RequestScope.Because("%v", err).From(err)
	}
	folded := func(value string) bool { return strings.EqualFold(value, ishare.ScopeISHARE) }
	switch {
	case scope.Has(ishare.ScopeISHARE):
	case slices.ContainsFunc(scope, folded):
		return ishare.RequestScope.Because("scope lacks iSHARE, which is written with a small i and capitals")
	default:
		return ishare.RequestScope.Because("scope lacks iSHARE")
	}
	for _, value := range scope {
		if !a.known[value] {
			return ishare.RequestScope.Because("this server does not know the scope value %.40s", value)
		}
	}
	return nil
}

func clientIDIsPartyID(a asking) *ishare.Rejection {
	if _, err := ishare.ParsePartyID(a.form.Get("client_id")); err != nil {
		return ishare.RequestClientID.Because("client_id is %v", err).From(err)
	}
	return nil
}

func assertionTypeIsJWTBearer(a asking) *ishare.Rejection {
	if a.form.Get("client_assertion_type") != assertionTypeJWTBearer {
		return ishare.RequestAssertionType.Reject()
	}
	return nil
}

func nothingElseAuthenticates(a asking) *ishare.Rejection {
	switch {
	case a.authorization:
		return ishare.RequestClientAuthentication.Because("the request carries an Authorization header besides the assertion")
	case a.form.Get("client_secret") != "":
		return ishare.RequestClientAuthentication.Because("the request carries client_secret besides the assertion")
	}
	return nil
}
