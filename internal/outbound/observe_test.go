package outbound_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/internal/outbound"
)

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Calls are in the log when it is asked for them, with nothing of what may be secret.
func TestObserved(t *testing.T) {
	for _, c := range []struct {
		level slog.Level
		err   error
		want  []string
	}{
		{slog.LevelDebug, nil, []string{"kind=registry", "host=registry.example:8443", "status=204", "method=POST", "duration_ms="}},
		{slog.LevelDebug, errors.New("no route to host"), []string{`error="no route to host"`, "duration_ms="}},
		{slog.LevelInfo, nil, nil},
	} {
		var written logtest.Buffer
		log := slog.New(slog.NewTextHandler(&written, &slog.HandlerOptions{Level: c.level}))
		base := transportFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, c.err
		})
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://user:secret@registry.example:8443/secret?secret", strings.NewReader("secret"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer secret")
		wraps := 0
		answer, err := outbound.Observed(base, "registry", log, func(next http.RoundTripper) http.RoundTripper { wraps++; return next }).RoundTrip(request)
		if !errors.Is(err, c.err) || wraps != 1 {
			t.Errorf("%v, wrapped %d times", err, wraps)
		}
		if answer != nil {
			answer.Body.Close()
		}
		text := written.String()
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in %s", want, text)
			}
		}
		if (text == "") != (c.want == nil) || strings.Contains(text, "secret") {
			t.Errorf("the log: %s", text)
		}
	}
}

// Idle connections of what is observed are closed as if it were not.
func TestObservedClosesIdleConnections(t *testing.T) {
	base := &idle{}
	(&http.Client{Transport: outbound.Observed(base, "upstream", slog.New(slog.DiscardHandler), nil)}).CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("closed %d times", base.closed)
	}
}

type idle struct {
	http.RoundTripper

	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }
