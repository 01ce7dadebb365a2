package provider_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
)

// A cast is who takes part.
type cast struct {
	ca                 *isharetest.CA
	provider, consumer *isharetest.Party
}

// players are made once, because their keys take time. Nothing changes them.
var players = sync.OnceValue(func() cast {
	ca := isharetest.NewCA()
	return cast{
		ca:       ca,
		provider: ca.Party(isharetest.ProviderID, "Some Provider"),
		consumer: ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer"),
	}
})

// configuration is that of a provider with its data in the folder.
func configuration(dir string, noHistory bool) provider.Config {
	return provider.Config{
		Party: isharetest.ProviderID, Key: players().provider.Key, Certificates: players().provider.Certificates,
		Anchors: players().ca.Anchors(), Revocation: provider.Revocation{Mode: revocation.ModeOff},
		Parties: isharetest.NewList(players().consumer),
		URL:     &url.URL{Scheme: "https", Host: "provider.example"},
		Data:    filepath.Join(dir, "data"), NoHistory: noHistory,
		Secured: map[string]http.Handler{"GET /who": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
	}
}

// A served provider answers until the test ends or stops it.
type served struct {
	*provider.Provider

	log  *transcript
	url  string
	stop func() error // waits for the end, and gives what Run gave
}

func serve(t *testing.T, c provider.Config) *served {
	t.Helper()
	s := &served{log: &transcript{}}
	c.Log = slog.New(slog.NewJSONHandler(s.log, nil))
	s.Provider = provider.Must(provider.New(c))(t)
	server := httptest.NewServer(s.Public())
	s.url = server.URL
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		server.Close()
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// send makes a token request.
func (s *served) send(t *testing.T, r *isharetest.Request) *isharetest.Answer {
	t.Helper()
	return provider.Must(r.Send(s.url))(t)
}

// token gets an access token for the consumer.
func (s *served) token(t *testing.T) string {
	t.Helper()
	a := s.send(t, players().consumer.Request(isharetest.ProviderID))
	if err := a.Meets(nil); err != nil {
		t.Fatal(err)
	}
	return a.AccessToken
}

// internal asks the internal handler.
func (s *served) internal(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Internal().ServeHTTP(w, r)
	return w
}

func (s *served) post(t *testing.T, path string, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(url.Values{"token": {token}}.Encode()))
	r.Header.Set("Content-Type", isharetest.MediaType)
	return s.internal(r)
}

func (s *served) revoke(t *testing.T, token string) (status int, body string) {
	t.Helper()
	w := s.post(t, "/revoke", token)
	return w.Code, w.Body.String()
}

// admits asks everybody who knows whether a token is good. They must agree.
func (s *served) admits(t *testing.T, token string) bool {
	t.Helper()
	body := s.post(t, "/introspect", token).Body.String()
	active := strings.HasPrefix(body, `{"active":true,`)
	want := http.StatusUnauthorized
	if active {
		want = http.StatusOK
	} else if body != `{"active":false}` {
		t.Errorf("introspection says %q", body)
	}
	for _, path := range []string{"/who", "/capabilities", "/auth", "/envoy/"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		handler := s.Public()
		if path == "/auth" || path == "/envoy/" {
			handler = s.Internal()
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: status %d, %s; introspection says %t", path, w.Code, w.Body, active)
		}
	}
	if _, err := s.Tokens().Check(t.Context(), token); (err == nil) != active {
		t.Errorf("Tokens: %v; introspection says %t", err, active)
	}
	return active
}

// tree is what stands in a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A transcript is a log that can be read while it is written.
type transcript struct{ logtest.Buffer }

// problems are the lines of the log about a key, of beginnings and of ends.
func (t *transcript) problems(tb testing.TB, key string) (found, over []map[string]any) {
	tb.Helper()
	for line := range bytes.Lines([]byte(t.String())) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			tb.Fatalf("the log holds %q: %v", line, err)
		}
		switch {
		case record["key"] != key:
		case record["msg"] == "a problem was found":
			found = append(found, record)
		case record["msg"] == "a problem is over":
			over = append(over, record)
		}
	}
	return found, over
}
