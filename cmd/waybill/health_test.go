package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A listener is asked at an address by which this machine reaches it, without a name that somebody has to know.
func TestListenerURL(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:9090":     "http://127.0.0.1:9090",
		"10.1.2.3:9090":      "http://10.1.2.3:9090",
		":9090":              "http://127.0.0.1:9090",
		"0.0.0.0:9090":       "http://127.0.0.1:9090",
		"[::]:9090":          "http://[::1]:9090",
		"[::1]:9090":         "http://[::1]:9090",
		"waybill.local:9090": "http://waybill.local:9090",
		"9090":               "",
		"::1:9090":           "",
	} {
		if got, err := listenerURL(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}

// Whatever answers, nothing of it takes hold of the terminal, and a no is a no.
func TestHealthOfStrangers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   int
		said   string
	}{
		"ready":               {200, `{"ready":true}`, statusDone, ""},
		"ready, with a worry": {200, `{"ready":true,"problems":["clock: it went back"]}`, statusDone, "problem: clock: it went back\n"},
		"not ready":           {503, `{"problems":["\u001b[2Jgone"]}`, statusNo, "error: the server is not ready\n"},
		"elsewhere":           {302, `{}`, statusNo, "answers 302 Found, and not as the internal listener does\n"},
		"no JSON":             {200, `<html>`, statusNo, "answers 200 OK, and not as the internal listener does\n"},
		"without end":         {200, `{"problems":["` + strings.Repeat("x", mostHealth) + `"]}`, statusNo, "answers 200 OK, and not as the internal listener does\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					t.Errorf("%s is asked for", r.URL.Path)
				}
				w.Header().Set("Location", "/")
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			defer server.Close()
			var out, said bytes.Buffer
			status := run(t.Context(), []string{"waybill", "health", "--url", server.URL}, os.Getenv, streams{nil, &out, &said})
			if status != c.want || !strings.HasSuffix(said.String(), c.said) || strings.ContainsRune(said.String(), 0x1b) {
				t.Errorf("status %d, %q", status, said.String())
			}
			if (out.String() == "ready\n") != (c.want == statusDone) || c.want != statusDone && out.Len() > 0 {
				t.Errorf("the result is %q", out.String())
			}
		})
	}
}

// The words behind a status are those of whoever answers, too.
func TestHealthOfAStrangersStatus(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 500 \x1b[2Jgone\r\nContent-Length: 0\r\n\r\n")
	}))
	defer server.Close()
	var out, said bytes.Buffer
	status := run(t.Context(), []string{"waybill", "health", "--url", server.URL}, os.Getenv, streams{nil, &out, &said})
	if status != statusNo || !strings.Contains(said.String(), "answers 500 ") || strings.ContainsRune(said.String(), 0x1b) {
		t.Errorf("status %d, %q", status, said.String())
	}
}
