package client_test

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/rule"
)

// Every test with a tokenServer also shows that no assertion is sent twice: the
// server counts each jti.

func TestWhatIsRepeated(t *testing.T) {
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>upstream</html>", status)
		}
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		again  bool
	}{
		{"429", refusal(rule.Limited), true},
		{"502 of a proxy", page(http.StatusBadGateway), true},
		{"503", refusal(rule.UnavailableRegistry), true},
		{"503 of a proxy", page(http.StatusServiceUnavailable), true},
		{"504 of a proxy", page(http.StatusGatewayTimeout), true},
		{"no answer", silence, true},
		{"400", refusal(rule.PartyUnknown), false},
		{"404 of another server", page(http.StatusNotFound), false},
		{"500", refusal(rule.Internal), false},
		{"200 that is no token", page(http.StatusOK), false},
		{"redirect", redirect("https://elsewhere.example/connect/token"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newTokenServer(t, test.answer)
				c := newClient(t, config(&inMemory{handler: server}))
				_, err := c.Token(t.Context())
				if (err == nil) != test.again {
					t.Errorf("got %v", err)
				}
				want := 1
				if test.again {
					want = 2
				}
				if got := server.requests(); got != want {
					t.Errorf("%d requests, want %d", got, want)
				}
			})
		})
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
}

func TestRepetitionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		server.next(slices.Repeat([]http.HandlerFunc{refusal(rule.UnavailableRegistry)}, 20)...)
		c := newClient(t, config(&inMemory{handler: server}))
		begin := time.Now()
		_, err := c.Token(t.Context())
		if refused, ok := errors.AsType[*client.Error](err); !ok || refused.RuleID != "unavailable.registry" {
			t.Errorf("got %v", err)
		}
		if got := server.requests(); got != 5 {
			t.Errorf("%d attempts, want 5", got)
		}
		// 0.1 + 0.2 + 0.4 + 0.8 s, each at least half of it
		if took := time.Since(begin); took < 750*time.Millisecond || took > 1500*time.Millisecond {
			t.Errorf("the pauses took %s", took)
		}
	})
}

// Whoever waits is told of each pause before it begins, and of why.
func TestPausesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t, unavailable("9"), refusal(rule.UnavailableRegistry))
		var told []time.Duration
		var because []int
		begin := time.Now()
		settings := config(&inMemory{handler: server})
		settings.OnPause = func(err error, pause time.Duration) {
			told = append(told, time.Since(begin), pause)
			if refused, ok := errors.AsType[*client.Error](err); ok {
				because = append(because, refused.Status)
			}
		}
		if _, err := newClient(t, settings).Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(told) != 4 || told[0] != 0 || told[1] < 9*time.Second || told[2] != told[1] || told[2]+told[3] != time.Since(begin) {
			t.Errorf("told %v, after %s", told, time.Since(begin))
		}
		if !slices.Equal(because, []int{503, 503}) {
			t.Errorf("because of %v", because)
		}
	})
}

func TestSilenceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t, slices.Repeat([]http.HandlerFunc{silence}, 5)...)
		c := newClient(t, config(&inMemory{handler: server}))
		begin := time.Now()
		if _, err := c.Token(t.Context()); err == nil || !strings.HasSuffix(err.Error(), " is out of reach: no answer came in time") {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	date := func(w http.ResponseWriter, r *http.Request) {
		unavailable(time.Now().Add(12*time.Second).UTC().Format(http.TimeFormat))(w, r)
	}
	for name, answer := range map[string]http.HandlerFunc{"seconds": unavailable("12"), "date": date} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newTokenServer(t, answer)
				c := newClient(t, config(&inMemory{handler: server}))
				begin := time.Now()
				mustToken(t, c)
				if took := time.Since(begin); took < 12*time.Second || took > 13200*time.Millisecond {
					t.Errorf("the second attempt came after %s, want 12s to 13.2s", took)
				}
			})
		})
	}
}

// What the server asks is beyond one request's time: the caller is told, and until
// then nobody is asked.
func TestRetryAfterBeyondTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t, unavailable("45"))
		c := newClient(t, config(&inMemory{handler: server}))
		begin := time.Now()
		for time.Since(begin) < 45*time.Second {
			_, err := c.Token(t.Context())
			refused, ok := errors.AsType[*client.Error](err)
			if !ok || refused.RetryAfter != 45*time.Second || refused.RuleID != "unavailable.state" {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		if got := server.requests(); got != 1 {
			t.Errorf("%d requests, want 1", got)
		}
		mustToken(t, c)
	})
}

func TestRetryAfterCannotStopUsForLong(t *testing.T) {
	for _, asked := range []string{"86400", "4294967295", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			server := newTokenServer(t, unavailable(asked))
			c := newClient(t, config(&inMemory{handler: server}))
			_, err := c.Token(t.Context())
			if refused, ok := errors.AsType[*client.Error](err); ok && refused.RetryAfter > client.MaxRetryAfter {
				t.Errorf("%s: %s", asked, refused.RetryAfter)
			}
			time.Sleep(time.Minute)
			mustToken(t, c)
		})
	}
}

// Answers that get lost are the case in which a client is tempted to send the
// same assertion once more.
func TestLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		network := &inMemory{handler: server}
		network.deaf.Store(true)
		c := newClient(t, config(network))
		for range 10 {
			if _, err := c.Token(t.Context()); err == nil {
				t.Fatal("a token out of nowhere")
			}
			time.Sleep(time.Second)
		}
		network.deaf.Store(false)
		mustToken(t, c)
		if got := server.requests(); got != 51 {
			t.Errorf("%d requests, want 51", got)
		}
	})
}

// A server that reads the request on a connection that was used before and then hangs up. Given
// a GetBody, net/http itself may send the same request again.
func TestBrokenConnectionsOverSockets(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
			cutShort := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "500")
				fmt.Fprint(w, `{"access_token":"half`)
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			server := newTokenServer(t)
			endpoint := httptest.NewUnstartedServer(server)
			endpoint.EnableHTTP2 = protocol == "HTTP/2"
			endpoint.StartTLS()
			defer endpoint.Close()
			conf := config(endpoint.Client().Transport)
			conf.Server = endpoint.URL
			c := newClient(t, conf)
			c.Invalidate(mustToken(t, c))
			server.next(hangUp, cutShort)
			mustToken(t, c)
			if got := server.requests(); got != 4 {
				t.Errorf("%d requests, want 4", got)
			}
		})
	}
}

// The two things by which a transport takes a POST for one that it may send again.
func TestRequestCannotBeReplayedByTheTransport(t *testing.T) {
	server := newTokenServer(t)
	look := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.GetBody != nil || r.Header.Get("Idempotency-Key") != "" {
			t.Error("a transport may repeat this request by itself")
		}
		return (&inMemory{handler: server}).RoundTrip(r)
	})
	mustToken(t, newClient(t, config(look)))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRedirectIsNotFollowed(t *testing.T) {
	strangers := 0
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangers++ }))
	defer stranger.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		endpoint := httptest.NewServer(newTokenServer(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, stranger.URL+"/"+r.PostForm.Get("client_assertion"), status)
		}))
		conf := config(nil)
		conf.Server = endpoint.URL
		_, err := newClient(t, conf).Token(t.Context())
		endpoint.Close()
		refused, ok := errors.AsType[*client.Error](err)
		if !ok || refused.Status != status || !strings.Contains(refused.Description, "redirect") || refused.Hint == "" {
			t.Errorf("%d: %v", status, err)
		}
		if strings.Contains(fmt.Sprintf("%+v", refused), "eyJ") {
			t.Errorf("%d: the error holds the assertion: %+v", status, refused)
		}
		if strangers > 0 {
			t.Errorf("%d: the redirect was followed", status)
		}
	}
}

func TestUntrustedServerIsAskedOnce(t *testing.T) {
	server := newTokenServer(t)
	endpoint := httptest.NewUnstartedServer(server)
	endpoint.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the broken handshake
	handshakes := 0
	endpoint.Listener = countingListener{endpoint.Listener, &handshakes}
	endpoint.StartTLS()
	conf := config(nil) // does not know the server's certificate
	conf.Server = endpoint.URL
	_, err := newClient(t, conf).Token(t.Context())
	endpoint.Close()
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
	if server.requests() != 0 || handshakes != 1 {
		t.Errorf("%d requests, %d handshakes; want none and one", server.requests(), handshakes)
	}
}

type countingListener struct {
	net.Listener
	n *int
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		*l.n++
	}
	return c, err
}

// What stands in the way of a connection may quote what it was sent.
func TestNetworkErrorHidesTheAssertion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		echo := roundTrip(func(r *http.Request) (*http.Response, error) {
			if err := r.ParseForm(); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("malformed HTTP response %q\x1b[31m", r.PostForm.Get("client_assertion"))
		})
		_, err := newClient(t, config(echo)).Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), "[removed]") || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("got %v", err)
		}
		if strings.Contains(err.Error(), "\x1b") {
			t.Error("the error speaks to the terminal")
		}
		if server.requests() != 0 {
			t.Error("the server was asked")
		}
	})
}

type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	e.n += len(p)
	return len(p), nil
}

func (*endless) Close() error { return nil }

func TestEndlessAnswerIsNotReadToItsEnd(t *testing.T) {
	body := &endless{}
	c := newClient(t, config(roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: jsonHeader, Body: body, Request: r}, nil
	})))
	_, err := c.Token(t.Context())
	if e, ok := errors.AsType[*client.Error](err); !ok || !strings.Contains(e.Description, "longer than") {
		t.Errorf("got %v", err)
	}
	if body.n > client.MaxAnswer+1 {
		t.Errorf("%d bytes were read", body.n)
	}
}

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token in the slot is gone")
}

func TestKeyThatDoesNotSign(t *testing.T) {
	network := &inMemory{handler: newTokenServer(t)}
	conf := config(network)
	conf.Key = brokenKey{newSeal().key}
	_, err := newClient(t, conf).Token(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the token in the slot is gone") {
		t.Errorf("got %v", err)
	}
	if network.tries.Load() != 0 {
		t.Error("something was sent")
	}
}
