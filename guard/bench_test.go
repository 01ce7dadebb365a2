package guard_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/waybill-token/waybill/guard"
)

// BenchmarkGuards compares, in one run, what a check costs with what the least request costs
// that a server can answer: one to an empty handler, over a socket that is kept open.
//
//	check-ns        checking a token in process
//	empty-ns        a request to an empty handler
//	auth-ns         the same request to forward-auth
//	check/empty     the first of them by the second: the part that the middleware adds
//	auth/empty      the third by the second
func BenchmarkGuards(b *testing.B) {
	h := newHouse(b)
	token := h.token(b, "iSHARE")
	auth, err := guard.NewForwardAuth(guard.ForwardAuthConfig{Checker: h, Log: quiet})
	check(b, err)
	empty := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	checking := func() {
		if _, err := h.Check(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
	asking, asEmpty := asker(b, auth, token), asker(b, empty, token)
	for b.Loop() {
		asking()
	}
	// Short bursts by turns, of which the median counts, so that other work on the
	// machine moves the ratios little.
	const rounds, size = 301, 10
	times := [3][]time.Duration{}
	for range rounds {
		for i, work := range []func(){checking, asking, asEmpty} {
			start := time.Now()
			for range size {
				work()
			}
			times[i] = append(times[i], time.Since(start)/size)
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	inProcess, forwardAuth, least := float64(times[0][rounds/2]), float64(times[1][rounds/2]), float64(times[2][rounds/2])
	b.ReportMetric(inProcess, "check-ns")
	b.ReportMetric(least, "empty-ns")
	b.ReportMetric(forwardAuth, "auth-ns")
	b.ReportMetric(inProcess/least, "check/empty")
	b.ReportMetric(forwardAuth/least, "auth/empty")
}

// asker makes a function that asks a handler over a socket.
func asker(b *testing.B, handler http.Handler, token string) func() {
	b.Helper()
	server := httptest.NewServer(handler)
	b.Cleanup(server.Close)
	client := server.Client()
	return func() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/auth", nil)
		check(b, err)
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(r)
		check(b, err)
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			b.Fatal(answer.Status)
		}
	}
}

// BenchmarkRequire is what the middleware adds to a handler, without a network.
func BenchmarkRequire(b *testing.B) {
	h := newHouse(b)
	handler := guard.Require(h, "iSHARE")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+h.token(b, "iSHARE"))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
