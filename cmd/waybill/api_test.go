package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// cmdAPI starts an API that is not Waybill's. Its own token endpoint is that of the
// server at URL; that at /odd/token answers otherwise than RFC 6749 has it.
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
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/401", refusing(http.StatusUnauthorized, "Bearer realm=\"x\", error=\"invalid_token\", error_description=\"the token\u009b[2J is not ours\""))
	mux.HandleFunc("/401/silent", refusing(http.StatusUnauthorized, `Basic realm="x"`))
	mux.HandleFunc("/403", refusing(http.StatusForbidden, `Bearer error="insufficient_scope", error_description="more is asked for", scope="orders"`))
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("API", server.URL)
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
