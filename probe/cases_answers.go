package probe

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/jws"
)

// holds judges a property of an answer: nothing is wrong, or what is.
func holds(c Case, wrong string) *finding {
	if wrong == "" {
		return &finding{Pass, AsItMustBe, ""}
	}
	return &finding{c.miss(), Otherwise, wrong}
}

// answerCases are about the answer to the right request, which was sent before.
func answerCases() []Case {
	look := func(at func(a *answer) string) func(Case, *runner) *finding {
		return func(c Case, r *runner) *finding { return holds(c, at(r.right)) }
	}
	member := func(name string, right func(value string) bool) func(Case, *runner) *finding {
		return look(func(a *answer) string {
			if value := string(a.object[name]); !right(value) {
				return name + " is " + a.clean(orMissing(value))
			}
			return ""
		})
	}
	const rfc = "RFC 6749 section 5.1"
	return grouped("answer", "", []Case{
		{Name: "status", Sends: "A right request.", Wants: "the status 200", Spec: rfc, steps: look(func(a *answer) string {
			return unlessIs("the status is "+strconv.Itoa(a.status), a.status == http.StatusOK)
		})},
		{Name: "media-type", Sends: "A right request.", Wants: "Content-Type: application/json", Spec: rfc, steps: look(func(a *answer) string {
			return unlessIs("the media type is "+a.clean(orMissing(a.mediaType())), a.mediaType() == "application/json")
		})},
		{Name: "JSON-object", Sends: "A right request.", Wants: "one JSON object in UTF-8, each name once", Spec: rfc, steps: look(func(a *answer) string {
			return unlessIs("the answer is none", a.object != nil)
		})},
		{Name: "no-store", Sends: "A right request.", Wants: "Cache-Control: no-store", Spec: rfc + "; iSHARE 3.0: every response makes caching explicit", steps: look(noStoreFlaw)},
		{Name: "pragma", Weight: Should, Sends: "A right request.", Wants: "Pragma: no-cache", Spec: rfc + ", for caches of HTTP 1.0", steps: look(func(a *answer) string {
			return unlessIs("Pragma is "+a.clean(orMissing(a.header.Get("Pragma"))), strings.EqualFold(a.header.Get("Pragma"), "no-cache"))
		})},
		{Name: "token_type", Sends: "A right request.", Wants: "token_type is Bearer", Spec: "iSHARE 3.0, access token; " + rfc, steps: member("token_type", func(value string) bool { return strings.EqualFold(value, `"Bearer"`) })},
		{Name: "expires_in", Sends: "A right request.", Wants: "expires_in is a number, not a text", Spec: "iSHARE 3.0, access token; " + rfc + ": recommended", steps: func(c Case, r *runner) *finding {
			value := string(r.right.object["expires_in"])
			if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
				return holds(c, "")
			}
			if value == "" {
				c.Weight = Should
			}
			return holds(c, "expires_in is "+r.right.clean(orMissing(value)))
		}},
		{Name: "expires_in-3600", Weight: Should, Sends: "A right request.", Wants: "expires_in is 3600", Spec: "iSHARE 3.0, access token: 3600 in every example", steps: member("expires_in", func(value string) bool { return value == "3600" })},
		{Name: "no-refresh-token", Sends: "A right request.", Wants: "no refresh_token", Spec: "iSHARE 3.0, access token: no refresh tokens; RFC 6749 section 4.4.3", steps: look(func(a *answer) string {
			return unlessIs("the answer holds a refresh_token", a.object["refresh_token"] == nil)
		})},
	})
}

func orMissing(s string) string {
	if s == "" {
		return "missing"
	}
	return s
}

func unlessIs(wrong string, right bool) string {
	if right {
		return ""
	}
	return wrong
}

func noStoreFlaw(a *answer) string {
	return unlessIs("Cache-Control is "+a.clean(orMissing(strings.Join(a.header.Values("Cache-Control"), ", "))), a.noStore())
}

// errorCases are about the answer to a wrong request, which is sent once for all of them.
func errorCases() []Case {
	look := func(at func(a *answer) string) func(Case, *runner) *finding {
		return func(c Case, r *runner) *finding {
			a, f := r.refusal()
			if f != nil {
				return f
			}
			return holds(c, at(a))
		}
	}
	const rfc, sends = "RFC 6749 section 5.2", "An assertion that is for another server, expired yesterday and is not signed by anybody."
	cases := grouped("answer", "", []Case{
		{Name: "error-status", Weight: Should, Sends: sends, Wants: "the status 400, or 401", Spec: rfc + "; 400 in iSHARE's conformance test, where the developer portal has 401 and 403 too", steps: look(func(a *answer) string {
			return unlessIs("the status is "+strconv.Itoa(a.status), a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized)
		})},
		{Name: "error-code", Weight: Should, Sends: sends, Wants: "a JSON object whose error is a code of RFC 6749", Spec: rfc, steps: look(func(a *answer) string { return a.codeFlaw() })},
		{Name: "error-media-type", Weight: Should, Sends: sends, Wants: "Content-Type: application/json", Spec: rfc, steps: look(func(a *answer) string {
			return unlessIs("the media type is "+a.clean(orMissing(a.mediaType())), a.mediaType() == "application/json")
		})},
		{Name: "error-no-store", Sends: sends, Wants: "Cache-Control: no-store", Spec: "iSHARE 3.0: every response makes caching explicit; " + rfc, steps: look(noStoreFlaw)},
		{Name: "error-says-why", Weight: Should, Sends: sends, Wants: "an error_description, in the characters that are allowed", Spec: rfc + ": optional, and what every tester looks for", steps: look(func(a *answer) string {
			bad := func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }
			return unlessIs("error_description is "+orMissing(a.clean(a.description)), a.description != "" && !strings.ContainsFunc(a.description, bad))
		})},
		{Name: "error-no-trace", Weight: Ours, Sends: sends, Wants: "no stack trace, and no page of a framework", Spec: "OWASP ASVS 16.5.1: nothing of the inside", steps: look(func(a *answer) string {
			return unlessIs("the answer is a page or holds a stack trace", !a.trace())
		})},
		{Name: "error-no-token", Sends: sends, Wants: "no access_token in an error", Spec: rfc, steps: func(c Case, r *runner) *finding {
			a, f := r.wrongAnswer()
			switch {
			case f != nil:
				return f
			case a.token != "":
				return &finding{c.miss(), GaveToken, a.told()}
			case !a.refusal():
				return skip("there is no refusal to look at: %s", a.told())
			}
			return holds(c, "")
		}},
		{Name: "error-challenge", Weight: Should, Sends: sends, Wants: "WWW-Authenticate, if the status is 401", Spec: "RFC 9110 section 15.5.2", steps: look(func(a *answer) string {
			return unlessIs("WWW-Authenticate is missing", a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "")
		})},
	})
	for i := range cases {
		cases[i].alone = true
	}
	return cases
}

// wrongAnswer is the answer to a wrong request, which is sent once. When not even the right request got a token, it is the
// answer to that.
func (r *runner) wrongAnswer() (*answer, *finding) {
	if r.wrong == nil && r.right != nil && r.right.token == "" {
		r.wrong = r.right
	}
	if r.wrong == nil {
		a, f := r.send(func() *draft {
			d := r.draft()
			d.Assertion.Payload.Set("aud", otherParty(d.seal.ClientID))
			d.times(ago(24*time.Hour), ago(24*time.Hour-30*time.Second))
			d.Assertion.Sign = func(string) []byte { return []byte("none") }
			return d
		})
		if f != nil {
			return nil, f
		}
		r.wrong = a
	}
	return r.wrong, nil
}

// refusal is the same, if it is one.
func (r *runner) refusal() (*answer, *finding) {
	a, f := r.wrongAnswer()
	if f == nil && !a.refusal() {
		return nil, skip("there is no refusal to look at: %s", a.told())
	}
	return a, f
}

// serverCases are about the metadata and the capabilities, if they are there.
func serverCases() []Case {
	metadata := func(at func(r *runner, m serverMetadata) string) func(Case, *runner) *finding {
		return func(c Case, r *runner) *finding {
			a := r.fetch(r.metadataURL(), "")
			var m serverMetadata
			switch {
			case unanswered(a) != nil:
				return unanswered(a)
			case a.status != http.StatusOK:
				return skip("there are none, which is allowed: %s", a.told())
			case a.object == nil || json.Unmarshal(a.body, &m) != nil:
				return holds(c, "the answer is not one JSON object with these members")
			}
			return holds(c, at(r, m))
		}
	}
	const rfc = "RFC 8414 section "
	cases := slices.Concat(grouped("metadata", NeedsServer, []Case{
		{Name: "issuer", Weight: Should, Sends: "GET /.well-known/oauth-authorization-server.", Wants: "issuer is the server's base URL", Spec: rfc + "3.3", steps: metadata(func(r *runner, m serverMetadata) string {
			return unlessIs("issuer is "+r.quote(m.Issuer), strings.TrimSuffix(m.Issuer, "/") == strings.TrimSuffix(r.base.String(), "/"))
		})},
		{Name: "token_endpoint", Weight: Should, Sends: "GET /.well-known/oauth-authorization-server.", Wants: "token_endpoint is the one that is probed", Spec: rfc + "2", steps: metadata(func(r *runner, m serverMetadata) string {
			return unlessIs("token_endpoint is "+r.quote(m.TokenEndpoint), m.TokenEndpoint == r.endpoint.String())
		})},
		{Name: "private_key_jwt", Weight: Should, Sends: "GET /.well-known/oauth-authorization-server.", Wants: "private_key_jwt among token_endpoint_auth_methods_supported", Spec: rfc + "2; RFC 7523", steps: metadata(func(_ *runner, m serverMetadata) string {
			return unlessIs("private_key_jwt is not among them", slices.Contains(m.Methods, "private_key_jwt"))
		})},
	}), grouped("capabilities", NeedsServer, []Case{
		{Name: "token", Weight: Should, Sends: "GET /capabilities.", Wants: "200 with capabilities_token or capabilitiesToken, an iSHARE JWT of the server", Spec: "iSHARE 3.0, capabilities: required of every role that provides services", steps: func(c Case, r *runner) *finding {
			return r.capabilities(c, "", r.capabilitiesFlaw)
		}},
		{Name: "bad-token", Weight: Should, Sends: "GET /capabilities with a bearer token that is none.", Wants: "401", Spec: "iSHARE 3.0, capabilities: 401 when the token is bad", steps: func(c Case, r *runner) *finding {
			return r.capabilities(c, "Bearer probe", func(a *answer) string {
				return unlessIs(a.told(), a.status == http.StatusUnauthorized)
			})
		}},
		{Name: "not-bearer", Weight: Should, Sends: "GET /capabilities with an Authorization header of another scheme.", Wants: "400, or 401", Spec: "iSHARE 3.0, capabilities: 400 when the header is not a bearer token", steps: func(c Case, r *runner) *finding {
			return r.capabilities(c, "Basic ZXhhbXBsZTpzZWNyZXQ=", func(a *answer) string {
				return unlessIs(a.told(), a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized)
			})
		}},
	}))
	for i := range cases {
		cases[i].alone = true
	}
	return cases
}

type serverMetadata struct {
	Issuer        string   `json:"issuer"`
	TokenEndpoint string   `json:"token_endpoint"`
	Methods       []string `json:"token_endpoint_auth_methods_supported"`
}

func (r *runner) quote(text string) string {
	return fmt.Sprintf("%q", (&answer{secrets: r.secrets}).clean(text))
}

// metadataURL puts the well-known path between host and path (RFC 8414 section 3.1).
func (r *runner) metadataURL() string {
	well := *r.base
	well.Path, well.RawPath = "/.well-known/oauth-authorization-server", ""
	return well.JoinPath(strings.Trim(r.base.EscapedPath(), "/")).String()
}

// fetch gets an address once for each value of Authorization.
func (r *runner) fetch(address, authorization string) *answer {
	key := address + "\n" + authorization
	if a := r.fetched[key]; a != nil {
		return a
	}
	var values []string
	if authorization != "" {
		values = []string{authorization}
	}
	a := r.get(address, values...)
	r.fetched[key] = a
	return a
}

// get asks with any number of Authorization headers.
func (r *runner) get(address string, authorization ...string) *answer {
	a, f := r.patiently(func() (*http.Request, *finding) {
		request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return nil, skip("%v", err)
		}
		if len(authorization) > 0 {
			request.Header["Authorization"] = authorization
		}
		return request, nil
	})
	if a == nil {
		return &answer{err: errors.New(f.Reason)}
	}
	return a
}

func (r *runner) capabilities(c Case, authorization string, at func(a *answer) string) *finding {
	address := r.base.JoinPath("capabilities").String()
	if plain := r.fetch(address, ""); plain.status == http.StatusNotFound && authorization != "" {
		return skip("there are no capabilities: %s", plain.told())
	}
	a := r.fetch(address, authorization)
	if f := unanswered(a); f != nil {
		return f
	}
	return holds(c, at(a))
}

// capabilitiesFlaw is what is wrong with capabilities. Their signature is not verified: that takes the trusted list.
func (r *runner) capabilitiesFlaw(a *answer) string {
	compact := a.text("capabilitiesToken")
	if compact == "" {
		compact = a.text("capabilities_token")
	}
	if a.status != http.StatusOK || compact == "" {
		return a.told() + "; no capabilities_token in it"
	}
	token, err := jws.Split(compact)
	if err != nil {
		return "capabilities_token is no JWT: " + err.Error()
	}
	var claims struct {
		Iss string `json:"iss"`
	}
	if json.Unmarshal(token.Payload(), &claims) != nil || claims.Iss != string(r.config.Audience) {
		return "iss of capabilities_token is " + r.quote(claims.Iss)
	}
	return ""
}

// securedCases are about the access token of the right request, at a secured endpoint.
func securedCases() []Case {
	enter := func(statuses []int, with func(token string) []string) func(Case, *runner) *finding {
		return func(c Case, r *runner) *finding {
			if f := r.admitted(); f != nil {
				return f
			}
			values := with(r.freshToken())
			if values == nil {
				return skip("the token is opaque, so that no signature can be cut off")
			}
			return judgeEntry(c, r.get(r.secured.String(), values...), statuses)
		}
	}
	unauthorized, badRequest := []int{http.StatusUnauthorized}, []int{http.StatusBadRequest, http.StatusUnauthorized}
	const rfc = "RFC 6750 section "
	return grouped("secured", NeedsSecured, []Case{
		{Name: "token", Official: "access token: valid", Sends: "The right token.", Wants: "no 401", Spec: rfc + "2.1", steps: func(_ Case, r *runner) *finding {
			f := r.admitted()
			switch {
			case r.entry.status == http.StatusUnauthorized:
				return &finding{Fail, RefusedRight, r.entry.told()}
			case f != nil:
				return f
			}
			return &finding{Pass, Accepted, strconv.Itoa(r.entry.status)}
		}},
		{Name: "altered", Official: "access token: tampered", Sends: "The token, with one character in its middle changed.", Wants: "401", Spec: rfc + "3.1", steps: enter(unauthorized, func(token string) []string {
			i := len(token) / 2
			other := byte('A')
			if token[i] == other {
				other = 'B'
			}
			return []string{"Bearer " + token[:i] + string(other) + token[i+1:]}
		})},
		{Name: "without-signature", Official: "access token: signature missing", Sends: "The token without its signature, if it is a JWT.", Wants: "401", Spec: rfc + "3.1", steps: enter(unauthorized, func(token string) []string {
			if strings.Count(token, ".") != 2 {
				return nil
			}
			return []string{"Bearer " + token[:strings.LastIndexByte(token, '.')+1]}
		})},
		{Name: "not-bearer", Official: "access token: scheme not Bearer", Sends: "The token under the scheme Basic.", Wants: "400, or 401", Spec: "iSHARE 3.0: 400; " + rfc + "3.1", steps: enter(badRequest, func(token string) []string { return []string{"Basic " + token} })},
		{Name: "lower-case-bearer", Weight: Should, Sends: "The token, with the scheme written bearer.", Wants: "what the token gets otherwise", Spec: "RFC 9110 section 11.1: a scheme is compared without regard to case", steps: func(c Case, r *runner) *finding {
			if f := r.admitted(); f != nil {
				return f
			}
			a := r.get(r.secured.String(), "bearer "+r.freshToken())
			if f := unanswered(a); f != nil {
				return f
			}
			if !admits(a) {
				return &finding{c.miss(), RefusedRight, a.told()}
			}
			return &finding{Pass, Accepted, strconv.Itoa(a.status)}
		}},
		{Name: "no-token", Sends: "No token.", Wants: "401", Spec: rfc + "3.1", steps: enter(unauthorized, func(string) []string { return []string{} })},
		{Name: "challenge", Weight: Should, Sends: "No token.", Wants: "WWW-Authenticate with the scheme Bearer", Spec: rfc + "3", steps: func(c Case, r *runner) *finding {
			if f := r.admitted(); f != nil {
				return f
			}
			a := r.get(r.secured.String())
			if f := unanswered(a); f != nil {
				return f
			}
			challenge := a.header.Get("WWW-Authenticate")
			return holds(c, unlessIs("WWW-Authenticate is "+a.clean(orMissing(challenge)), len(challenge) >= 6 && strings.EqualFold(challenge[:6], "Bearer")))
		}},
		{Name: "garbage", Sends: "A word in place of the token.", Wants: "401", Spec: rfc + "3.1", steps: enter(unauthorized, func(string) []string { return []string{"Bearer probe"} })},
		{Name: "longer", Sends: "The token, with a character behind it.", Wants: "401", Spec: rfc + "3.1", steps: enter(unauthorized, func(token string) []string { return []string{"Bearer " + token + "A"} })},
		{Name: "client-assertion", Sends: "A client assertion in place of the token.", Wants: "401", Spec: "RFC 9068 section 2.1: a JWT of another type is no access token", steps: func(c Case, r *runner) *finding {
			if f := r.admitted(); f != nil {
				return f
			}
			return judgeEntry(c, r.get(r.secured.String(), "Bearer "+r.draft().Assertion.Compact()), unauthorized)
		}},
		{Name: "two-headers", Weight: Should, Sends: "The token in two Authorization headers.", Wants: "400, or 401", Spec: rfc + "2: one token in a request", steps: enter(badRequest, func(token string) []string {
			return []string{"Bearer " + token, "Bearer " + token}
		})},
		{Name: "in-the-URL", Weight: Should, Sends: "The token in the query, as access_token.", Wants: "400, or 401", Spec: rfc + "2.3: it should not be used, as URLs are logged; RFC 9700 section 2.2", steps: func(c Case, r *runner) *finding {
			if f := r.admitted(); f != nil {
				return f
			}
			address := *r.secured
			query := address.Query()
			query.Set("access_token", r.freshToken())
			address.RawQuery = query.Encode()
			return judgeEntry(c, r.get(address.String()), badRequest)
		}},
	})
}

// afterExpiry is how long after its end a token must be refused at the latest, as in iSHARE's conformance test.
const afterExpiry = 10 * time.Minute

// expiryCase waits for the end of the access token, and so comes last.
func expiryCase() Case {
	return grouped("secured", NeedsSecured, []Case{{
		Name: "expired", Official: "access token: expired", Sends: "The token, ten minutes after its end.", Wants: "401",
		Spec: "iSHARE's conformance test; RFC 6750 section 3.1", steps: func(c Case, r *runner) *finding {
			if f := r.admitted(); f != nil {
				return f
			}
			life := r.right.life()
			left := time.Until(r.granted.Add(life + afterExpiry)).Round(time.Second)
			switch {
			case life == 0:
				return skip("the server does not say how long the token lives")
			case left > r.config.Wait:
				return skip("the token lives for %s, and ten minutes later it must be refused: the run would have to wait for %s, and may wait for %s", life, left, r.config.Wait)
			}
			r.tellAndWait("the access token has to expire", left)
			return judgeEntry(c, r.get(r.secured.String(), "Bearer "+r.right.token), []int{http.StatusUnauthorized})
		},
	}})[0]
}

// admits says whether a token opened an endpoint, whatever that said then: neither that the token does not do, nor that there
// is nothing to open.
func admits(a *answer) bool {
	return a.err == nil && !a.busy() && (a.status < 300 || a.status >= 400 && a.status < 500) && !slices.Contains([]int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone,
	}, a.status)
}

// admitted finds out, once, whether the right token opens the secured endpoint. If it does not, a refusal proves nothing.
func (r *runner) admitted() *finding {
	if r.entry == nil {
		r.entry = r.get(r.secured.String(), "Bearer "+r.freshToken())
	}
	if !admits(r.entry) {
		return skip("the right token does not open the endpoint, so that nothing can be told; name one that answers this client with GET: %s", r.entry.told())
	}
	return nil
}

// freshToken is the access token of the right request, or another one when half of its life is over.
func (r *runner) freshToken() string {
	if life := r.right.life(); life > 0 && time.Since(r.renewed) > life/2 {
		if a, _ := r.send(r.draft); a != nil && a.token != "" {
			r.token, r.renewed = a.token, time.Now()
		}
	}
	return r.token
}

// judgeEntry wants that an endpoint stays closed.
func judgeEntry(c Case, a *answer, statuses []int) *finding {
	if f := unanswered(a); f != nil {
		return f
	}
	if slices.Contains(statuses, a.status) {
		return &finding{Pass, Refused, a.told()}
	}
	if a.status < 300 {
		return &finding{c.miss(), LetIn, strconv.Itoa(a.status)}
	}
	return &finding{Warn, OddRefusal, a.told()}
}
