package client_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

const (
	consumer ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000001"
	provider ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000002"
)

// A seal is a key with its certificate, signed by itself: the servers here look
// at signatures only.
type seal struct {
	key   *rsa.PrivateKey
	chain []*x509.Certificate
}

var newSeal = sync.OnceValue(func() seal {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "A consumer"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return seal{key, []*x509.Certificate{cert}}
})

// A tokenServer is a token endpoint that holds every request to what iSHARE asks,
// counts the jti of every assertion that reaches it, and answers as it is told.
type tokenServer struct {
	tb    testing.TB
	life  time.Duration // of the tokens
	delay time.Duration // of every answer
	ahead time.Duration // of its clock

	mu      sync.Mutex
	used    map[string]int // jti to the number of its uses
	issued  int
	last    string // the last assertion
	answers []http.HandlerFunc
}

func newTokenServer(tb testing.TB, answers ...http.HandlerFunc) *tokenServer {
	tb.Helper()
	s := &tokenServer{tb: tb, life: time.Hour, used: map[string]int{}, answers: answers}
	tb.Cleanup(func() {
		for jti, n := range s.used {
			if n > 1 {
				tb.Errorf("the assertion with jti %s was sent %d times", jti, n)
			}
		}
	})
	return s
}

// requests is how many token requests have come.
func (s *tokenServer) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, uses := range s.used {
		n += uses
	}
	return n
}

// next makes the server give these answers before it issues tokens again.
func (s *tokenServer) next(answers ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, answers...)
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
	if err := s.admit(r); err != nil {
		s.tb.Errorf("token request: %v", err)
		http.Error(w, err.Error(), http.StatusTeapot)
		return
	}
	if s.delay > 0 {
		wait(r.Context(), s.delay)
	}
	s.answer()(w, r)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *tokenServer) answer() http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 {
		answer := s.answers[0]
		s.answers = s.answers[1:]
		return answer
	}
	s.issued++
	return token(fmt.Sprintf("token-%d", s.issued), s.life)
}

func token(name string, life time.Duration) http.HandlerFunc {
	return jsonAnswer(http.StatusOK, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, name, int(life.Seconds())))
}

func jsonAnswer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// refusal is an answer by a rule, as Waybill's own token endpoint gives it.
func refusal(reason *rule.Rule) http.HandlerFunc {
	return jsonAnswer(reason.Status, fmt.Sprintf(`{"error":%q,"error_description":%q}`, reason.Code, reason.Reject().Description()))
}

// unavailable is a 503 with Retry-After.
func unavailable(retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		refusal(rule.UnavailableState)(w, r)
	}
}

// silence never answers.
func silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// admit checks a request as strictly as the real thing, the certificate chain and
// the party's standing aside.
func (s *tokenServer) admit(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	switch {
	case r.Method != http.MethodPost || r.URL.RawQuery != "":
		return fmt.Errorf("%s %s", r.Method, r.URL)
	case r.Header.Get("Content-Type") != "application/x-www-form-urlencoded":
		return fmt.Errorf("content type %q", r.Header.Get("Content-Type"))
	case r.Header.Get("Authorization") != "":
		return errors.New("an Authorization header")
	case len(r.PostForm) != 5:
		return fmt.Errorf("%d parameters", len(r.PostForm))
	}
	want := map[string]string{
		"grant_type": "client_credentials", "scope": "iSHARE", "client_id": string(consumer),
		"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
	}
	for name, value := range want {
		if got := r.PostForm[name]; len(got) != 1 || got[0] != value {
			return fmt.Errorf("%s = %q, want %q", name, got, value)
		}
	}
	return s.use(r.PostForm.Get("client_assertion"))
}

func (s *tokenServer) use(compact string) error {
	jti, err := verify(compact)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[jti]++
	s.last = compact
	return nil
}

func verify(compact string) (jti string, err error) {
	parts, err := jws.Split(compact)
	if err != nil {
		return "", err
	}
	header, err := parts.Header()
	if err != nil {
		return "", err
	}
	chain, err := header.Certificates(nil)
	if err != nil {
		return "", err
	}
	alg, _ := header.Text("alg")
	public, _ := chain[0].PublicKey.(*rsa.PublicKey)
	if err := parts.Verify(jws.Algorithm(alg), jws.NewKey(public)); err != nil {
		return "", err
	}
	var claims struct {
		Iss, Sub, Aud ishare.PartyID
		JTI           string
		Iat, Exp      int64
	}
	if err := json.Unmarshal(parts.Payload(), &claims, json.MatchCaseInsensitiveNames(true)); err != nil {
		return "", err
	}
	age := time.Since(time.Unix(claims.Iat, 0))
	switch {
	case claims.Iss != consumer || claims.Sub != consumer || claims.Aud != provider:
		return "", fmt.Errorf("iss %s, sub %s, aud %s", claims.Iss, claims.Sub, claims.Aud)
	case claims.Exp != claims.Iat+30 || age < 0 || age > 30*time.Second:
		return "", fmt.Errorf("iat %d, exp %d", claims.Iat, claims.Exp)
	case claims.JTI == "":
		return "", errors.New("no jti")
	}
	return claims.JTI, nil
}

// inMemory carries requests to a handler without a network, so that time can be that of a
// bubble.
type inMemory struct {
	handler http.Handler
	down    atomic.Bool // nothing arrives
	deaf    atomic.Bool // everything arrives, and no answer comes back
	tries   atomic.Int64
}

func (m *inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	m.tries.Add(1)
	at := r.Clone(r.Context()) // as the server sees it
	at.Host = cmp.Or(r.Host, r.URL.Host)
	if r.Body == nil {
		at.Body = http.NoBody
	}
	defer at.Body.Close()
	if m.down.Load() {
		return nil, errors.New("connection refused")
	}
	recorder := httptest.NewRecorder()
	m.handler.ServeHTTP(recorder, at)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if m.deaf.Load() {
		return nil, errors.New("connection reset by peer")
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// A pipeNetwork has one address, where a server is or is not.
type pipeNetwork struct{ server atomic.Pointer[pipeListener] }

func (n *pipeNetwork) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l := n.server.Load()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve starts a server; the function that it returns kills it.
func (n *pipeNetwork) serve(handler http.Handler) (kill func()) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.server.Store(l)
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	return func() {
		n.server.Store(nil)
		server.Close()
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// config is complete for a server that transport leads to.
func config(transport http.RoundTripper) client.Config {
	s := newSeal()
	return client.Config{
		Server: "https://provider.example", Audience: provider, ClientID: consumer,
		Key: s.key, Certificates: s.chain, Transport: transport,
	}
}

func newClient(tb testing.TB, c client.Config) *client.Client {
	tb.Helper()
	made, err := client.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { made.Close() })
	return made
}

// mustToken wants a token, and one that has not expired.
func mustToken(tb testing.TB, c *client.Client) string {
	tb.Helper()
	token, err := c.Token(tb.Context())
	if err != nil {
		tb.Fatalf("no token: %v", err)
	}
	if !time.Now().Before(token.Expiry) {
		tb.Errorf("the token %s expired at %s", token.AccessToken, token.Expiry)
	}
	return token.AccessToken
}

// A reply is what came of a request.
type reply struct {
	status  int
	body    string
	request *http.Request // the answer's
}

func do(c *http.Client, r *http.Request) (reply, error) {
	response, err := c.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, string(body), response.Request}, err
}

// get asks for a page.
func get(tb testing.TB, c *http.Client, url string) (status int, err error) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	got, err := do(c, request)
	return got.status, err
}

// secretsIn lists what of an assertion or a token a text gives away.
func secretsIn(s, compact string) []string {
	var found []string
	for i := 0; i+20 <= len(s); i++ {
		if strings.Contains(compact, s[i:i+20]) {
			found = append(found, s[i:i+20])
		}
	}
	return found
}
