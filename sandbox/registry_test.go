package sandbox_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/sandbox"
	"github.com/waybill-token/waybill/trust"
)

// validator trusts the data space's own authority.
func (s *space) validator(t *testing.T) *trust.Validator {
	t.Helper()
	anchors, err := trust.ParseAnchors(read(t, filepath.Join(filepath.Dir(s.ConfigFile), "..", "ca", "root.pem")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := trust.New(anchors)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// reader judges what the registry says to the provider.
func (s *space) reader(t *testing.T) *assertion.ResponseVerifier {
	t.Helper()
	r, err := assertion.NewResponseVerifier(assertion.ResponseVerifierConfig{
		Issuer: s.State().Registry.ID, Audience: []ishare.PartyID{s.Provider.ID},
		Trust: s.validator(t), Revocation: revocation.Off{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask asks the registry as the provider does.
func (s *space) ask(t *testing.T, path string) (status int, body []byte) {
	t.Helper()
	tokens := s.client(t, s.Provider, s.State().Registry)
	return get(t, tokens.HTTPClient(), s.State().Registry.URL+path, nil)
}

func get(t *testing.T, c *http.Client, address string, header http.Header) (status int, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	if response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: the answer may be kept", address)
	}
	return response.StatusCode, body
}

// token takes the only member out of a body.
func token(t *testing.T, body []byte) (name, compact string) {
	t.Helper()
	var members map[string]string
	if err := json.Unmarshal(body, &members); err != nil || len(members) != 1 {
		t.Fatalf("body %.200q is not an object with one text: %v", body, err)
	}
	for name, compact := range members {
		return name, compact
	}
	return "", ""
}

// payload asks, and has the answer judged.
func (s *space) payload(t *testing.T, path string) (name string, payload []byte) {
	t.Helper()
	status, body := s.ask(t, path)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, status, body)
	}
	name, compact := token(t, body)
	payload, err := s.reader(t).Read(t.Context(), compact)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return name, payload
}

// shape lists the names of an object's members, and of the members of those that
// are objects, or lists of them.
func shape(value any, path string, into map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			into[path+name] = true
			shape(inner, path+name+".", into)
		}
	case []any:
		for _, inner := range v {
			shape(inner, path, into)
		}
	}
}

func shapeOf(t *testing.T, payload []byte) []string {
	t.Helper()
	var value any
	if err := json.Unmarshal(payload, &value); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	shape(value, "", names)
	for _, claim := range []string{"iss", "sub", "aud", "jti", "iat", "exp"} {
		delete(names, claim)
	}
	return slices.Sorted(maps.Keys(names))
}

// TestRegistryShapes holds what is said against the shapes of the frameworks.
func TestRegistryShapes(t *testing.T) {
	t.Parallel()
	record3 := strings.Fields(`partyInfo partyInfo.alsoKnownAs partyInfo.claims partyInfo.claims.certificateType
		partyInfo.claims.endDate partyInfo.claims.frameworkId partyInfo.claims.id partyInfo.claims.loa partyInfo.claims.registrarId
		partyInfo.claims.roleId partyInfo.claims.startDate partyInfo.claims.status partyInfo.claims.subjectName
		partyInfo.claims.type partyInfo.claims.x5c partyInfo.claims.x5t#s256 partyInfo.id partyInfo.name`)
	record2 := strings.Fields(`party_info party_info.adherence party_info.adherence.end_date party_info.adherence.start_date
		party_info.adherence.status party_info.alsoKnownAs party_info.certificates party_info.certificates.certificate_type
		party_info.certificates.enabled_from party_info.certificates.subject_name party_info.certificates.x5c
		party_info.certificates.x5t#s256 party_info.party_id party_info.party_name party_info.registrar_id party_info.roles
		party_info.roles.end_date party_info.roles.loa party_info.roles.role party_info.roles.start_date`)
	// below moves a record from where a party is to where parties are.
	below := func(record []string, from, to string, more ...string) []string {
		for _, name := range record[1:] {
			more = append(more, to+".data"+strings.TrimPrefix(name, from))
		}
		return append(more, to, to+".data")
	}
	cases := []struct {
		framework sandbox.Framework
		path      string
		token     string
		shape     []string
	}{
		{sandbox.Framework3, "/parties/did:ishare:EU.NL.NTRNL-10000001", "partyToken", record3},
		{sandbox.Framework3, "/parties?id=did:ishare:EU.NL.NTRNL-10000001", "partiesToken", below(record3, "partyInfo", "partiesInfo",
			"partiesInfo.currentPage", "partiesInfo.pageSize", "partiesInfo.totalPages", "partiesInfo.totalCount", "partiesInfo.count")},
		{sandbox.Framework3, "/trustedList", "trustedListToken", strings.Fields(`trustedList trustedList.certificateFingerprint
			trustedList.status trustedList.subject trustedList.validity`)},
		{sandbox.Framework2, "/parties/EU.EORI.NL000000001", "party_token", record2},
		{sandbox.Framework2, "/parties?eori=EU.EORI.NL000000001", "parties_token", below(record2, "party_info", "parties_info",
			"parties_info.count", "parties_info.total_count")},
		{sandbox.Framework2, "/trusted_list", "trusted_list_token", strings.Fields(`trusted_list trusted_list.certificate_fingerprint
			trusted_list.status trusted_list.subject trusted_list.validity`)},
	}
	spaces := map[sandbox.Framework]*space{
		sandbox.Framework3: share(t, sandbox.Framework3), sandbox.Framework2: share(t, sandbox.Framework2),
	}
	for _, c := range cases {
		name, payload := spaces[c.framework].payload(t, c.path)
		if name != c.token {
			t.Errorf("%s: the token is in %s, want %s", c.path, name, c.token)
		}
		slices.Sort(c.shape)
		if diff := cmp.Diff(c.shape, shapeOf(t, payload)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.path, diff)
		}
	}
}

// TestRegistrySays that what it says of everybody comes out of our own client as
// it was meant.
func TestRegistrySays(t *testing.T) {
	t.Parallel()
	for _, framework := range []sandbox.Framework{sandbox.Framework3, sandbox.Framework2} {
		t.Run(string(framework), func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *sandbox.Config) { c.Framework = framework })
			r := s.remote(t)
			for _, c := range []struct {
				standing string
				why      string // of not being compliant
			}{
				{"active", ""},
				{"pending", "compliance is " + map[sandbox.Framework]string{"3.0": "inactive", "2": "pending"}[framework]},
				{"inactive", "compliance is inactive"},
				{"suspended", "compliance is " + map[sandbox.Framework]string{"3.0": "suspended", "2": "inactive"}[framework]},
				{"revoked", "compliance is revoked"},
				{"ended", "compliance ended on"},
				{"unknown", registry.ErrUnknown.Error()},
			} {
				s.set(t, "consumer.standing", c.standing)
				got := ""
				switch party, err := r.Party(t.Context(), s.Consumer.ID); {
				case err != nil:
					got = err.Error()
				case party.Compliant(time.Now()) != nil:
					got = party.Compliant(time.Now()).Error()
				}
				if (got == "") != (c.why == "") || !strings.HasPrefix(got, c.why) {
					t.Errorf("%s: %q, want %q", c.standing, got, c.why)
				}
			}
			s.testCertificates(t, r)
		})
	}
}

// testCertificates is what the registry says of a party's certificate.
func (s *space) testCertificates(t *testing.T, r *registry.Remote) {
	t.Helper()
	s.set(t, "consumer.standing", "active")
	_, chain := seal(t, s.Consumer.KeyFile, s.Consumer.ChainFile)
	_, renewed := seal(t, s.Consumer.KeyFile, s.Consumer.RenewedFile)
	for choice, want := range map[string][2]bool{
		"registered": {true, false}, "held": {true, false}, "revoked": {true, false}, "replaced": {false, true}, "unregistered": {},
	} {
		s.set(t, "consumer.certificate", choice)
		party, err := r.Party(t.Context(), s.Consumer.AlsoKnownAs[0])
		if err != nil {
			t.Fatal(err)
		}
		if party.ID != s.Consumer.ID {
			t.Errorf("asked for by its alias, the party is %s", party.ID)
		}
		got := [2]bool{
			party.Certified(ishare.Thumbprint(chain[0].Raw), time.Now()), party.Certified(ishare.Thumbprint(renewed[0].Raw), time.Now()),
		}
		if got != want {
			t.Errorf("%s: the certificate, the renewed one: %v, want %v", choice, got, want)
		}
	}
}

// remote is our own client of the registry, as the provider.
func (s *space) remote(t *testing.T) *registry.Remote {
	t.Helper()
	key, chain := seal(t, s.Provider.KeyFile, s.Provider.ChainFile)
	r, err := registry.NewRemote(registry.RemoteConfig{
		ID: s.State().Registry.ID, URL: s.State().Registry.URL, Party: identifiers(s.Provider),
		Key: key, Certificates: chain, Trust: s.validator(t), Revocation: revocation.Off{},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestTrustedList(t *testing.T) {
	t.Parallel()
	for _, framework := range []sandbox.Framework{sandbox.Framework3, sandbox.Framework2} {
		s := start(t, func(c *sandbox.Config) { c.Framework = framework })
		r := s.remote(t)
		_, chain := seal(t, s.somebody(t, "untrusted-consumer").KeyFile, s.somebody(t, "untrusted-consumer").ChainFile)
		other := trust.FingerprintOf(chain[len(chain)-1])
		for status, want := range map[string]bool{"withdrawn": false, "granted": true} {
			s.set(t, "other-ca", status)
			anchors, err := r.TrustedList(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, got := anchors[other]; got != want || len(anchors) == 0 {
				t.Errorf("%s: the other CA is granted: %t, want %t", status, got, want)
			}
			// The registry goes by its list itself.
			_, err = s.client(t, s.somebody(t, "untrusted-consumer"), s.State().Registry).Token(t.Context())
			if (err == nil) != want {
				t.Errorf("%s: the registry lets its client in: %v", status, err)
			}
		}
	}
}

// TestRegistryLies in every way, each of which a reader finds out for its own reason.
func TestRegistryLies(t *testing.T) {
	t.Parallel()
	s := start(t)
	path := "/parties/" + string(s.Consumer.ID)
	for fault, want := range map[string]string{
		"wrong-signature": "jwt.signature: ",
		"wrong-signer":    "the certificate is not the issuer's",
		"wrong-issuer":    "claim.iss: ",
		"wrong-audience":  "claim.aud: ",
		"expired":         "claim.exp: ",
	} {
		s.set(t, "registry", fault)
		for _, path := range []string{path, "/parties", "/trustedList", "/capabilities"} {
			_, body := s.ask(t, path)
			_, compact := token(t, body)
			if _, err := s.reader(t).Read(t.Context(), compact); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: %v, want %s", fault, path, err, want)
			}
		}
		if _, err := s.remote(t).Party(t.Context(), s.Consumer.ID); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: our client says %v, want %s", fault, err, want)
		}
	}
	s.set(t, "registry", "other-party")
	for _, path := range []string{path, "/parties?id=" + string(s.Consumer.ID)} {
		if _, payload := s.payload(t, path); strings.Contains(string(payload), string(s.Consumer.ID)) {
			t.Errorf("%s: the answer is about the party that was asked for", path)
		}
	}
	s.set(t, "registry", "malformed")
	if _, body := s.ask(t, path); json.Unmarshal(body, new(any)) == nil {
		t.Error("the answer is JSON")
	}
}

func TestRegistryFails(t *testing.T) {
	t.Parallel()
	s := start(t)
	path := "/parties/" + string(s.Consumer.ID)
	tokens := s.client(t, s.Provider, s.State().Registry)
	if _, err := tokens.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := func() int {
		response, err := tokens.HTTPClient().Get(s.State().Registry.URL + path)
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	s.set(t, "registry", "error")
	if got := status(); got != http.StatusInternalServerError {
		t.Errorf("error: %d", got)
	}
	s.set(t, "registry", "off")
	if got := status(); got != 0 {
		t.Errorf("off: %d", got)
	}
	s.set(t, "registry", "normal")
	if status, _ := s.ask(t, path); status != http.StatusOK {
		t.Errorf("normal again: %d", status)
	}
}

func TestSlowAnswerEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.set(t, "registry", "slow")
	asked := make(chan error)
	go func() {
		response, err := plain().Get(s.State().Registry.URL + "/capabilities")
		if err == nil {
			err = response.Body.Close()
		}
		asked <- err
	}()
	s.stop() // waits for the requests under way, and would for as long as the registry is slow
	<-asked
}

func TestSearch(t *testing.T) {
	t.Parallel()
	s, s2 := share(t, sandbox.Framework3), share(t, sandbox.Framework2)
	for _, c := range []struct {
		space *space
		query string
		found int // on the page
		total int
	}{
		{s, "", 10, 10}, // everybody but the unknown one
		{s, "?id=did:ishare:EU.NL.NTRNL-10000001", 1, 1},
		{s, "?id=EU.EORI.NL000000001", 1, 1},
		{s, "?alsoKnownAs=EU.EORI.NL000000001", 1, 1},
		{s, "?alsoKnownAs=EU.EORI.NL000000005", 0, 0}, // is not in the register
		{s, "?name=Sandbox*", 3, 3},
		{s, "?name=*Consumer", 8, 8},
		{s, "?name=Sandbox*Consumer", 1, 1},
		{s, "?name=Sandbox", 0, 0},
		{s, "?name=Sandbox+Consumer*Consumer", 0, 0},
		{s, "?page=2&pageSize=4", 4, 10},
		{s, "?page=3&pageSize=4", 2, 10},
		{s, "?page=1000&pageSize=100", 0, 10},
		{s2, "?eori=EU.EORI.NL000000001", 1, 1},
		{s2, "?id=did:ishare:EU.NL.NTRNL-10000001", 1, 1},
		{s2, "?active_only=true", 7, 7},
		{s2, "?page=2&page_size=4", 4, 10},
	} {
		_, payload := c.space.payload(t, "/parties"+c.query)
		var answer struct {
			Info3 struct {
				Count int   `json:"count"`
				Total int   `json:"totalCount"`
				Data  []any `json:"data"`
			} `json:"partiesInfo"`
			Info2 struct {
				Count int   `json:"count"`
				Total int   `json:"total_count"`
				Data  []any `json:"data"`
			} `json:"parties_info"`
		}
		if err := json.Unmarshal(payload, &answer); err != nil {
			t.Fatal(err)
		}
		count, total, listed := answer.Info3.Count+answer.Info2.Count, answer.Info3.Total+answer.Info2.Total, len(answer.Info3.Data)+len(answer.Info2.Data)
		if count != c.found || total != c.total || listed != c.found {
			t.Errorf("%q: count %d, listed %d, total %d; want %d of %d", c.query, count, listed, total, c.found, c.total)
		}
		if strings.Contains(string(payload), `"data":null`) {
			t.Errorf("%q: nobody is null", c.query)
		}
	}
}

func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	s, s2 := share(t, sandbox.Framework3), share(t, sandbox.Framework2)
	for _, c := range []struct {
		space  *space
		path   string
		status int
	}{
		{s, "/parties/did:ishare:EU.NL.NTRNL-10000005", http.StatusNotFound},
		{s, "/parties/nonsense", http.StatusNotFound},
		{s, "/parties?page=0", http.StatusBadRequest},
		{s, "/parties?pageSize=101", http.StatusBadRequest},
		{s, "/parties?page=9999999999999999999", http.StatusBadRequest},
		{s2, "/parties/EU.EORI.NL000000005", http.StatusNotFound},
	} {
		if status, body := c.space.ask(t, c.path); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.path, status, body, c.status)
		}
	}
	for _, path := range []string{"/parties", "/parties/x", "/trustedList"} {
		if status, _ := get(t, plain(), s.State().Registry.URL+path, nil); status != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, status)
		}
	}
	bad := http.Header{"Authorization": {"Bearer " + rand.Text()}}
	if status, _ := get(t, plain(), s.State().Registry.URL+"/capabilities", bad); status != http.StatusUnauthorized {
		t.Errorf("/capabilities with a bad token: %d", status)
	}
	bad.Set("Authorization", "Basic x")
	if status, _ := get(t, plain(), s.State().Registry.URL+"/capabilities", bad); status != http.StatusBadRequest {
		t.Errorf("/capabilities with another scheme: %d", status)
	}
}

// TestRegistryJudges its own clients as any server does.
func TestRegistryJudges(t *testing.T) {
	t.Parallel()
	s := share(t, sandbox.Framework3)
	for folder, want := range map[string]string{
		"consumer": "", "former-consumer": "party.not-active", "pending-consumer": "party.not-active",
		"suspended-consumer": "party.not-active", "unknown-consumer": "party.unknown", "replaced-consumer": "party.certificate",
		"untrusted-consumer": "chain.untrusted", "revoked-consumer": "", // the registry asks nobody about revocation
	} {
		_, err := s.client(t, s.somebody(t, folder), s.State().Registry).Token(t.Context())
		if got := ruleOf(err); got != want {
			t.Errorf("%s: %q, want %q (%v)", folder, got, want, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	s, s2 := share(t, sandbox.Framework3), share(t, sandbox.Framework2)
	for _, c := range []struct {
		space                     *space
		token, public, restricted string
	}{
		{s, "capabilitiesToken", "request-oauth-token", "get-trusted-list"},
		{s2, "capabilities_token", "access-token", "trusted-list"},
	} {
		_, body := get(t, plain(), c.space.State().Registry.URL+"/capabilities", nil)
		name, compact := token(t, body)
		_, err := c.space.reader(t).Read(t.Context(), compact)
		if name != c.token || err == nil || !strings.Contains(err.Error(), "aud is missing") {
			t.Errorf("to the public: %s, %v", name, err)
		}
		part, _, _ := strings.Cut(strings.TrimPrefix(compact, strings.SplitN(compact, ".", 2)[0]+"."), ".")
		if open := decode(t, part); !strings.Contains(open, c.public) || strings.Contains(open, c.restricted) || strings.Contains(open, `"aud"`) {
			t.Errorf("to the public: %s", open)
		}
		if _, payload := c.space.payload(t, "/capabilities"); !strings.Contains(string(payload), c.restricted) {
			t.Errorf("to a client: %s", payload)
		}
	}
}

// TestEscapedIdentifiers that a party is found however its identifier is escaped.
func TestEscapedIdentifiers(t *testing.T) {
	t.Parallel()
	s := share(t, sandbox.Framework3)
	s.payload(t, "/parties/"+url.PathEscape(string(s.Consumer.ID)))
	s.payload(t, "/parties/"+url.QueryEscape(string(s.Consumer.ID)))
}
