package revocation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
)

// recovery is how soon after it is well again a service has to be used.
const recovery = 2 * time.Second

// An outage is a way in which a service fails: it answers in the place of the good one.
type outage func(good http.RoundTripper, r *http.Request) (*http.Response, error)

func fails(err error) outage {
	return func(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, err }
}

func answers(status int, header http.Header, body func() io.Reader) outage {
	return func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: header, Body: io.NopCloser(body()), ContentLength: -1, Request: r,
		}, nil
	}
}

func nothing() io.Reader { return http.NoBody }

// A stalled body sends a byte, and nothing more until the caller has gone.
type stalled struct {
	ctx  context.Context
	sent bool
}

func (s *stalled) Read(b []byte) (int, error) {
	if !s.sent {
		s.sent = true
		return copy(b, "0"), nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// changed hands out the good answer with the last bit, which is of the signature, another.
func changed(good http.RoundTripper, r *http.Request) (*http.Response, error) {
	response, err := good.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	recorder := httptest.NewRecorder()
	body, err := io.ReadAll(response.Body)
	body[len(body)-1] ^= 1
	_, _ = recorder.Write(body)
	return recorder.Result(), err
}

func outOfOrder() map[string]outage {
	zeros := func(size int64) func() io.Reader {
		return func() io.Reader { return io.LimitReader(zero{}, size) }
	}
	return map[string]outage{
		"refused":      fails(errors.New("connection refused")),
		"TLS":          fails(&tls.CertificateVerificationError{Err: errors.New("of its own making")}),
		"no such name": fails(errors.New("no such host")),
		"hang": func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"stalled": func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
			return answers(http.StatusOK, nil, func() io.Reader { return &stalled{ctx: r.Context()} })(nil, r)
		},
		"500":             answers(http.StatusInternalServerError, nil, nothing),
		"429":             answers(http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}, nothing),
		"503":             answers(http.StatusServiceUnavailable, http.Header{"Retry-After": {"3600"}}, nothing),
		"404":             answers(http.StatusNotFound, nil, nothing),
		"redirect loop":   answers(http.StatusFound, http.Header{"Location": {"/again"}}, nothing),
		"empty":           answers(http.StatusOK, nil, nothing),
		"garbage":         answers(http.StatusOK, nil, zeros(1000)),
		"large garbage":   answers(http.StatusOK, nil, zeros(maxListAnswer)),
		"too large":       answers(http.StatusOK, nil, zeros(2*maxListAnswer)),
		"wrong signature": changed,
		"expired": func(good http.RoundTripper, r *http.Request) (*http.Response, error) {
			p, ok := good.(*pki)
			if !ok {
				return nil, errors.New("no PKI")
			}
			old := func(from, to *time.Time) { *from, *to = from.Add(-2*time.Hour), to.Add(-2*time.Hour) }
			p.service.Tamper(testca.Tampering{
				OCSP: func(a *testca.OCSPAnswer) { old(&a.ThisUpdate, &a.NextUpdate) },
				List: func(l *testca.ListAnswer) { old(&l.ThisUpdate, &l.NextUpdate) },
			})
			defer p.service.Tamper(testca.Tampering{})
			return good.RoundTrip(r)
		},
	}
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Clients come all the time while a service is out of order, in whatever way. Two seconds after it
// is well again, each of them has been let in; meanwhile it is asked seldom, and large answers more seldom
// than small ones.
func TestRecovery(t *testing.T) {
	for source, configure := range map[string]func(*testca.Config){"OCSP": withoutLists, "CRL": withoutOCSP} {
		for name, fail := range outOfOrder() {
			for _, after := range []time.Duration{200 * time.Millisecond, 4900 * time.Millisecond, 6300 * time.Millisecond} {
				t.Run(fmt.Sprintf("%s/%s/%s", source, name, after), func(t *testing.T) {
					inBubble(t, configure, func(t *testing.T, p *pki) {
						calls := 1
						if name == "redirect loop" {
							calls += outbound.MaxRedirects
						}
						recoverFrom(t, p, fail, after, calls)
					})
				})
			}
		}
	}
}

func recoverFrom(t *testing.T, p *pki, fail outage, after time.Duration, calls int) {
	t.Helper()
	var well atomic.Bool
	var asked atomic.Int64
	r := p.inMemory(Require)
	r.fetcher.Client.Transport = roundTripper(func(request *http.Request) (*http.Response, error) {
		if well.Load() {
			return p.RoundTrip(request)
		}
		asked.Add(1)
		return fail(p, request)
	})
	const clients = 8
	passed := make(chan time.Time, clients)
	for _, chain := range p.chains(clients) {
		go func() {
			for r.Check(t.Context(), chain) != nil {
				time.Sleep(100 * time.Millisecond)
			}
			passed <- time.Now()
		}()
	}
	time.Sleep(after)
	well.Store(true)
	begin := time.Now()
	for range clients {
		if took := (<-passed).Sub(begin); took > recovery {
			t.Errorf("a client waited for %s", took)
		}
	}
	// Each client's question once a second, and twice while it is met with silence.
	if n, most := asked.Load(), int64(2*calls*clients*int(after/time.Second+1)); n > most {
		t.Errorf("asked %d times within %s, want %d at most", n, after, most)
	}
}

func TestLargeGarbageIsAskedForMoreSeldom(t *testing.T) {
	for name, test := range map[string]struct {
		size, most int64
	}{"small": {1000, 11}, "large": {maxListAnswer, 6}, "too large": {2 * maxListAnswer, 6}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, withoutOCSP, func(t *testing.T, p *pki) {
				var asked int64
				r, chain := p.inMemory(Require), p.chain()
				r.fetcher.Client.Transport = roundTripper(func(request *http.Request) (*http.Response, error) {
					asked++
					return answers(http.StatusOK, nil, func() io.Reader { return io.LimitReader(zero{}, test.size) })(nil, request)
				})
				for range 100 {
					mustBeUnavailable(t, r.Check(t.Context(), chain), "")
					time.Sleep(100 * time.Millisecond)
				}
				if asked > test.most || asked < test.most-1 {
					t.Errorf("asked %d times in 10 s, want %d", asked, test.most)
				}
			})
		})
	}
}

// A responder that is slow is not given up for one that might be quicker.
func TestSlowResponderAnswers(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.behind(func(service http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-time.After(ocspTimeout - time.Second):
					service.ServeHTTP(w, r)
				case <-r.Context().Done():
				}
			})
		})
		r := p.inMemory(Require)
		begin := time.Now()
		mustPass(t, r.Check(t.Context(), p.chain()))
		if took := time.Since(begin); took != ocspTimeout-time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A list that comes steadily is not asked for a second time.
func TestListThatComesSlowly(t *testing.T) {
	inBubble(t, withoutOCSP, func(t *testing.T, p *pki) {
		r := p.inMemory(Require)
		r.fetcher.Client.Transport = roundTripper(func(request *http.Request) (*http.Response, error) {
			response, err := p.RoundTrip(request)
			if err == nil {
				response.Body = io.NopCloser(&steady{body: response.Body})
				response.ContentLength = -1
			}
			return response, err
		})
		mustPass(t, r.Check(t.Context(), p.chain()))
		p.wantAsked(http.MethodGet, 1)
	})
}

// steady lets a body through in a few pieces, each within a second.
type steady struct {
	body io.Reader
}

func (s *steady) Read(b []byte) (int, error) {
	time.Sleep(800 * time.Millisecond)
	return s.body.Read(b[:min(len(b), 200)])
}

// A responder that hangs leaves time for the list, and none is lost when its circuit is open.
func TestListNeedNotWaitForAResponderThatHangs(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *pki) {
		p.behind(func(service http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					<-r.Context().Done()
					return
				}
				service.ServeHTTP(w, r)
			})
		})
		r := p.inMemory(Require)
		for n := range 2 * outbound.FetchFailures {
			begin := time.Now()
			mustPass(t, r.Check(t.Context(), p.chain()))
			want := headStart
			if n >= outbound.FetchFailures {
				want = 0
			}
			if took := time.Since(begin); took != want {
				t.Errorf("client %d waited for %s, want %s", n, took, want)
			}
		}
	})
}

// However many certificates come at once, few calls are made of a host, the rest is told at once to
// come again, and who depends on another host does not notice.
func TestSlowHostLeavesRoomForOthers(t *testing.T) {
	for _, mode := range []Mode{Require, Prefer} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := newPKI(t, "http://slow.test", withoutListsAnd("http://slow.test")).pinned()
				other := newPKI(t, "http://other.test", withoutListsAnd("http://other.test")).pinned()
				var calls, most atomic.Int64
				r := slow.inMemory(mode)
				r.fetcher.Client.Transport = roundTripper(func(request *http.Request) (*http.Response, error) {
					if request.URL.Host == "other.test" {
						return other.RoundTrip(request)
					}
					most.Store(max(most.Load(), calls.Add(1)))
					defer calls.Add(-1)
					<-request.Context().Done()
					return nil, request.Context().Err()
				})
				const clients = 3 * questionsAnIssuer
				begin := time.Now()
				var atOnce atomic.Int64
				var together sync.WaitGroup
				for _, chain := range slow.chains(clients) {
					together.Go(func() {
						err := r.Check(t.Context(), chain)
						if time.Since(begin) > 0 {
							return
						}
						atOnce.Add(1)
						o, ok := errors.AsType[*rule.Outage](err)
						if !ok || o.RetryAfter != time.Second {
							t.Errorf("Check = %v, want to come again in a second", err)
						}
					})
				}
				synctest.Wait()
				mustPass(t, r.Check(t.Context(), other.chain()))
				if n := atOnce.Load(); n != clients-outbound.CallsPerHost {
					t.Errorf("%d of %d were told at once, want all but %d", n, clients, outbound.CallsPerHost)
				}
				together.Wait()
				if n := most.Load(); n != outbound.CallsPerHost {
					t.Errorf("%d calls at once, want %d", n, outbound.CallsPerHost)
				}
				taken, by := r.issuerSlots.Taken()
				fetches, hosts := r.fetcher.Calls.Taken()
				if n := r.questions.Len(); n != 0 || taken != 0 || by != 0 || fetches != 0 || hosts != 0 {
					t.Errorf("%d questions, %d slots and %d calls are left", n, taken, fetches)
				}
			})
		})
	}
}

func withoutListsAnd(base string) func(*testca.Config) {
	return func(c *testca.Config) { c.OCSPURL, c.CRLURL = base+"/ocsp", "" }
}

// One cause is one line, however many certificates it concerns, until it changes.
func TestOneCauseIsOneLine(t *testing.T) {
	const clients = 50
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r := p.inMemory(Prefer)
		chains := p.chains(clients)
		ask := func() {
			t.Helper()
			for range 3 {
				for _, chain := range chains {
					mustPass(t, r.Check(t.Context(), chain))
				}
				time.Sleep(recovery)
			}
		}
		want := func(when string, failures, through, again int) {
			t.Helper()
			if f, l, a := p.log.count("WARN the revocation status of a certificate cannot be found out"),
				p.log.count("WARN a chain is let through"), p.log.count("INFO the revocation status of a certificate is found out again"); f != failures || l != through || a != again {
				t.Errorf("%s: %d, %d and %d lines, want %d, %d and %d", when, f, l, a, failures, through, again)
			}
		}
		p.without(http.MethodPost)
		ask()
		want("answers 500", 1, 1, 0)
		p.behind(hang)
		for range 2 * outbound.FetchFailures {
			mustPass(t, r.Check(t.Context(), chains[0]))
		}
		want("hangs, which is out of reach too", 1, 1, 0)
		p.behind(func(http.Handler) http.Handler { return http.NotFoundHandler() })
		ask()
		want("answers 404", 2, 2, 0)
		p.behind(nil)
		ask()
		want("is well", 2, 2, 1)
		time.Sleep(answerLife)
		p.without(http.MethodPost)
		ask()
		want("answers 500 again", 3, 3, 1)
	})
}

// A cause that comes and goes is a line a minute.
func TestCausesThatComeAndGo(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.NextUpdate = time.Now().Add(time.Second) }})
		r, chain := p.inMemory(Require), p.chain()
		for n := range 120 {
			switch n % 3 {
			case 0:
				p.without(http.MethodPost)
			case 1:
				p.behind(func(http.Handler) http.Handler { return http.NotFoundHandler() })
			case 2:
				p.behind(nil)
			}
			if err := r.Check(t.Context(), chain); (err == nil) != (n%3 == 2) {
				t.Errorf("%d: %v", n, err)
			}
			time.Sleep(time.Second)
		}
		if n := len(p.log.messages); n < 4 || n > 12 {
			t.Errorf("%d lines: %q", n, p.log.messages)
		}
	})
}

// A chain that passes without an answer is logged again when there was one in between, however short that was ago.
func TestSoftFailIsLoggedAgainAfterARecovery(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.NextUpdate = time.Now().Add(time.Second) }})
		r, chain := p.inMemory(Prefer), p.chain()
		for n := range 3 {
			p.without(http.MethodPost)
			mustPass(t, r.Check(t.Context(), chain))
			if got := p.log.count("WARN a chain is let through"); got != n+1 {
				t.Errorf("%d lines, want %d", got, n+1)
			}
			p.behind(nil)
			time.Sleep(2 * failureMemory)
			mustPass(t, r.Check(t.Context(), chain))
			time.Sleep(outagePause)
		}
	})
}

// A cause is logged again when it occurs again, although nobody had an answer in between.
func TestCauseThatNobodyMet(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r := p.inMemory(Require)
		p.without(http.MethodPost)
		for n := range 3 {
			for range 20 {
				mustBeUnavailable(t, r.Check(t.Context(), p.chain()), "")
				time.Sleep(outageSilence / 2)
			}
			time.Sleep(outageSilence)
			if got := p.log.count("cannot be found out"); got != n+1 {
				t.Errorf("%d lines, want %d", got, n+1)
			}
		}
	})
}

func TestKnownOutagesAreBounded(t *testing.T) {
	var o outages
	for i := range 3 * maxOutages {
		if !o.begin(fmt.Sprint(i)) {
			t.Errorf("%d is known", i)
		}
	}
	if len(o.known) > maxOutages || o.end("0") || !o.end(fmt.Sprint(3*maxOutages-1)) {
		t.Errorf("%d are known", len(o.known))
	}
}
