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

// parametersInput is what the rules about parameters judge.
type parametersInput struct {
	form          *form.Form
	query         string // of the URL, where no parameter counts
	authorization string // the Authorization header, when it has a value
	scopes        map[string]bool
	clientID      ishare.PartyID
	clientIDError error
	scope         ishare.Scope
	scopeError    error
}

var parameterChecks = []rule.Check[parametersInput]{
	{Rule: rule.RequestMissingParameter, Apply: allFiveArePresent},
	{Rule: rule.RequestGrantType, Apply: grantIsClientCredentials},
	{Rule: rule.RequestScope, Apply: scopeIsKnown},
	{Rule: rule.RequestClientID, Apply: clientIDIsPartyID},
	{Rule: rule.RequestAssertionType, Apply: assertionTypeIsJWTBearer},
	{Rule: rule.RequestClientAuthentication, Apply: nothingElseAuthenticates},
}

// checkParameters applies the rules about parameters. The assertion is not looked at yet.
func (h *Handler) checkParameters(r *http.Request, f *form.Form) (parametersInput, error) {
	in := newParametersInput(r, f, h.scopes)
	return in, rule.Evaluate(nil, in, parameterChecks)
}

func newParametersInput(r *http.Request, f *form.Form, scopes map[string]bool) parametersInput {
	in := parametersInput{form: f, query: r.URL.RawQuery, scopes: scopes}
	in.authorization = strings.TrimLeft(strings.Join(r.Header.Values("Authorization"), " "), " \t")
	in.clientID, in.clientIDError = ishare.ParsePartyID(f.Get("client_id"))
	in.scope, in.scopeError = ishare.ParseScope(f.Get("scope"))
	return in
}

func allFiveArePresent(in parametersInput) *rule.Rejection {
	var missing []string
	for _, name := range []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"} {
		if in.form.View(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	about, stands := "the parameter "+missing[0]+" is", "it stands"
	if last := len(missing) - 1; last > 0 {
		about, stands = "the parameters "+strings.Join(missing[:last], ", ")+" and "+missing[last]+" are", "parameters stand"
	}
	if query, _ := url.ParseQuery(in.query); slices.ContainsFunc(missing, query.Has) {
		return rule.RequestMissingParameter.Because("%s missing in the body; %s in the URL", about, stands).
			WithHint("Move all parameters from the URL into the body: URLs end up in the logs of everybody on the way.")
	}
	return rule.RequestMissingParameter.Because("%s missing or empty", about)
}

func grantIsClientCredentials(in parametersInput) *rule.Rejection {
	grant := in.form.Get("grant_type")
	if grant == grantClientCredentials {
		return nil
	}
	rejection := rule.RequestGrantType.Because("grant_type is %s, not %s", rule.Quote(grant), grantClientCredentials)
	if strings.Contains(grant, "jwt-bearer") {
		return rejection.WithHint("Set grant_type=client_credentials. The JWT authenticates the client here, in client_assertion, and is no grant (RFC 7523 section 2.2).")
	}
	return rejection
}

func scopeIsKnown(in parametersInput) *rule.Rejection {
	asked := in.form.Get("scope")
	if err := in.scopeError; err != nil {
		return rule.RequestScope.Because("scope is %s: %v", rule.Quote(asked), err).
			WithHint("Separate the values by one blank each, without line breaks, quotes or other characters.").From(err)
	}
	folded := func(value string) bool { return strings.EqualFold(value, ishare.ScopeISHARE) }
	switch {
	case in.scope.Has(ishare.ScopeISHARE):
	case slices.ContainsFunc(in.scope, folded):
		return rule.RequestScope.Because("scope is %s, which lacks iSHARE: it is written with a small i and capitals", rule.Quote(asked))
	case strings.ContainsAny(asked, ",;+"):
		return rule.RequestScope.Because("scope is %s, which lacks iSHARE as a value of its own", rule.Quote(asked)).
			WithHint("Separate the values by blanks: scope=iSHARE orders, before it is percent-encoded.")
	default:
		return rule.RequestScope.Because("scope is %s, which lacks iSHARE", rule.Quote(asked))
	}
	for _, value := range in.scope {
		if !in.scopes[value] {
			return rule.RequestScope.Because("this server does not know the scope value %s", rule.Quote(value)).
				WithHint("Ask for iSHARE, and for other values only if scopes_supported of the server's metadata lists them.")
		}
	}
	return nil
}

func clientIDIsPartyID(in parametersInput) *rule.Rejection {
	id := in.form.Get("client_id")
	err := in.clientIDError
	if err == nil {
		return nil
	}
	rejection := rule.RequestClientID.Because("client_id is %s, which is %v", rule.Quote(id), err).From(err)
	if strings.TrimSpace(id) != id {
		return rejection.WithHint("Take it off: a value that was read from a file ends with a line feed, which curl --data-urlencode name@file sends and name=$(cat file) does not.")
	}
	return rejection
}

func assertionTypeIsJWTBearer(in parametersInput) *rule.Rejection {
	if kind := in.form.View("client_assertion_type"); kind != assertionTypeJWTBearer {
		return rule.RequestAssertionType.Because("client_assertion_type is %s, not %s", rule.Quote(kind), assertionTypeJWTBearer)
	}
	return nil
}

func nothingElseAuthenticates(in parametersInput) *rule.Rejection {
	const hint = "Have the client authenticate with the assertion alone: many libraries call that private_key_jwt, "
	scheme, _, _ := strings.Cut(in.authorization, " ")
	switch {
	case strings.EqualFold(scheme, "Basic"):
		return rule.RequestClientAuthentication.Because("the request carries HTTP Basic credentials besides the assertion").
			WithHint("%s", hint+"in place of client_secret_basic.")
	case strings.EqualFold(scheme, "Bearer"):
		return rule.RequestClientAuthentication.Because("the request carries a Bearer token besides the assertion").
			WithHint("Ask for a token without the Authorization header: the client has no token yet.")
	case in.authorization != "":
		return rule.RequestClientAuthentication.Because("the request carries an Authorization header besides the assertion")
	case in.form.Get("client_secret") != "":
		return rule.RequestClientAuthentication.Because("the request carries client_secret besides the assertion").
			WithHint("%s", hint+"in place of client_secret_post.")
	}
	return nil
}
