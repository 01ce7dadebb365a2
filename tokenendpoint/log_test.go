package tokenendpoint_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// told answers every assertion with an error.
type told struct {
	err   error
	delay time.Duration
}

func (f *told) Verify(context.Context, ishare.PartyID, string) (*assertion.Client, assertion.UnverifiedInfo, error) {
	time.Sleep(f.delay)
	return nil, assertion.UnverifiedInfo{}, f.err
}

func (*told) Issue(context.Context, accesstoken.Claims) (string, accesstoken.Claims, error) {
	return "", accesstoken.Claims{}, errors.New("nobody is to get a token")
}

// A transcript is what an endpoint writes to its log.
type transcript struct {
	logtest.Buffer

	handler  *tokenendpoint.Handler
	recorded string // the correlation id of the last decision
	told
}

func newTranscript(t *testing.T) *transcript {
	t.Helper()
	s := &transcript{}
	var err error
	s.handler, err = tokenendpoint.New(tokenendpoint.Config{
		Verifier: &s.told, Issuer: &s.told, Log: slog.New(slog.NewJSONHandler(&s.Buffer, nil)),
		Record: func(_ context.Context, d *tokenendpoint.Decision) error {
			s.recorded = d.Correlation
			return nil
		},
	})
	check(t, err)
	return s
}

// send sends requests that are right, as far as the endpoint knows, and returns the last answer.
func (s *transcript) send(n int, err error) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	for range n {
		w = s.sendAs(context.Background(), err)
	}
	return w
}

// sendAs sends one, by a client that waits as long as the context lasts.
func (s *transcript) sendAs(ctx context.Context, err error) *httptest.ResponseRecorder {
	s.err = err
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {"iSHARE"}, "client_id": {"did:ishare:EU.NL.NTRNL-10000001"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {"x"},
	}.Encode()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, tokenendpoint.Path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// lines are what was written since.
func (s *transcript) lines() (lines []string) {
	synctest.Wait()
	for line := range strings.Lines(s.String()) {
		lines = append(lines, line)
	}
	s.Reset()
	return lines
}

// What a stranger sends fills no log.
func TestJunkFillsNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTranscript(t)
		for i := range 100_000 {
			r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, strings.NewReader(fmt.Sprintf("junk=%d", i)))
			switch i % 3 {
			case 0:
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			case 1:
				r.Method = fmt.Sprintf("JUNK%d", i)
			}
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
			time.Sleep(time.Millisecond)
		}
		s.handler.Close()
		written := len(s.String())
		more := strings.Count(s.String(), `"more":`)
		if written > 100_000 || more < 3*10 {
			t.Errorf("%d bytes were written, with %d sums", written, more)
		}
	})
}

// One cause of an outage is one line while it lasts, another is another, and the end is told.
func TestAnOutageIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTranscript(t)
		outage := func(client int, cause string) error {
			// Each request meets it with words of its own.
			return &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: time.Second, Cause: fmt.Errorf("asking for %d: %w", client, errors.New(cause))}
		}
		for i := range 50 {
			s.send(1, outage(i, "no route to host"))
			time.Sleep(time.Second)
		}
		if lines := s.lines(); len(lines) != 1 || !strings.Contains(lines[0], `"reason":"no route to host","cause":"unavailable.registry: the Participant Registry is out of reach (asking for 0: no route to host)","correlation":"`) {
			t.Errorf("while it lasts: %s", lines)
		}
		s.send(10, outage(1, "connection refused"))
		if lines := s.lines(); len(lines) != 1 || !strings.Contains(lines[0], `"reason":"connection refused"`) {
			t.Errorf("another cause: %s", lines)
		}
		time.Sleep(time.Minute)
		if lines := s.lines(); len(lines) != 2 || !strings.Contains(lines[0], `"reason":"no route to host","more":49,"within_ms":`) || !strings.Contains(lines[1], `"reason":"connection refused","more":9`) {
			t.Errorf("the end: %s", lines)
		}
	})
}

// A client that is gone before the answer is no outage of ours, unless it had reason to go.
func TestAClientThatIsGoneIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		canceled := fmt.Errorf("waiting: %w", context.Canceled)
		for name, c := range map[string]struct {
			ctx     context.Context
			cause   error
			delay   time.Duration
			outcome string
		}{
			"gone soon":             {gone, canceled, time.Second, "abandoned"},
			"gone after a while":    {gone, canceled, 2 * time.Second, "unavailable"},
			"somebody else is gone": {t.Context(), canceled, 0, "unavailable"},
			"gone from an outage":   {gone, errors.New("no route to host"), 0, "unavailable"},
		} {
			s := newTranscript(t)
			s.delay = c.delay
			s.sendAs(c.ctx, &rule.Outage{Rule: rule.UnavailableState, RetryAfter: time.Second, Cause: c.cause})
			if lines := s.lines(); len(lines) != 1 || !strings.Contains(lines[0], `"outcome":"`+c.outcome+`","rule":"unavailable.state"`) {
				t.Errorf("%s: %s", name, lines)
			}
			s.handler.Close()
		}
		s := newTranscript(t)
		for range 100 {
			s.sendAs(gone, &rule.Outage{Rule: rule.UnavailableState, RetryAfter: time.Second, Cause: canceled})
		}
		if lines := s.lines(); len(lines) != 5 || !strings.Contains(lines[0], `"level":"INFO"`) {
			t.Errorf("a hundred: %s", lines)
		}
		s.handler.Close()
	})
}

// Whoever is given a correlation id finds it in the log.
func TestCorrelationIDsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTranscript(t)
		var given []string
		for range 300 {
			answer := s.send(1, errors.New("broken"))
			_, id, _ := strings.Cut(decode(t, answer).Description, "correlation id ")
			given = append(given, id)
			if id != s.recorded || id != answer.Header().Get("X-Request-Id") {
				t.Fatalf("answered %q, recorded %q", id, s.recorded)
			}
		}
		s.handler.Close()
		log := s.String()
		for _, id := range given {
			if id == "" || !strings.Contains(log, `"correlation":"`+id+`"`) {
				t.Fatalf("%q leads nowhere", id)
			}
		}
		if lines := s.lines(); len(lines) > 110 {
			t.Errorf("%d lines", len(lines))
		}
	})
}

// A request that is screened out costs no more than its header.
func TestScreen(t *testing.T) {
	s := &transcript{}
	handler, err := tokenendpoint.New(tokenendpoint.Config{Verifier: &s.told, Issuer: &s.told, Log: slog.New(slog.NewJSONHandler(&s.Buffer, nil)), Screen: func(r *http.Request) error {
		return &rule.Outage{Rule: rule.Limited, RetryAfter: 1500 * time.Millisecond, Cause: errors.New(r.RemoteAddr)}
	}})
	check(t, err)
	r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, unread{t})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if got := decode(t, w); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "2" || got.Error != "temporarily_unavailable" || got.Description != "limited: too many requests" {
		t.Errorf("%d %v %+v", w.Code, w.Header(), got)
	}
	if !strings.Contains(s.String(), r.RemoteAddr) {
		t.Errorf("the log does not tell whose it was: %s", s)
	}
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("read")
}
