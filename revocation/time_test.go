package revocation

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/trust"
)

// inBubble runs a test in which time passes as it says, with a PKI that is reached
// without sockets. That no goroutine is left after Close is a condition of every such test.
func inBubble(t *testing.T, configure func(*testca.Config), test func(t *testing.T, p *pki)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, newPKI(t, "http://status.test", configure).pinned())
	})
}

// bySource runs a test in a bubble with OCSP alone and with lists alone, and gives each a folder.
func bySource(t *testing.T, test func(t *testing.T, p *pki, dir string)) {
	t.Helper()
	for name, configure := range map[string]func(*testca.Config){"OCSP": withoutLists, "CRL": withoutOCSP} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			inBubble(t, configure, func(t *testing.T, p *pki) { test(t, p, dir) })
		})
	}
}

func (p *pki) wantAsked(method string, want int) {
	p.t.Helper()
	synctest.Wait() // for what is asked in the background
	if n := p.asked(method); n != want {
		p.t.Errorf("after %s: %d × %s, want %d", time.Now().Format(time.TimeOnly), n, method, want)
	}
}

func TestAnswerIsUsedUntilItEnds(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.without(http.MethodPost)
		time.Sleep(answerLife - time.Second)
		mustPass(t, r.Check(t.Context(), chain)) // and asks for another one
		p.wantAsked(http.MethodPost, 2)
		time.Sleep(time.Second)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "HTTP status 500")
	})
}

func TestAnswerIsRefreshedInTheBackground(t *testing.T) {
	for _, test := range []struct {
		name      string
		configure func(*testca.Config)
		method    string
	}{
		{"OCSP", withoutLists, http.MethodPost},
		{"CRL", withoutOCSP, http.MethodGet},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, test.configure, func(t *testing.T, p *pki) {
				r, chain := p.inMemory(Require), p.chain()
				slow := make(chan struct{})
				mustPass(t, r.Check(t.Context(), chain))
				time.Sleep(answerLife/2 - 10*time.Second)
				mustPass(t, r.Check(t.Context(), chain))
				p.wantAsked(test.method, 1) // there is time

				p.behind(func(service http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						<-slow
						service.ServeHTTP(w, r)
					})
				})
				time.Sleep(20 * time.Second)
				for range 100 {
					mustPass(t, r.Check(t.Context(), chain)) // does not wait
				}
				p.wantAsked(test.method, 2)
				close(slow)
				synctest.Wait()
				p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise)
				time.Sleep(answerLife/2 - 30*time.Second)
				mustPass(t, r.Check(t.Context(), chain))
				p.wantAsked(test.method, 2) // the new answer is as young as can be

				// A client that comes all the time is found out in half the life of an answer.
				time.Sleep(time.Minute)
				r.Check(t.Context(), chain)
				synctest.Wait()
				time.Sleep(2 * time.Second) // an answer from a list may have to be taken again
				r.Check(t.Context(), chain)
				synctest.Wait()
				mustBeRevoked(t, r.Check(t.Context(), chain), "says "+test.name)
			})
		})
	}
}

func TestLongAnswersAreRefreshedSooner(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.NextUpdate = a.ThisUpdate.AddDate(0, 0, 7) }})
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		time.Sleep(ocspRefresh - time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		p.wantAsked(http.MethodPost, 1)
		time.Sleep(time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		p.wantAsked(http.MethodPost, 2)

		p.without(http.MethodPost)
		time.Sleep(maxLife - time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		time.Sleep(time.Second)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "500") // although the answer is good for six days more
	})
}

func TestAnswerWithoutAnEndIsUsedForAShortTime(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.NextUpdate = time.Time{} }})
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.without(http.MethodPost)
		time.Sleep(ocspLife - time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		time.Sleep(time.Second)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "500")
	})
}

// What the responder says is worth no more than the responder.
func TestAnswerEndsWithTheRespondersCertificate(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		template := p.ca.ResponderTemplate()
		template.NotAfter = time.Now().Add(10 * time.Minute)
		responder := p.signed(testca.Issuing, template)
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.SignWith(responder) }})
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		time.Sleep(10*time.Minute + time.Second)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "not valid at this time")
	})
}

func TestAnswerEndsWithTheListThatTheRespondersCertificateIsNotOn(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		template := p.ca.ResponderTemplate()
		template.ExtraExtensions = nil
		template.CRLDistributionPoints = []string{p.list}
		responder := p.signed(testca.Issuing, template)
		p.service.Tamper(testca.Tampering{
			OCSP: func(a *testca.OCSPAnswer) { a.SignWith(responder) },
			List: func(l *testca.ListAnswer) { l.NextUpdate = l.ThisUpdate.Add(10 * time.Minute) },
		})
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.service.Revoke(responder.Certificate(), ocsp.KeyCompromise)
		time.Sleep(10 * time.Minute)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "the responder's own certificate is revoked")
	})
}

func TestLongListIsUsedForADay(t *testing.T) {
	inBubble(t, withoutOCSP, func(t *testing.T, p *pki) {
		p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) { l.NextUpdate = l.ThisUpdate.AddDate(0, 0, 30) }})
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.without(http.MethodGet)
		time.Sleep(maxLife - time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		time.Sleep(time.Second)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "500")
	})
}

func TestRevocationIsFinal(t *testing.T) {
	bySource(t, func(t *testing.T, p *pki, _ string) {
		r, chain := p.inMemory(Require), p.chain()
		p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise)
		mustBeRevoked(t, r.Check(t.Context(), chain), "is revoked since 2000-01-01T00:00:00Z")
		p.service.Reinstate(chain.Leaf())
		for range 10 {
			time.Sleep(answerLife)
			mustBeRevoked(t, r.Check(t.Context(), chain), "is revoked since 2000-01-01T00:00:00Z")
		}
	})
}

func TestHoldCanBeLifted(t *testing.T) {
	bySource(t, func(t *testing.T, p *pki, _ string) {
		r, chain := p.inMemory(Require), p.chain()
		p.service.Revoke(chain.Leaf(), ocsp.CertificateHold)
		mustBeRevoked(t, r.Check(t.Context(), chain), "is on hold")
		p.service.Reinstate(chain.Leaf())
		mustBeRevoked(t, r.Check(t.Context(), chain), "is on hold")
		time.Sleep(answerLife)
		mustPass(t, r.Check(t.Context(), chain))
	})
}

// Whoever stands between can show an old answer again for as long as it lasts, but
// not to somebody who has seen a newer one.
func TestOlderAnswerDoesNotReplaceANewerOne(t *testing.T) {
	for _, test := range []struct {
		name      string
		configure func(*testca.Config)
		log       string
		old       testca.Tampering
	}{
		{"OCSP", withoutLists, "WARN the revocation status of a certificate cannot be found out", testca.Tampering{OCSP: func(a *testca.OCSPAnswer) {
			a.Status, a.ThisUpdate, a.NextUpdate = ocsp.Good, a.ThisUpdate.AddDate(0, 0, -1), a.ThisUpdate.AddDate(0, 0, 5)
		}}},
		{"CRL", withoutOCSP, "WARN a revocation list cannot be fetched again", testca.Tampering{List: func(l *testca.ListAnswer) {
			l.RevokedCertificateEntries, l.ThisUpdate = nil, l.ThisUpdate.AddDate(0, 0, -1)
		}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, test.configure, func(t *testing.T, p *pki) {
				r, chain := p.inMemory(Require), p.chain()
				p.service.Revoke(chain.Leaf(), ocsp.CertificateHold)
				mustBeRevoked(t, r.Check(t.Context(), chain), "is on hold")
				p.service.Tamper(test.old)
				time.Sleep(answerLife/2 + time.Second)
				for range 5 {
					mustBeRevoked(t, r.Check(t.Context(), chain), "is on hold")
					synctest.Wait()
					time.Sleep(failureMemory)
				}
				if p.log.count(test.log) != 1 || p.log.count("WARN a certificate is revoked") != 1 {
					t.Errorf("the log says %q", p.log.messages)
				}
			})
		})
	}
}

// But a revocation counts, however old the answer is in which it stands.
func TestOlderAnswerThatRevokesCounts(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise)
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.ThisUpdate = a.ThisUpdate.AddDate(0, 0, -1) }})
		time.Sleep(answerLife / 2)
		r.Check(t.Context(), chain) // has it asked again, and does not wait for the answer
		synctest.Wait()
		mustBeRevoked(t, r.Check(t.Context(), chain), "says OCSP")
	})
}

func TestOCSPIsTriedAgainAfterAListHadToDo(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *pki) {
		p.without(http.MethodPost)
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise) // after the list was made
		p.behind(nil)
		time.Sleep(ocspFallback - time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		time.Sleep(2 * time.Second)
		r.Check(t.Context(), chain) // has it asked again, and does not wait for the answer
		synctest.Wait()
		mustBeRevoked(t, r.Check(t.Context(), chain), "says OCSP")
	})
}

func TestDeadResponderIsSpared(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.without(http.MethodPost)
		r := p.inMemory(Require)
		// One certificate asks again after a second, and no sooner.
		chain := p.chain()
		for range 100 {
			mustBeUnavailable(t, r.Check(t.Context(), chain), "500")
		}
		p.wantAsked(http.MethodPost, 1)
		time.Sleep(failureMemory)
		mustBeUnavailable(t, r.Check(t.Context(), chain), "500")
		p.wantAsked(http.MethodPost, 2)

		// Many certificates together ask once a second, after three failures in a row.
		chains := make([]*trust.Chain, 20)
		for i := range chains {
			chains[i] = p.chain()
		}
		for _, c := range chains {
			mustBeUnavailable(t, r.Check(t.Context(), c), "500")
		}
		p.wantAsked(http.MethodPost, outbound.FetchFailures)
		if stats := r.Stats(); stats.OpenCircuits != 1 {
			t.Errorf("counted %+v", stats)
		}
		for range 10 {
			time.Sleep(outbound.FetchPause)
			for _, c := range chains {
				mustBeUnavailable(t, r.Check(t.Context(), c), "500")
			}
		}
		p.wantAsked(http.MethodPost, outbound.FetchFailures+10)

		// And when it is well again, all of them have an answer within a second.
		p.behind(nil)
		time.Sleep(outbound.FetchPause)
		for _, c := range chains {
			mustPass(t, r.Check(t.Context(), c))
		}
		if stats := r.Stats(); stats.OpenCircuits != 0 {
			t.Errorf("counted %+v", stats)
		}
	})
}

// Many authorities have their responder and their lists on one host.
func TestDeadResponderDoesNotRestTheListOfItsHost(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *pki) {
		p.without(http.MethodPost)
		r := p.inMemory(Require)
		for range outbound.FetchFailures {
			withoutList := p.seal(func(c *x509.Certificate) { c.CRLDistributionPoints = nil })
			mustBeUnavailable(t, r.Check(t.Context(), p.chainOf(withoutList)), "500")
		}
		if stats := r.Stats(); stats.OpenCircuits != 1 {
			t.Errorf("counted %+v", stats)
		}
		mustPass(t, r.Check(t.Context(), p.chain()))
	})
}

func TestRecoveryIsQuickWhereverTheFailureIsRemembered(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *pki) {
		p.behind(func(http.Handler) http.Handler { return http.NotFoundHandler() })
		r := p.inMemory(Require)
		p.behind(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		})
		chains := make([]*trust.Chain, 10)
		for i := range chains {
			chains[i] = p.chain()
		}
		for i := range 50 { // at all kinds of moments
			mustBeUnavailable(t, r.Check(t.Context(), chains[i%len(chains)]), "503")
			time.Sleep(77 * time.Millisecond)
		}
		p.behind(nil)
		time.Sleep(time.Second)
		for _, chain := range chains {
			mustPass(t, r.Check(t.Context(), chain))
		}
	})
}

func TestDeadResponderDoesNotMatterWhileTheAnswerLives(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r, chain := p.inMemory(Require), p.chain()
		mustPass(t, r.Check(t.Context(), chain))
		p.without(http.MethodPost)
		for range 59 {
			time.Sleep(time.Minute)
			mustPass(t, r.Check(t.Context(), chain))
		}
		if p.log.count("WARN the revocation status of a certificate cannot be found out") != 1 {
			t.Errorf("the log says %q", p.log.messages)
		}
		p.behind(nil)
		time.Sleep(30 * time.Second)
		mustPass(t, r.Check(t.Context(), chain))
		synctest.Wait()
		if p.log.count("INFO the revocation status of a certificate is found out again") != 1 {
			t.Errorf("the log says %q", p.log.messages)
		}
		time.Sleep(answerLife - time.Minute)
		mustPass(t, r.Check(t.Context(), chain))
	})
}

// An answer that is no good is not asked for by every request.
func TestUnusableAnswerIsRemembered(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.Status = ocsp.Unknown }})
		r, chain := p.inMemory(Prefer), p.chain()
		for range 100 {
			mustPass(t, r.Check(t.Context(), chain))
		}
		p.wantAsked(http.MethodPost, 1)
		time.Sleep(failureMemory)
		mustPass(t, r.Check(t.Context(), chain))
		p.wantAsked(http.MethodPost, 2)
		p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise)
		p.service.Tamper(testca.Tampering{})
		time.Sleep(failureMemory)
		mustBeRevoked(t, r.Check(t.Context(), chain), "says OCSP")
		if p.log.count("WARN a chain is let through") != 1 || r.Stats().SoftFailed != 101 {
			t.Errorf("counted %+v, and the log says %q", r.Stats(), p.log.messages)
		}
	})
}

func TestEachSpellWithoutAnAnswerIsLogged(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r, chain := p.inMemory(Prefer), p.chain()
		for spell := range 3 {
			p.without(http.MethodPost)
			for range 5 {
				mustPass(t, r.Check(t.Context(), chain))
				time.Sleep(time.Minute)
			}
			if n := p.log.count("WARN a chain is let through"); n != spell+1 {
				t.Errorf("%d warnings after %d spells", n, spell+1)
			}
			p.behind(nil)
			mustPass(t, r.Check(t.Context(), chain))
			time.Sleep(answerLife)
		}
	})
}

// hang answers when the caller has given up.
func hang(http.Handler) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

func TestSlowResponder(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.behind(hang)
		r, chain := p.inMemory(Require), p.chain()
		begin := time.Now()
		mustBeUnavailable(t, r.Check(t.Context(), chain), "context deadline exceeded")
		if took := time.Since(begin); took != ocspTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

// What is known already needs no waiting for the rest.
func TestRevokedIssuerNeedsNoAnswerAboutTheLeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPKI(t, "http://status.test", withoutLists)
		r := p.inMemory(Require)
		p.service.Revoke(p.issuer(), ocsp.CACompromise)
		mustBeRevoked(t, r.Check(t.Context(), p.chain()), "x5c[1]")
		p.behind(hang)
		begin := time.Now()
		mustBeRevoked(t, r.Check(t.Context(), p.chain()), "x5c[1]")
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %s", took)
		}
	})
}

func TestFailureIsForgottenWithTheOneItComesFrom(t *testing.T) {
	now := time.Now()
	for _, inner := range []time.Duration{-time.Second, 10 * time.Millisecond, time.Hour} {
		cause := fmt.Errorf("CRL: %w", &outbound.UnreachableError{Cause: &outbound.OpenError{Until: now.Add(inner)}})
		want := now.Add(min(inner, failureMemory))
		if got := newFailure(cause, now).until; !got.Equal(want) {
			t.Errorf("remembered for %s, want %s", got.Sub(now), want.Sub(now))
		}
	}
}

func TestNobodyWaitsForASlowListForever(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *pki) {
		p.behind(func(service http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					hang(nil).ServeHTTP(w, r)
					return
				}
				select {
				case <-time.After(listTimeout - time.Second):
					service.ServeHTTP(w, r)
				case <-r.Context().Done():
				}
			})
		})
		r, chain := p.inMemory(Require), p.chain()
		begin := time.Now()
		mustBeUnavailable(t, r.Check(t.Context(), chain), errWaitTimeout.Error())
		if took := time.Since(begin); took != maxWait {
			t.Errorf("it took %s", took)
		}
		time.Sleep(listTimeout) // the list goes on to be fetched
		begin = time.Now()
		mustPass(t, r.Check(t.Context(), chain))
		if took := time.Since(begin); took != headStart {
			t.Errorf("it took %s although the list is there", took)
		}
		if n := r.Stats().Lists; n != 1 {
			t.Errorf("%d lists", n)
		}
	})
}

// A certificate that goes on being asked about is not the reason why another
// connection is kept waiting: each question is asked on its own.
func TestFailuresOfOneCertificateDoNotTouchAnother(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		r, bad, good := p.inMemory(Require), p.chain(), p.chain()
		p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) {
			if a.SerialNumber.Cmp(bad.Leaf().SerialNumber) == 0 {
				a.Status = ocsp.Unknown
			}
		}})
		for range 10 {
			mustBeUnavailable(t, r.Check(t.Context(), bad), "does not know")
			time.Sleep(failureMemory)
		}
		mustPass(t, r.Check(t.Context(), good))
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPKI(t, "http://status.test", nil)
		p.behind(hang)
		r, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		r.fetcher.Client.Transport = p
		chain := p.chain()
		waiting := make(chan error, 1)
		go func() { waiting <- r.Check(t.Context(), chain) }()
		synctest.Wait()
		begin := time.Now()
		r.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %s", took)
		}
		mustBeUnavailable(t, <-waiting, "closed")
		// The bubble ends here, and would not with a goroutine left in it.
	})
}

func TestLargeList(t *testing.T) {
	p := newPKI(t, "http://status.test", withoutOCSP).pinned()
	r, chain, revoked := p.inMemory(Require), p.chain(), p.chain()
	p.service.Revoke(revoked.Leaf(), ocsp.Unspecified)
	p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, manyEntries(50_000)...)
	}})
	mustPass(t, r.Check(t.Context(), chain))
	mustBeRevoked(t, r.Check(t.Context(), revoked), "says CRL")
	r.lists.CleanUp() // sizes are brought up to date in the background
	if stats := r.Stats(); stats.ListBytes < 50_001*30 || stats.ListBytes > 50_001*50 {
		t.Errorf("counts as %d bytes in memory", stats.ListBytes)
	}
}

// A clock that is set back while one certificate of a chain is waited for may let the answer about another end, which
// is renewed in the background. That is no answer, and no reason to crash.
func TestAnswerThatEndsDuringTheCheck(t *testing.T) {
	var e certificateEntry
	now := time.Now()
	e.current.Store(&cached[certStatus]{until: now.Add(-time.Minute)})
	if _, err := e.wait(t.Context(), pendingStatus{}, now); !errors.Is(err, errEnded) {
		t.Errorf("%v, want %v", err, errEnded)
	}
}
