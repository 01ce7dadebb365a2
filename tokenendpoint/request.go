package tokenendpoint

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
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
	query         string // of the URL, where no parameter counts
	authorization string // the Authorization header, when it has a value
	known         map[string]bool
}

var parameterTests = []rule.Check[asking]{
	{Rule: rule.RequestMissingParameter, Apply: allFiveArePresent},
	{Rule: rule.RequestGrantType, Apply: grantIsClientCredentials},
	{Rule: rule.RequestScope, Apply: scopeIsKnown},
	{Rule: rule.RequestClientID, Apply: clientIDIsPartyID},
	{Rule: rule.RequestAssertionType, Apply: assertionTypeIsJWTBearer},
	{Rule: rule.RequestClientAuthentication, Apply: nothingElseAuthenticates},
}

// judge applies the rules about parameters.
func (h *Handler) judge(r *http.Request, f form.Form) (*request, error) {
	a := asking{form: f, query: r.URL.RawQuery, known: h.scopes}
	a.authorization = strings.TrimLeft(strings.Join(r.Header.Values("Authorization"), " "), " \t")
	if err := rule.Evaluate(nil, a, parameterTests); err != nil {
		return nil, err
	}
	clientID, err := ishare.ParsePartyID(f.Get("client_id"))
	if err != nil {
		return nil, rule.RequestClientID.Reject().From(err)
	}
	scope, err := ishare.ParseScope(f.Get("scope"))
	if err != nil {
		return nil, rule.RequestScope.Reject().From(err)
	}
	return &request{clientID: clientID, scope: scope, askedScope: f.Get("scope"), assertion: f.Get("client_assertion")}, nil
}

func allFiveArePresent(a asking) *rule.Rejection {
	for _, name := range []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"} {
		if a.form.Get(name) != "" {
			continue
		}
		if query, _ := url.ParseQuery(a.query); query.Has(name) {
			return rule.RequestMissingParameter.Because("the parameter %s is missing in the body; it stands in the URL", name).
				WithHint("Move all parameters from the URL into the body: URLs end up in the logs of everybody on the way.")
		}
		return rule.RequestMissingParameter.Because("the parameter %s is missing or empty", name)
	}
	return nil
}

func grantIsClientCredentials(a asking) *rule.Rejection {
	grant := a.form.Get("grant_type")
	if grant == grantClientCredentials {
		return nil
	}
	rejection := rule.RequestGrantType.Because("grant_type is %s, not %s", rule.Quote(grant), grantClientCredentials)
	if strings.Contains(grant, "jwt-bearer") {
		return rejection.WithHint("Set grant_type=client_credentials. The JWT authenticates the client here, in client_assertion, and is no grant (RFC 7523 section 2.2).")
	}
	return rejection
}

func scopeIsKnown(a asking) *rule.Rejection {
	asked := a.form.Get("scope")
	scope, err := ishare.ParseScope(asked)
	if err != nil {
		return rule.RequestScope.Because("scope is %s: %v", rule.Quote(asked), err).
			WithHint("Separate the values by one blank each, without line breaks, quotes or other characters.").From(err)
	}
	folded := func(value string) bool { return strings.EqualFold(value, ishare.ScopeISHARE) }
	switch {
	case scope.Has(ishare.ScopeISHARE):
	case slices.ContainsFunc(scope, folded):
		return rule.RequestScope.Because("scope is %s, which lacks iSHARE: it is written with a small i and capitals", rule.Quote(asked))
	case strings.ContainsAny(asked, ",;+"):
		return rule.RequestScope.Because("scope is %s, which lacks iSHARE as a value of its own", rule.Quote(asked)).
			WithHint("Separate the values by blanks: scope=iSHARE orders, before it is percent-encoded.")
	default:
		return rule.RequestScope.Because("scope is %s, which lacks iSHARE", rule.Quote(asked))
	}
	for _, value := range scope {
		if !a.known[value] {
			return rule.RequestScope.Because("this server does not know the scope value %s", rule.Quote(value)).
				WithHint("Ask for iSHARE, and for other values only if scopes_supported of the server's metadata lists them.")
		}
	}
	return nil
}

func clientIDIsPartyID(a asking) *rule.Rejection {
	id := a.form.Get("client_id")
	_, err := ishare.ParsePartyID(id)
	if err == nil {
		return nil
	}
	rejection := rule.RequestClientID.Because("client_id is %s, which is %v", rule.Quote(id), err).From(err)
	if strings.TrimSpace(id) != id {
		return rejection.WithHint("Take it off: a value that was read from a file ends with a line feed, which curl --data-urlencode name@file sends and name=$(cat file) does not.")
	}
	return rejection
}

func assertionTypeIsJWTBearer(a asking) *rule.Rejection {
	if kind := a.form.Get("client_assertion_type"); kind != assertionTypeJWTBearer {
		return rule.RequestAssertionType.Because("client_assertion_type is %s, not %s", rule.Quote(kind), assertionTypeJWTBearer)
	}
	return nil
}

func nothingElseAuthenticates(a asking) *rule.Rejection {
	const mend = "Have the client authenticate with the assertion alone: many libraries call that private_key_jwt, "
	scheme, _, _ := strings.Cut(a.authorization, " ")
	switch {
	case strings.EqualFold(scheme, "Basic"):
		return rule.RequestClientAuthentication.Because("the request carries HTTP Basic credentials besides the assertion").
			WithHint("%s", mend+"in place of client_secret_basic.")
	case strings.EqualFold(scheme, "Bearer"):
		return rule.RequestClientAuthentication.Because("the request carries a Bearer token besides the assertion").
			WithHint("Ask for a token without the Authorization header: the client has no token yet.")
	case a.authorization != "":
		return rule.RequestClientAuthentication.Because("the request carries an Authorization header besides the assertion")
	case a.form.Get("client_secret") != "":
		return rule.RequestClientAuthentication.Because("the request carries client_secret besides the assertion").
			WithHint("%s", mend+"in place of client_secret_post.")
	}
	return nil
}
