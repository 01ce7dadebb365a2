package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	registryID ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000000"
	ownID      ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000002"
	consumerID ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000001"
	consumerAt ishare.PartyID = "EU.EORI.NL000000001" // the consumer, by an alias
	strangerID ishare.PartyID = "did:ishare:EU.NL.NTRNL-99999999"
)

// A pki is a CA with the seals of everyone in a test.
type pki struct {
	t        testing.TB
	ca       *testca.CA
	registry *testca.Identity
	own      *testca.Identity
	consumer *testca.Identity
}

func newPKI(tb testing.TB) *pki {
	tb.Helper()
	p, err := makePKI()
	if err != nil {
		tb.Fatal(err)
	}
	p.t = tb
	return p
}

func makePKI() (*pki, error) {
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		return nil, err
	}
	p := &pki{ca: ca}
	for seal, of := range map[**testca.Identity]testca.SealRequest{
		&p.registry: {Organization: "Registry", Identifier: "NTRNL-10000000"},
		&p.own:      {Organization: "Provider", Identifier: "NTRNL-10000002"},
		&p.consumer: {Organization: "Consumer", Identifier: "NTRNL-10000001"},
	} {
		if *seal, err = ca.Seal(of); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// PKIs that tests share: those in bubbles, whose time begins in 2000, cannot use the certificates of today.
var (
	todaysPKI  = sync.OnceValues(makePKI)
	bubblesPKI = sync.OnceValues(makePKI)
)

// sharedPKI is one that other tests use too; whoever needs another CA makes one with newPKI.
func sharedPKI(tb testing.TB) *pki {
	tb.Helper()
	shared := todaysPKI
	if time.Now().Year() == 2000 {
		shared = bubblesPKI
	}
	p, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	mine := *p
	mine.t = tb
	return &mine
}

func (p *pki) anchors() trust.Anchors {
	return trust.Anchors{trust.FingerprintOf(p.ca.Authority(testca.Root).Certificate()): "test root"}
}

func (p *pki) validator() *trust.Validator {
	p.t.Helper()
	v, err := trust.New(p.anchors())
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// A fakeRegistry is a strict Participant Registry of one version, which can be told
// to misbehave.
type fakeRegistry struct {
	pki     *pki
	version Version
	judge   *assertion.ResponseVerifier // of client assertions

	mu       sync.Mutex
	records  map[ishare.PartyID]string // by every identifier, as JSON
	list     string                    // the trusted list, as JSON
	noSingle bool                      // there is no /parties/{id}
	byIDOnly bool                      // /parties/{id} finds nobody by an alias
	answer   answerShape
	front    func(http.Handler) http.Handler // stands before everything, or nil
	tokens   map[string]bool                 // that are accepted
	used     map[string]bool                 // jti
	calls    []string                        // path and query
	asked    map[ishare.PartyID]int          // questions about a party
}

// answerShape is how an answer differs from a good one.
type answerShape struct {
	issuer   ishare.PartyID
	audience ishare.PartyID
	age      time.Duration
	seal     *testca.Identity
	tamper   func(compact string) string
}

func newFakeRegistry(tb testing.TB, version Version) *fakeRegistry {
	tb.Helper()
	p := sharedPKI(tb)
	judge, err := assertion.NewResponseVerifier(assertion.ResponseVerifierConfig{
		Issuer: ownID, Audience: []ishare.PartyID{registryID}, Trust: p.validator(), Revocation: revocation.Off{},
	})
	if err != nil {
		tb.Fatal(err)
	}
	f := &fakeRegistry{
		pki: p, version: version, judge: judge,
		records: map[ishare.PartyID]string{}, list: "[]",
		tokens: map[string]bool{}, used: map[string]bool{}, asked: map[ishare.PartyID]int{},
	}
	f.put(f.consumer("active"), consumerID, consumerAt)
	return f
}

// put files a record under identifiers; an empty one takes it away.
func (f *fakeRegistry) put(record string, ids ...ishare.PartyID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if record == "" {
			delete(f.records, id)
		} else {
			f.records[id] = record
		}
	}
}

// consumer is the record of the consumer in the registry's version.
func (f *fakeRegistry) consumer(status string) string {
	if f.version == Version2 {
		return f.consumer2(status)
	}
	return fmt.Sprintf(`{"id":%q,"name":"Consumer","alsoKnownAs":[%q],"claims":[
		{"id":"c1","type":"frameworkCompliance","frameworkId":"iSHARE","status":%q,"registrarId":" did:ishare:EU.NL.NTRNL-10000000",
		 "startDate":"1999-01-01T00:00:00.000Z","endDate":"2099-01-01T00:00:00Z"},
		{"id":"c2","type":"x509Certificate","status":"active","x5c":%q},
		{"id":"c3","type":"frameworkRole","roleId":"ServiceConsumer","status":"ACTIVE"}]}`,
		consumerID, consumerAt, status, wrapped(f.pki.consumer))
}

func (f *fakeRegistry) consumer2(status string) string {
	return fmt.Sprintf(`{"party_id":%q,"alsoKnownAs":[%q],"party_name":"Consumer","registrar_id":"did:ishare:EU.NL.NTRNL-10000000",
		"adherence":{"status":%q,"start_date":"1999-01-01T00:00:00.000Z","end_date":"2099-01-01T00:00:00Z"},
		"certificates":[{"x5c":%q,"x5t#s256":""}],"roles":[{"role":"Service Consumer"}]}`,
		consumerID, consumerAt, status, wrapped(f.pki.consumer))
}

// wrapped is a certificate in base64 with line breaks.
func wrapped(id *testca.Identity) string {
	pem := strings.Split(strings.TrimSpace(string(testca.EncodeCertificates(id.Certificate()))), "\n")
	return strings.Join(pem[1:len(pem)-1], "\r\n")
}

func thumbprint(id *testca.Identity) string { return ishare.Thumbprint(id.Certificate().Raw) }

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	front := f.front
	f.mu.Unlock()
	var handler http.Handler = http.HandlerFunc(f.serve)
	if front != nil {
		handler = front(handler)
	}
	handler.ServeHTTP(w, r)
}

func (f *fakeRegistry) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/connect/token" {
		f.token(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, r.URL.String())
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "method", http.StatusMethodNotAllowed)
	case !bearer || !f.tokens[token]:
		http.Error(w, "token", http.StatusUnauthorized)
	default:
		f.reply(w, r)
	}
}

// words of the registry's version: the names of what is answered, and of what is signed.
func (f *fakeRegistry) word(in3, in2 string) string {
	if f.version == Version2 {
		return in2
	}
	return in3
}

func (f *fakeRegistry) reply(w http.ResponseWriter, r *http.Request) {
	id, one := strings.CutPrefix(r.URL.Path, "/parties/")
	switch {
	case one:
		f.replySingle(w, ishare.PartyID(id))
	case r.URL.Path == "/parties":
		f.replySearch(w, r)
	case r.URL.Path == f.word("/trustedList", "/trusted_list"):
		f.sign(w, f.word("trustedListToken", "trusted_list_token"), f.word("trustedList", "trusted_list"), f.list)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeRegistry) replySingle(w http.ResponseWriter, id ishare.PartyID) {
	f.asked[id]++
	record, ok := f.records[id]
	if ok && f.byIDOnly && !strings.Contains(record, fmt.Sprintf(`id":%q`, id)) {
		ok = false
	}
	switch {
	case f.noSingle:
		http.Error(w, "no such form", http.StatusMethodNotAllowed)
	case !ok:
		http.Error(w, `{"error":"no such party"}`, http.StatusNotFound)
	default:
		f.sign(w, f.word("partyToken", "party_token"), f.word("partyInfo", "party_info"), record)
	}
}

func (f *fakeRegistry) replySearch(w http.ResponseWriter, r *http.Request) {
	found := ""
	for parameter, values := range r.URL.Query() {
		id := ishare.PartyID(values[0])
		canonical := strings.Contains(f.records[id], fmt.Sprintf(`id":%q`, id))
		eori := strings.HasPrefix(string(id), "EU.EORI.")
		switch {
		case parameter != "id" && parameter != f.word("alsoKnownAs", "eori"):
			http.Error(w, "parameter "+parameter, http.StatusBadRequest)
			return
		case f.version == Version3 && canonical != (parameter == "id"), f.version == Version2 && eori != (parameter == "eori"):
		default:
			found = f.records[id]
		}
	}
	f.sign(w, f.word("partiesToken", "parties_token"), f.word("partiesInfo", "parties_info"), `{"count":1,"data":[`+found+`]}`)
}

// sign answers with a token around a member.
func (f *fakeRegistry) sign(w http.ResponseWriter, name, member, value string) {
	a := f.answer
	issued := time.Now().Add(-a.age).Unix()
	payload := fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":%q,"jti":%q,"iat":%d,"exp":%d,%q:%s}`,
		cmp.Or(a.issuer, registryID), cmp.Or(a.issuer, registryID), cmp.Or(a.audience, ownID), rand.Text(), issued, issued+30, member, value)
	seal := cmp.Or(a.seal, f.pki.registry)
	compact, err := jws.Sign(jws.RS256, seal.Key, seal.Chain, []byte(payload))
	if err != nil {
		f.pki.t.Error(err)
	}
	if a.tamper != nil {
		compact = a.tamper(compact)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{%q:%q}`, name, compact)
}

// token is the token endpoint, which holds every request to what iSHARE asks.
func (f *fakeRegistry) token(w http.ResponseWriter, r *http.Request) {
	if err := f.admit(r); err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"invalid_client","error_description":%q}`, err.Error())
		return
	}
	token := "access-" + rand.Text()
	f.mu.Lock()
	f.tokens[token] = true
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
}

func (f *fakeRegistry) admit(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	want := map[string]string{"grant_type": "client_credentials", "scope": "iSHARE", "client_id": string(ownID)}
	for name, value := range want {
		if r.PostForm.Get(name) != value {
			return fmt.Errorf("%s is %q", name, r.PostForm.Get(name))
		}
	}
	payload, err := f.judge.Read(r.Context(), r.PostForm.Get("client_assertion"))
	if err != nil {
		return err
	}
	var claims struct {
		JTI string `json:"jti"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.used[claims.JTI] {
		return errors.New("replayed")
	}
	f.used[claims.JTI] = true
	return nil
}

// behind puts something before the registry, or nothing.
func (f *fakeRegistry) behind(front func(http.Handler) http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.front = front
}

// change alters the registry between requests.
func (f *fakeRegistry) change(how func(f *fakeRegistry)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(f)
}

func (f *fakeRegistry) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// tokensIssued counts token requests, since no assertion is accepted twice.
func (f *fakeRegistry) tokensIssued() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.used)
}

// revokeTokens makes the registry forget every token, as a restart does.
func (f *fakeRegistry) revokeTokens() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

// config is for a registry at url, reached by the transport.
func (f *fakeRegistry) config(url string, transport http.RoundTripper) RemoteConfig {
	return RemoteConfig{
		ID: registryID, URL: url, Party: []ishare.PartyID{ownID},
		Key: f.pki.own.Key, Certificates: f.pki.own.Chain,
		Trust: f.pki.validator(), Revocation: revocation.Off{}, Leeway: 10 * time.Second,
		Transport: transport,
	}
}

// remote is a client that is closed with the test.
func remote(tb testing.TB, c RemoteConfig) *Remote {
	tb.Helper()
	r, err := NewRemote(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	return r
}

// served is a registry on a socket, and a client of it.
func served(t *testing.T, version, configured Version) (*fakeRegistry, *Remote) {
	t.Helper()
	f := newFakeRegistry(t, version)
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c := f.config(server.URL, nil)
	c.Version = configured
	return f, remote(t, c)
}

// network carries requests to a handler without sockets, so that time can be that of
// a bubble.
type network struct {
	handler http.Handler
	down    atomic.Bool
}

var errRefused = errors.New("connection refused")

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.down.Load() {
		return nil, errRefused
	}
	at := r.Clone(r.Context())
	if r.Body == nil {
		at.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	n.handler.ServeHTTP(recorder, at)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

const anywhere = "https://registry.example"

// inMemory is a registry without sockets, and a client of it.
func inMemory(tb testing.TB) (*fakeRegistry, *network, *Remote) {
	tb.Helper()
	f := newFakeRegistry(tb, Version3)
	n := &network{handler: f}
	return f, n, remote(tb, f.config(anywhere, n))
}

// records is a log that tests can read.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }

func (l *logged) Handle(_ context.Context, record slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s", record.Level, record.Message)
	record.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line.String())
	return nil
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// leftover lists the goroutines that run code of these packages besides the test's.
func leftover() []string {
	buffer := make([]byte, 1<<20)
	var found []string
	for i, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if i > 0 && (strings.Contains(stack, "waybill/registry.(*") || strings.Contains(stack, "waybill/client.(*")) && !strings.Contains(stack, "_test.go") {
			found = append(found, stack)
		}
	}
	return found
}

func mustParty(tb testing.TB, s Source, id ishare.PartyID) *ishare.Party {
	tb.Helper()
	p, err := s.Party(tb.Context(), id)
	if err != nil {
		tb.Fatalf("Party(%s): %v", id, err)
	}
	return p
}

// mustBeUnavailable expects an outage of the registry.
func mustBeUnavailable(tb testing.TB, err error, text string) {
	tb.Helper()
	o, ok := errors.AsType[*rule.Outage](err)
	if !ok || o.Rule != rule.UnavailableRegistry {
		tb.Fatalf("error %v, want an outage of the registry", err)
	}
	if o.RetryAfter < time.Second || !strings.Contains(err.Error(), text) {
		tb.Errorf("error %v after %s, want %q and a second at least", err, o.RetryAfter, text)
	}
}

// mustBeWrong expects an error that is neither a no nor an outage, and above all no
// rejection, which would be told to the client.
func mustBeWrong(tb testing.TB, err error, text string) {
	tb.Helper()
	switch {
	case err == nil:
		tb.Fatalf("no error, want %q", text)
	case errors.Is(err, ishare.ErrUnknownParty), errors.As(err, new(*rule.Outage)), errors.As(err, new(*rule.Rejection)):
		tb.Errorf("error of the wrong kind: %#v", err)
	case !strings.Contains(err.Error(), text):
		tb.Errorf("error %q does not say %q", err, text)
	}
}
