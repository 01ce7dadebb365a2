package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

var (
	_ Source            = (*Remote)(nil)
	_ TrustedListSource = (*Remote)(nil)
)

// versions runs a test against a registry of each version, which is configured and
// found out.
func versions(t *testing.T, test func(t *testing.T, f *fakeRegistry, r *Remote)) {
	t.Helper()
	for _, version := range []Version{Version3, Version2} {
		for _, configured := range []Version{version, VersionAuto, ""} {
			t.Run(fmt.Sprintf("%s configured %q", version, configured), func(t *testing.T) {
				t.Parallel()
				f, r := served(t, version, configured)
				test(t, f, r)
			})
		}
	}
}

func TestRemoteFindsAParty(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, f *fakeRegistry, r *Remote) {
		for _, id := range []ishare.PartyID{consumerID, consumerAt} {
			p := mustParty(t, r, id)
			now := time.Now()
			if p.ID != consumerID || !p.KnownAs(consumerAt) || p.Name != "Consumer" {
				t.Errorf("%s is %+v", id, p)
			}
			if err := p.Compliant(now); err != nil {
				t.Error(err)
			}
			if !p.Certified(thumbprint(f.pki.consumer), now) || p.Certified(thumbprint(f.pki.own), now) {
				t.Error("the certificate is not the registered one")
			}
			if !p.HasRole("ServiceConsumer", now) {
				t.Error("the role is lost")
			}
			if p.Claims[0].RegistrarID != "did:ishare:EU.NL.NTRNL-10000000" {
				t.Errorf("registrar %q", p.Claims[0].RegistrarID)
			}
		}
		want := []string{"/parties/" + string(consumerID), "/parties/" + string(consumerAt)}
		if diff := cmp.Diff(want, f.requests()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if f.tokensIssued() != 1 {
			t.Errorf("%d token requests, want 1", f.tokensIssued())
		}
		if s := r.Stats(); s.Version != f.version || s.Requests != 2 || s.Err != nil || s.Answered.IsZero() || s.Open {
			t.Errorf("Stats = %+v", s)
		}
	})
}

func TestRemoteFindsByTheSearch(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, f *fakeRegistry, r *Remote) {
		f.change(func(f *fakeRegistry) { f.noSingle = true })
		for _, id := range []ishare.PartyID{consumerID, consumerAt} {
			if p := mustParty(t, r, id); p.ID != consumerID {
				t.Errorf("%s is %+v", id, p)
			}
		}
	})
	versions(t, func(t *testing.T, f *fakeRegistry, r *Remote) {
		f.change(func(f *fakeRegistry) { f.byIDOnly = true })
		if p := mustParty(t, r, consumerAt); p.ID != consumerID {
			t.Errorf("%+v", p)
		}
		search := "/parties?alsoKnownAs=EU.EORI.NL000000001"
		if f.version == Version2 {
			search = "/parties?eori=EU.EORI.NL000000001"
		}
		if !slices.Contains(f.requests(), search) {
			t.Errorf("requests %q lack %s", f.requests(), search)
		}
	})
}

func TestRemoteDoesNotFind(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, f *fakeRegistry, r *Remote) {
		for range 2 {
			if p, err := r.Party(t.Context(), strangerID); p != nil || !errors.Is(err, ErrUnknown) {
				t.Errorf("Party = %v, %v, want ErrUnknown", p, err)
			}
		}
		f.change(func(f *fakeRegistry) { f.noSingle = true })
		if _, err := r.Party(t.Context(), strangerID); !errors.Is(err, ErrUnknown) {
			t.Errorf("by the search: %v, want ErrUnknown", err)
		}
		if s := r.Stats(); s.Err != nil || s.Failures != 0 {
			t.Errorf("a no counts as a failure: %+v", s)
		}
	})
}

// Registries of 2.x sign null when there is nobody.
func TestRemoteTakesNullForNobody(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version2, VersionAuto)
	f.put("null", strangerID)
	if _, err := r.Party(t.Context(), strangerID); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

func TestRemoteAsksForIdentifiersOnly(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	for _, id := range []ishare.PartyID{"", "..", "a/b", "EU.EORI.*", "did:x:1?x", "did:x:\n"} {
		if _, err := r.Party(t.Context(), id); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v, want ErrUnknown", id, err)
		}
	}
	if calls := f.requests(); len(calls) > 0 {
		t.Errorf("requests %q", calls)
	}
	f.put(strings.ReplaceAll(f.consumer("active"), string(consumerAt), "did:web:a.example%3A8080+x~@"), "did:web:a.example%3A8080+x~@")
	if p := mustParty(t, r, "did:web:a.example%3A8080+x~@"); p.ID != consumerID {
		t.Errorf("%+v", p)
	}
}

func TestRemoteSettlesWhereTheTrustedListIs(t *testing.T) {
	t.Parallel()
	for version, want := range map[Version][]string{
		Version3: {"/parties/" + string(strangerID), "/trustedList", "/parties?id=" + strangerQuery, "/parties?alsoKnownAs=" + strangerQuery},
		Version2: {"/parties/" + string(strangerID), "/trustedList", "/trusted_list", "/parties?id=" + strangerQuery},
	} {
		f, r := served(t, version, VersionAuto)
		if _, err := r.Party(t.Context(), strangerID); !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v, want ErrUnknown", err)
		}
		if diff := cmp.Diff(want, f.requests()); diff != "" {
			t.Errorf("version %s: requests (-want +got):\n%s", version, diff)
		}
	}
}

// A registry that answers 404 to everything did not say which version it speaks,
// so it did not say no in any.
func TestRemoteCannotSettle(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	f.behind(onAll(http.NotFound))
	_, err := r.Party(t.Context(), consumerID)
	mustBeWrong(t, err, "finding out which version the registry speaks: no trusted list")
	_, err = r.TrustedList(t.Context())
	mustBeWrong(t, err, "no trusted list")
}

// A gateway that lost the registry answers 404 to everything. That is no answer about a
// party, whatever the registry has said before, and the records of it stay in use.
func TestRemoteTakesNoStatusForANoOfALostRegistry(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, f *fakeRegistry, r *Remote) {
		cache, err := NewCache(CacheConfig{Source: r, MaxStale: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		mustParty(t, cache, consumerID)
		for _, status := range []int{http.StatusNotFound, http.StatusGone} {
			f.behind(onAll(respond(status, "")))
			for _, id := range []ishare.PartyID{consumerID, strangerID} {
				_, err := r.Party(t.Context(), id)
				mustBeUnavailable(t, err, fmt.Sprintf("no such thing: status %d; that does not count without the trusted list", status))
				mustBeUnavailable(t, err, "no trusted list: ")
			}
			if s := r.Stats(); s.Err == nil || s.Open {
				t.Errorf("Stats = %+v", s)
			}
			mustParty(t, cache, consumerID)
		}
		f.behind(nil)
		f.put("", consumerID)
		if _, err := r.Party(t.Context(), consumerID); !errors.Is(err, ErrUnknown) {
			t.Errorf("when the registry is back: %v, want ErrUnknown", err)
		}
	})
}

// Where nothing but statuses say that there is nobody, one more request finds out whether
// the registry is there, unless the lookup has just asked for the trusted list.
func TestRemoteConfirmsStatuses(t *testing.T) {
	t.Parallel()
	one, search, alias := "/parties/"+string(strangerID), "/parties?id="+strangerQuery, "/parties?alsoKnownAs="+strangerQuery
	missing, odd := respond(404, ""), respond(400, "")
	for name, c := range map[string]struct {
		configured Version
		front      func(http.Handler) http.Handler
		want       []string // paths that the registry itself gets
	}{
		"statuses alone":           {Version3, onParties(missing), []string{"/trustedList"}},
		"a status and no form":     {Version3, onSearches(odd), []string{one, "/trustedList"}},
		"no form and a status":     {Version3, chain(onPath("/parties/", odd), onSearches(missing)), []string{"/trustedList"}},
		"a signed no to searches":  {Version3, onPath("/parties/", missing), []string{search, alias}},
		"the version is found out": {VersionAuto, onParties(missing), []string{"/trustedList"}},
	} {
		f, r := served(t, Version3, c.configured)
		f.behind(c.front)
		if _, err := r.Party(t.Context(), strangerID); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", name, err)
		}
		if diff := cmp.Diff(c.want, f.requests()); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", name, diff)
		}
	}
	f, r := served(t, Version3, Version3)
	f.put("null", strangerID)
	f.behind(onSearches(missing))
	if _, err := r.Party(t.Context(), strangerID); !errors.Is(err, ErrUnknown) || len(f.requests()) != 1 {
		t.Errorf("a signed no to the first question: %v, %q", err, f.requests())
	}
}

// Whatever is wrong with the trusted list, a status alone is no answer then.
func TestRemoteDoesNotConfirm(t *testing.T) {
	t.Parallel()
	lost := onParties(respond(404, ""))
	for says, front := range map[string]func(http.Handler) http.Handler{
		"status 502":           onPath("/trustedList", respond(502, "")),
		"status 400":           onPath("/trustedList", respond(400, "")),
		"not one JSON object":  onPath("/trustedList", respond(200, "<html>")),
		"does not accept our":  onPath("/trustedList", respond(403, "")),
		"the answer broke off": onPath("/trustedList", breakOff),
		"claim.exp":            func(h http.Handler) http.Handler { return h },
	} {
		f, r := served(t, Version3, Version3)
		mustParty(t, r, consumerID)
		if says == "claim.exp" {
			f.change(func(f *fakeRegistry) { f.answer.age = time.Minute })
		}
		f.behind(chain(lost, front))
		_, err := r.Party(t.Context(), consumerID)
		mustBeUnavailable(t, err, says)
	}
}

// What is wrong with entries of the trusted list is told when it is asked for, and not
// with each party that is not there.
func TestRemoteConfirmsInSilence(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, Version3)
	f.list = fmt.Sprintf(`[7,{"subject":"CN=A","certificateFingerprint":%q,"validity":"valid","status":"granted"}]`, strings.Repeat("0a", 32))
	f.front = onParties(respond(404, ""))
	log := &logged{}
	c := f.config(anywhere, &network{handler: f})
	c.Log, c.Version = slog.New(log), Version3
	r := remote(t, c)
	if _, err := r.Party(t.Context(), strangerID); !errors.Is(err, ErrUnknown) || log.count("trusted list") != 0 {
		t.Errorf("%v, log %q", err, log.lines)
	}
	if _, err := r.TrustedList(t.Context()); err != nil || log.count("an entry of the trusted list cannot be read") != 1 {
		t.Errorf("%v, log %q", err, log.lines)
	}
}

// A caller who gives up while the trusted list is asked for learns nothing of the registry.
func TestRemoteCallerGivesUpOnTheConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		mustParty(t, r, consumerID)
		hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		f.behind(chain(onParties(respond(404, "")), onPath("/trustedList", hang)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Party(ctx, consumerID); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*rule.Outage)) {
			t.Errorf("error %v", err)
		}
		if s := r.Stats(); s.Err != nil {
			t.Errorf("Stats = %+v", s)
		}
		_, err := r.Party(t.Context(), consumerID)
		mustBeUnavailable(t, err, errSlow.Error())
	})
}

func TestRemoteTrustedListThatIsNoList(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	f.change(func(f *fakeRegistry) { f.list = "{}" })
	_, err := r.TrustedList(t.Context())
	mustBeWrong(t, err, "holds no trusted list")
	f.change(func(f *fakeRegistry) { f.front = onPath("/trustedList", respond(200, `{"partyToken":"a.b.c"}`)) })
	_, err = r.TrustedList(t.Context())
	mustBeWrong(t, err, "holds none of trustedListToken")
}

// A signed answer of one kind is none of another, such as a party record in the place
// of a trusted list.
func TestRemoteTakesNoAnswerForAnother(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	f.behind(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			recorder := httptest.NewRecorder()
			switch {
			case r.URL.Path == "/connect/token":
				next.ServeHTTP(w, r)
				return
			case r.URL.Path == "/trustedList":
				r.URL.Path = "/parties/" + string(consumerID)
			case strings.HasPrefix(r.URL.Path, "/parties/"):
				r.URL.Path = "/trustedList"
			}
			next.ServeHTTP(recorder, r)
			body := strings.NewReplacer("partyToken", "trustedListToken", "trustedListToken", "partyToken").Replace(recorder.Body.String())
			w.WriteHeader(recorder.Code)
			io.WriteString(w, body)
		})
	})
	_, err := r.Party(t.Context(), consumerID)
	mustBeWrong(t, err, "does not speak of parties")
	_, err = r.TrustedList(t.Context())
	mustBeWrong(t, err, "holds no trusted list")
}

// strangerQuery is the stranger's identifier in a query.
var strangerQuery = strings.ReplaceAll(string(strangerID), ":", "%3A")

func TestRemoteFollowsARegistryToAnotherVersion(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version2, VersionAuto)
	mustParty(t, r, consumerID)
	f.change(func(f *fakeRegistry) { f.version = Version3 })
	f.put(f.consumer("active"), consumerID, consumerAt)
	if _, err := r.TrustedList(t.Context()); err != nil {
		t.Error(err)
	}
	if v := r.Stats().Version; v != Version3 {
		t.Errorf("version %s", v)
	}
	mustParty(t, r, consumerID)
}

func TestRemoteHoldsARegistryToTheConfiguredVersion(t *testing.T) {
	t.Parallel()
	for _, version := range []Version{Version3, Version2} {
		f, r := served(t, version, map[Version]Version{Version3: Version2, Version2: Version3}[version])
		_, err := r.Party(t.Context(), consumerID)
		mustBeWrong(t, err, "in the form of version "+string(version))
		if _, err := r.TrustedList(t.Context()); err == nil {
			t.Error("the trusted list was taken")
		}
		_ = f
	}
}

func TestRemoteReadsTheTrustedList(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("0a", 32), strings.Repeat("0B", 32)
	versions(t, func(t *testing.T, f *fakeRegistry, r *Remote) {
		name := map[Version]string{Version3: "certificateFingerprint", Version2: "certificate_fingerprint"}[f.version]
		f.change(func(f *fakeRegistry) {
			f.list = fmt.Sprintf(`[{"subject":"CN=A",%q:%q,"validity":"Valid","status":"GRANTED"},
				{"subject":"CN=B",%q:%q,"validity":"valid","status":"withdrawn"}]`, name, strings.ToUpper(a), name, b)
		})
		anchors, err := r.TrustedList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fingerprint, _ := trust.ParseFingerprint(a)
		if diff := cmp.Diff(trust.Anchors{fingerprint: "trusted list: CN=A"}, anchors); diff != "" {
			t.Errorf("anchors (-want +got):\n%s", diff)
		}
	})
}

// Each misbehaviour is an error that says what is wrong, and not a no.
func TestRemoteRefusesAnswers(t *testing.T) {
	t.Parallel()
	body := func(status int, text string) func(f *fakeRegistry) {
		return func(f *fakeRegistry) { f.front = onParties(respond(status, text)) }
	}
	cases := map[string]struct {
		break_ func(f *fakeRegistry)
		says   string
	}{
		"wrong issuer":    {func(f *fakeRegistry) { f.answer.issuer = strangerID }, "claim.iss"},
		"wrong audience":  {func(f *fakeRegistry) { f.answer.audience = strangerID }, "claim.aud"},
		"expired":         {func(f *fakeRegistry) { f.answer.age = time.Minute }, "claim.exp"},
		"from the future": {func(f *fakeRegistry) { f.answer.age = -time.Minute }, "claim.iat"},
		"wrong signature": {func(f *fakeRegistry) { f.answer.tamper = flipSignature }, "jwt.signature"},
		"another's seal":  {func(f *fakeRegistry) { f.answer.seal = f.pki.consumer }, "not the issuer's"},
		"untrusted CA":    {func(f *fakeRegistry) { f.answer.seal = newPKI(f.pki.t).registry }, "chain.untrusted"},
		"not a JWT":       {func(f *fakeRegistry) { f.answer.tamper = func(string) string { return "x.y" } }, "jwt.compact"},
		"about another": {func(f *fakeRegistry) {
			f.records[consumerID] = strings.ReplaceAll(f.consumer("active"), "1000000", "2000000")
		}, "about another party"},
		"not a record":      {func(f *fakeRegistry) { f.records[consumerID] = `[]` }, "party record"},
		"no identifier":     {func(f *fakeRegistry) { f.records[consumerID] = `{"name":"x"}` }, "another party"},
		"duplicate member":  {func(f *fakeRegistry) { f.records[consumerID] = `{"id":"a:b","id":"c:d"}` }, "twice"},
		"malformed JSON":    {body(200, `{"partyToken": `), "not one JSON object"},
		"HTML":              {body(200, "<html>"), "not one JSON object"},
		"empty":             {body(200, ""), "not one JSON object"},
		"no token":          {body(200, `{"error":"x"}`), "holds none of partyToken"},
		"two tokens":        {body(200, `{"partyToken":"a.b.c","party_token":"a.b.c"}`), "and another one"},
		"token of no text":  {body(200, `{"partyToken":["a.b.c"]}`), "partyToken is not a text"},
		"oversized":         {body(200, `{"partyToken":"`+strings.Repeat("a", maxAnswer)+`"}`), "longer than"},
		"no content":        {body(204, ""), "status 204"},
		"conflict":          {body(409, ""), "status 409"},
		"no form of answer": {body(400, ""), "does not answer"},
		"words of its own":  {body(400, `{"code":400,"description":"Unknown client_id\u001b"}`), "status 400; it says: Unknown client_id?"},
		"redirect elsewhere": {func(f *fakeRegistry) {
			f.front = onParties(http.RedirectHandler("http://127.0.0.2:1/parties", http.StatusFound).ServeHTTP)
		}, "another origin"},
		"redirect in a circle": {func(f *fakeRegistry) {
			f.front = onParties(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
		}, "more than 3 redirects"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := served(t, Version3, Version3)
			f.change(c.break_)
			for range circuitFailures + 1 {
				_, err := r.Party(t.Context(), consumerID)
				mustBeWrong(t, err, c.says)
			}
			if s := r.Stats(); s.Open || s.Err == nil || s.Failures == 0 {
				t.Errorf("Stats = %+v", s)
			}
			f.change(func(f *fakeRegistry) { f.answer, f.front = answerShape{}, nil })
			f.put(f.consumer("active"), consumerID)
			mustParty(t, r, consumerID)
		})
	}
}

// A registry that gives no answer is out of reach.
func TestRemoteOutOfReach(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		front func(http.Handler) http.Handler
		says  string
	}{
		"500":                  {onParties(respond(500, "")), "status 500"},
		"503":                  {onParties(respond(503, "")), "status 503"},
		"429":                  {onParties(respond(429, "")), "status 429"},
		"401 always":           {onParties(respond(401, "")), "does not accept our access token"},
		"403":                  {onParties(respond(403, "")), "does not accept our access token"},
		"broken off":           {onParties(breakOff), "broke off"},
		"hung up":              {onParties(hangUp), "EOF"},
		"token endpoint 500":   {onToken(respond(500, "")), "token endpoint answered 500"},
		"token refused":        {onToken(respond(400, `{"error":"invalid_client","error_description":"party.unknown: no"}`)), "invalid_client"},
		"token endpoint hangs": {onToken(hangUp), "out of reach"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := served(t, Version3, VersionAuto)
			f.behind(c.front)
			_, err := r.Party(t.Context(), consumerID)
			mustBeUnavailable(t, err, c.says)
			_, err = r.TrustedList(t.Context())
			if !strings.HasPrefix(name, "token") {
				return // only the parties are out of reach
			}
			mustBeUnavailable(t, err, "")
		})
	}
}

// onParties puts a handler in the place of the parties.
func onParties(instead http.HandlerFunc) func(http.Handler) http.Handler {
	return onPath("/parties", instead)
}

func onToken(instead http.HandlerFunc) func(http.Handler) http.Handler {
	return onPath("/connect/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		instead(w, r)
	})
}

// onAll puts a handler in the place of everything but the token endpoint.
func onAll(instead http.HandlerFunc) func(http.Handler) http.Handler {
	return chain(onPath("/parties", instead), onPath("/trusted", instead))
}

// onSearches puts a handler in the place of the searches, and not of single parties.
func onSearches(instead http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return onPath("/parties/", next.ServeHTTP)(onParties(instead)(next))
	}
}

// chain puts several before the registry, the first one in front.
func chain(fronts ...func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		for _, front := range slices.Backward(fronts) {
			next = front(next)
		}
		return next
	}
}

func onPath(prefix string, instead http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, prefix) {
				instead(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func respond(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func breakOff(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "100")
	w.Write([]byte("{"))
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func flipSignature(compact string) string {
	last := strings.LastIndexByte(compact, '.') + 1
	flipped := byte('A')
	if compact[last] == 'A' {
		flipped = 'B'
	}
	return compact[:last] + string(flipped) + compact[last+1:]
}

func TestRemoteGetsANewTokenAfter401(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	mustParty(t, r, consumerID)
	f.revokeTokens()
	mustParty(t, r, consumerID)
	if n := f.tokensIssued(); n != 2 {
		t.Errorf("%d tokens, want 2", n)
	}
}

func TestRemoteFollowsRedirectsOnItsOrigin(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	f.behind(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" && strings.HasPrefix(r.URL.Path, "/parties/") {
				http.Redirect(w, r, r.URL.Path+"?x=1", http.StatusTemporaryRedirect)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	mustParty(t, r, consumerID)
}

func TestRedirectsAreBounded(t *testing.T) {
	t.Parallel()
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodGet, url, nil) }
	first := request("https://registry.example/parties/a")
	for url, same := range map[string]bool{
		"https://registry.example/b":      true,
		"https://REGISTRY.example/b":      true,
		"http://registry.example/b":       false,
		"https://registry.example:444/b":  false,
		"https://registry.example.evil/b": false,
	} {
		if err := sameOrigin(request(url), []*http.Request{first}); (err == nil) != same {
			t.Errorf("%s: %v", url, err)
		}
	}
	for n, fine := range map[int]bool{maxRedirects: true, maxRedirects + 1: false} {
		if err := sameOrigin(first, slices.Repeat([]*http.Request{first}, n)); (err == nil) != fine {
			t.Errorf("redirect %d: %v", n, err)
		}
	}
}

// An answer without end is not read to its end.
func TestReadBodyStops(t *testing.T) {
	t.Parallel()
	var endless endless
	if _, err := outbound.ReadBody(&endless, maxAnswer); !errors.As(err, new(*outbound.TooLargeError)) || endless.read > 2*maxAnswer {
		t.Errorf("%d bytes read: %v", endless.read, err)
	}
}

type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func TestRemoteVerifiesTLS(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, Version3)
	server := httptest.NewTLSServer(f)
	defer server.Close()
	_, err := remote(t, f.config(server.URL, nil)).Party(t.Context(), consumerID)
	mustBeUnavailable(t, err, "certificate")
	mustParty(t, remote(t, f.config(server.URL, server.Client().Transport)), consumerID)
}

// Whoever reads errors and logs learns no token and no assertion.
func TestRemoteKeepsSecretsOutOfErrors(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	mustParty(t, r, consumerID)
	var compact string
	echo := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no: "+r.Header.Get("Authorization")+compact, http.StatusInternalServerError)
		})
	}
	for name, change := range map[string]func(f *fakeRegistry){
		"echo": func(f *fakeRegistry) { f.front = echo },
		"array": func(f *fakeRegistry) {
			f.answer.tamper = func(s string) string { compact = s; return s + "\u0022,\u0022x" }
		},
		"twice": func(f *fakeRegistry) { f.answer.tamper = func(s string) string { compact = s; return s + s } },
	} {
		f.change(func(f *fakeRegistry) { f.answer, f.front = answerShape{}, nil })
		f.change(change)
		_, err := r.Party(t.Context(), consumerID)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for token := range f.tokens {
			if strings.Contains(err.Error(), token) {
				t.Errorf("%s: the error holds the access token: %v", name, err)
			}
		}
		for i := 0; i+20 <= len(compact); i += 10 {
			if strings.Contains(err.Error(), compact[i:i+20]) {
				t.Fatalf("%s: the error holds a piece of the answer: %v", name, err)
			}
		}
	}
}

func TestRemoteReportsTheClock(t *testing.T) {
	t.Parallel()
	f, r := served(t, Version3, VersionAuto)
	f.behind(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			next.ServeHTTP(w, r)
		})
	})
	mustParty(t, r, consumerID)
	if offset := r.Stats().ClockOffset; offset < time.Hour-2*time.Second || offset > time.Hour+2*time.Second {
		t.Errorf("ClockOffset = %s, want about an hour", offset)
	}
}

// A revocation status of the registry's own seal that cannot be found out keeps the
// registry out of reach, and does not show as one of the client's certificates.
func TestRemoteRevocation(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, Version3)
	server := httptest.NewServer(f)
	defer server.Close()
	c := f.config(server.URL, nil)
	c.Revocation = checker{&rule.Outage{Rule: rule.UnavailableRevocation, RetryAfter: 7 * time.Second}}
	_, err := remote(t, c).Party(t.Context(), consumerID)
	mustBeUnavailable(t, err, "unavailable.revocation")
	if o, _ := errors.AsType[*rule.Outage](err); o.RetryAfter != 7*time.Second {
		t.Errorf("RetryAfter %s", o.RetryAfter)
	}
	c.Revocation = checker{rule.CertificateRevoked.Reject()}
	_, err = remote(t, c).Party(t.Context(), consumerID)
	mustBeWrong(t, err, "certificate.revoked")
}

type checker struct{ err error }

func (c checker) Check(context.Context, *trust.Chain) error { return c.err }

func TestRemoteTrustsConfiguredSealsOnly(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, Version3)
	server := httptest.NewServer(f)
	defer server.Close()
	c := f.config(server.URL, nil)
	c.Seals = []string{thumbprint(f.pki.consumer)}
	_, err := remote(t, c).Party(t.Context(), consumerID)
	mustBeWrong(t, err, "not the issuer's")
	f.change(func(f *fakeRegistry) { f.answer.seal = f.pki.consumer })
	mustParty(t, remote(t, c), consumerID)
}

func TestNewRemoteRefuses(t *testing.T) {
	t.Parallel()
	f := newFakeRegistry(t, Version3)
	for name, change := range map[string]func(c *RemoteConfig){
		"no ID":          func(c *RemoteConfig) { c.ID = "" },
		"no URL":         func(c *RemoteConfig) { c.URL = "" },
		"plain http":     func(c *RemoteConfig) { c.URL = "http://registry.example" },
		"password":       func(c *RemoteConfig) { c.URL = "https://a:b@registry.example" },
		"version":        func(c *RemoteConfig) { c.Version = "4" },
		"no party":       func(c *RemoteConfig) { c.Party = nil },
		"a URL as party": func(c *RemoteConfig) { c.Party = []ishare.PartyID{"https://x"} },
		"no key":         func(c *RemoteConfig) { c.Key = nil },
		"no trust":       func(c *RemoteConfig) { c.Trust = nil },
		"no revocation":  func(c *RemoteConfig) { c.Revocation = nil },
		"leeway":         func(c *RemoteConfig) { c.Leeway = time.Hour },
		"another's key":  func(c *RemoteConfig) { c.Key = f.pki.ca.Authority(testca.Root).Key },
	} {
		c := f.config("https://registry.example", nil)
		change(&c)
		if _, err := NewRemote(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRemoteTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		mustParty(t, r, consumerID)
		f.behind(onParties(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		began := time.Now()
		_, err := r.Party(t.Context(), consumerID)
		mustBeUnavailable(t, err, errSlow.Error())
		if took := time.Since(began); took != lookupTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

// A caller who gives up says nothing about the registry.
func TestRemoteCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		mustParty(t, r, consumerID)
		f.behind(onParties(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		for range 2 * circuitFailures {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := r.Party(ctx, consumerID)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*rule.Outage)) {
				t.Fatalf("error %v", err)
			}
		}
		if s := r.Stats(); s.Open || s.Err != nil {
			t.Errorf("Stats = %+v", s)
		}
		for range circuitFailures {
			_, err := r.Party(t.Context(), consumerID)
			mustBeUnavailable(t, err, errSlow.Error())
		}
		time.Sleep(circuitPause)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		r.Party(ctx, consumerID)
		if !r.Stats().Open {
			t.Error("a caller who gave up counts for the registry")
		}
	})
}

// A registry that is down is left alone, and found again within two seconds.
func TestRemoteLeavesADeadRegistryAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n, r := inMemory(t)
		mustParty(t, r, consumerID)
		calls := 0
		n.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			http.Error(w, "down", http.StatusBadGateway)
		})
		began := time.Now()
		for time.Since(began) < 10*time.Second {
			_, err := r.Party(t.Context(), consumerID)
			mustBeUnavailable(t, err, "status 502")
			time.Sleep(time.Millisecond)
		}
		if most := circuitFailures + 20; calls > most {
			t.Errorf("%d calls in 10 seconds, want %d at most", calls, most)
		}
		if !r.Stats().Open {
			t.Error("Stats do not tell that the registry is left alone")
		}
		n.handler = f
		began = time.Now()
		for {
			if _, err := r.Party(t.Context(), consumerID); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s to find the registry again", took)
		}
		if r.Stats().Open {
			t.Error("Stats tell that the registry is left alone")
		}
	})
}

// The same without an access token, whenever in its rest the registry returns.
func TestRemoteFindsARestartedRegistryAgain(t *testing.T) {
	for delay := time.Duration(0); delay < 3*time.Second; delay += 290 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			_, n, r := inMemory(t)
			n.down.Store(true)
			began := time.Now()
			for time.Since(began) < 5*time.Second+delay {
				_, err := r.Party(t.Context(), consumerID)
				mustBeUnavailable(t, err, "connection refused")
				time.Sleep(10 * time.Millisecond)
			}
			n.down.Store(false)
			began = time.Now()
			for {
				if _, err := r.Party(t.Context(), consumerID); err == nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("down for 5s+%s: it took %s to find the registry again", delay, took)
			}
		})
	}
}

// However many wait, a registry that hangs gets two requests a second.
func TestRemoteLeavesAHangingRegistryAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		mustParty(t, r, consumerID)
		calls, began := make(chan bool, 1000), time.Now()
		f.behind(onParties(func(_ http.ResponseWriter, r *http.Request) {
			calls <- true
			<-r.Context().Done()
		}))
		for range circuitFailures {
			_, err := r.Party(t.Context(), consumerID)
			mustBeUnavailable(t, err, "")
		}
		for range 10 {
			time.Sleep(circuitPause)
			for range 10 {
				go r.Party(t.Context(), consumerID)
			}
		}
		synctest.Wait()
		if n, most := len(calls), int(2*time.Since(began)/time.Second); n > most || n < 10 {
			t.Errorf("%d calls, want %d at most", n, most)
		}
		time.Sleep(lookupTimeout)
	})
}

// Requests that hang do not keep the registry from being tried again.
func TestRemoteTriesAgainWhileARequestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		mustParty(t, r, consumerID)
		f.behind(onParties(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		for range circuitFailures {
			_, err := r.Party(t.Context(), consumerID)
			mustBeUnavailable(t, err, "")
		}
		hanging := make(chan error, circuitFailures)
		for range circuitFailures {
			time.Sleep(circuitPause)
			go func() {
				_, err := r.Party(t.Context(), consumerID)
				hanging <- err
			}()
		}
		time.Sleep(circuitPause)
		f.behind(nil)
		mustParty(t, r, consumerID)
		for range circuitFailures {
			if err := <-hanging; err != nil {
				t.Errorf("a request that hung was not made again: %v", err)
			}
		}
		if r.Stats().Open {
			t.Error("requests of before count against the registry of now")
		}
	})
}

// What a registry asks for with Retry-After keeps nobody from it for longer than a second.
func TestRemoteBoundsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		mustParty(t, r, consumerID)
		for _, c := range []struct {
			status int
			wait   string
		}{{http.StatusServiceUnavailable, "1"}, {http.StatusServiceUnavailable, "4"}, {http.StatusTooManyRequests, "3600"}} {
			f.behind(onParties(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", c.wait)
				w.WriteHeader(c.status)
			}))
			for range circuitFailures {
				_, err := r.Party(t.Context(), consumerID)
				if o, ok := errors.AsType[*rule.Outage](err); !ok || o.RetryAfter != time.Second {
					t.Fatalf("error %v", err)
				}
			}
			f.behind(nil)
			time.Sleep(maxPause - time.Millisecond)
			_, err := r.Party(t.Context(), consumerID)
			mustBeUnavailable(t, err, errCircuitOpen.Error())
			time.Sleep(time.Millisecond)
			mustParty(t, r, consumerID)
		}
	})
}

func TestRemoteLeavesNoGoroutine(t *testing.T) {
	f := newFakeRegistry(t, Version3)
	server := httptest.NewServer(f)
	defer server.Close()
	r := remote(t, f.config(server.URL, nil))
	mustParty(t, r, consumerID)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left := leftover(); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n\n"))
	}
	_, err := r.Party(t.Context(), consumerID)
	mustBeUnavailable(t, err, "closed")
}

// That the registry refuses us is told in the log once, and again when it has answered
// since; it never comes out as a rejection of the client.
func TestRemoteTellsOfARefusalOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRegistry(t, Version3)
		log := &logged{}
		c := f.config(anywhere, &network{handler: f})
		c.Log = slog.New(log)
		r := remote(t, c)
		const line = "the registry refuses our own token requests"
		refusing := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/connect/token" {
					next.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"party.not-active: compliance is suspended"}`)
			})
		}
		for round := 1; round <= 2; round++ {
			f.behind(refusing)
			f.revokeTokens()
			for range 6 {
				_, err := r.Party(t.Context(), consumerID)
				mustBeUnavailable(t, err, "")
				rejection, _ := rule.Classify(err)
				if rejection != nil {
					t.Error(rejection)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if n := log.count(line); n != round {
				t.Errorf("told %d times, want %d", n, round)
			}
			if refused := Refusal(r.Stats().Err); refused == nil || refused.RuleID != rule.PartyNotActive.ID {
				t.Errorf("the refusal is %v", refused)
			}
			f.behind(nil)
			time.Sleep(time.Minute)
			mustParty(t, r, consumerID)
		}
	})
}
