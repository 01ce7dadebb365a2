package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// cmdAPI starts an API that is not Waybill's. Its own token endpoint is that of the
// server at URL; that at /odd/token answers otherwise than RFC 6749 has it, and others are those of foreignAnswers. The
// same is at LOCALAPI by another name, and at SECUREAPI by TLS.
func cmdAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: api [ENDPOINT]")
	}
	provider, err := url.Parse(ts.Getenv("URL"))
	ts.Check(err)
	mux := http.NewServeMux()
	mux.Handle(tokenendpoint.Path, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(provider) }})
	if len(args) == 1 {
		capabilities, err := capabilitiesNaming(args[0])
		ts.Check(err)
		mux.HandleFunc("GET /capabilities", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"capabilitiesToken":%q}`, capabilities)
		})
	}
	mux.HandleFunc("/odd/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"access_token":%q,"expires_in":"3600"}`, strings.Repeat("odd", 50))
	})
	mux.HandleFunc("/busy/token", busy(url.URL{Scheme: "http", Host: provider.Host, Path: tokenendpoint.Path}))
	for path, answer := range foreignAnswers {
		mux.HandleFunc(path+"/token", func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), answer.header)
			w.WriteHeader(answer.status)
			_, _ = io.WriteString(w, answer.body)
		})
	}
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/escapes", func(w http.ResponseWriter, _ *http.Request) { // in the line that only few clean
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer connection.Close()
		_, _ = io.WriteString(connection, "HTTP/1.1 200 \x1b[31mOK\x1b]0;x\a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody")
	})
	mux.HandleFunc("/401", refusing(http.StatusUnauthorized, "Bearer realm=\"x\", error=\"invalid_token\", error_description=\"the token\u009b[2J is not ours\""))
	mux.HandleFunc("/401/silent", refusing(http.StatusUnauthorized, `Basic realm="x"`))
	mux.HandleFunc("/403", refusing(http.StatusForbidden, `Bearer error="insufficient_scope", error_description="more is asked for", scope="orders"`))
	server, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that a client breaks off
	secure.StartTLS()
	ts.Defer(server.Close)
	ts.Defer(secure.Close)
	ts.Setenv("API", server.URL)
	ts.Setenv("LOCALAPI", strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
	ts.Setenv("SECUREAPI", secure.URL)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("api-ca.pem"), ca, 0o600))
}

// foreignAnswers are what servers of other houses say, each at a token endpoint of its own.
var foreignAnswers = map[string]struct {
	status int
	header http.Header
	body   string
}{
	"/bare":     {401, http.Header{"Content-Type": {"application/json"}}, `{"error":"invalid_client"}`},
	"/undated":  {400, http.Header{"Content-Type": {"application/json"}, "Date": nil}, `{"error":"invalid_client","error_description":"client authentication\u001b[2J failed"}`},
	"/ahead":    {400, http.Header{"Content-Type": {"application/json"}, "Date": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}, `{"error":"invalid_client"}`},
	"/html":     {500, http.Header{"Content-Type": {"text/html"}}, "<html><head><title>Error</title><style>b{}</style></head><body>The \x1b[31mbackend<br>is gone</body></html>"},
	"/text":     {400, http.Header{"Content-Type": {"text/plain"}}, "Certificate chain is not trusted"},
	"/problem":  {403, http.Header{"Content-Type": {"application/problem+json"}}, `{"title":"Forbidden","detail":"client_id is unknown"}`},
	"/empty":    {400, http.Header{"Content-Type": nil}, ""},
	"/proxy":    {404, http.Header{"Content-Type": {"application/json"}}, `{"message":"no Route matched with those values"}`},
	"/words":    {200, http.Header{"Content-Type": {"application/json"}}, `{"access_token":"geheim","token_type":"Bearer","expires_in":"an hour"}`},
	"/mac":      {200, http.Header{"Content-Type": {"application/json"}}, `{"access_token":"geheim","token_type":"mac","expires_in":60}`},
	"/redirect": {302, http.Header{"Location": {"https://login.example/sso?state=geheim"}}, ""},
}

// busy answers the first request that it has something better to do for a second.
func busy(then url.URL) http.HandlerFunc {
	var asked atomic.Bool
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = &then, then.Host }}
	return func(w http.ResponseWriter, r *http.Request) {
		if asked.Swap(true) {
			forward.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"temporarily_unavailable","error_description":"unavailable.state: it is not known yet"}`)
	}
}

func capabilitiesNaming(endpoint string) (string, error) {
	c, err := players()
	if err != nil {
		return "", err
	}
	payload := fmt.Sprintf(`{"iss":%q,"sub":%[1]q,"capabilitiesInfo":{"publicServices":[{"identifier":"orders","tokenEndpoint":%q}]}}`, providerID, endpoint)
	return jws.Sign(jws.RS256, c.provider.Key, c.provider.Certificates, []byte(payload))
}

// echo answers what it was asked, and how long the token is.
func echo(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s host=%s auth=%s token=%t type=%s a=%v body=%s\n",
		r.Method, r.URL, r.Host, scheme, len(token) > 100, r.Header.Get("Content-Type"), r.Header.Values("X-A"), body)
}

func refusing(status int, challenge string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Www-Authenticate"] = []string{challenge}
		http.Error(w, "no", status)
	}
}
