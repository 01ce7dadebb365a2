package tokenendpoint_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// batch is how many requests are measured at a time: what they need is made while
// the clock stands, because an assertion costs more to sign than to judge and
// lives for 30 seconds.
const batch = 200

// BenchmarkEndpoint compares a token request with a floor in the same run: net/http
// reading the same form, and one RSA-2048 verification. The ratio is of the two,
// over a socket each.
func BenchmarkEndpoint(b *testing.B) {
	e := newEndpoint(b)
	endpoint := httptest.NewServer(e)
	defer endpoint.Close()
	floor := httptest.NewServer(floorHandler(b, e.client.Key))
	defer floor.Close()

	var spent, least time.Duration
	requests := 0
	for b.Loop() {
		b.StopTimer()
		bodies := make([]string, batch)
		for i := range bodies {
			bodies[i] = e.form(e.client.Assertion(provider)).Encode()
		}
		e.log.Reset()
		b.StartTimer()
		least += send(b, floor.URL, bodies)
		spent += send(b, endpoint.URL+tokenendpoint.Path, bodies)
		requests += batch
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(requests), "µs/request")
	b.ReportMetric(float64(least.Microseconds())/float64(requests), "µs/floor")
	b.ReportMetric(float64(spent)/float64(least), "ratio")
}

// floorHandler does what cannot be left out.
func floorHandler(b *testing.B, key *rsa.PrivateKey) http.Handler {
	b.Helper()
	digest := sha256.Sum256([]byte("floor"))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	check(b, err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], signature) != nil {
			http.Error(w, "signature", http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(`{"access_token":"x","token_type":"Bearer","expires_in":3600}`))
	})
}

func send(b *testing.B, target string, bodies []string) time.Duration {
	b.Helper()
	start := time.Now()
	for _, body := range bodies {
		answer, err := http.Post(target, "application/x-www-form-urlencoded", strings.NewReader(body))
		check(b, err)
		var out bytes.Buffer
		_, err = out.ReadFrom(answer.Body)
		check(b, err)
		check(b, answer.Body.Close())
		if answer.StatusCode != http.StatusOK {
			b.Fatalf("%d %s", answer.StatusCode, out.String())
		}
	}
	return time.Since(start)
}

// BenchmarkScreened measures what it costs to refuse a request before its body, apart from net/http: it must be
// little beside judging one, as that is all that is left to a server that gets more than it can answer.
func BenchmarkScreened(b *testing.B) {
	busy := &rule.Outage{Rule: rule.UnavailableOverload, RetryAfter: time.Second, Cause: errors.New("busy")}
	handler, err := tokenendpoint.New(tokenendpoint.Config{
		Verifier: &told{}, Issuer: &told{}, Log: slog.New(slog.DiscardHandler), Screen: func(*http.Request) error { return busy },
	})
	check(b, err)
	r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
}
