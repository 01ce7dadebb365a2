package guard_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
)

// BenchmarkGuards compares, in one run, each way to check a token with what it cannot do without:
//
//	check/aes-gcm   checking a token in process, with AES-256-GCM opening as many bytes and
//	                nothing else
//	auth/fields     a request to forward-auth, with the same request to a handler that does
//	                nothing but write the same header fields, each over a socket that is kept open
//	check/empty     checking a token in process, with a request to an empty handler: the part
//	                that the middleware adds to the least request that there is
//
// The times themselves are in nanoseconds.
func BenchmarkGuards(b *testing.B) {
	h := guardtest.NewIssuer(b)
	token := h.Token(b, "iSHARE")
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h})
	guardtest.NoError(b, err)
	empty := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	fields := answerTo(b, auth, token)
	works := map[string]func(){
		"aes-gcm-ns": opener(b, token),
		"check-ns": func() {
			if _, err := h.Check(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		},
		"empty-ns":  asker(b, empty, token),
		"fields-ns": asker(b, fields, token),
		"auth-ns":   asker(b, auth, token),
	}
	for b.Loop() {
		works["auth-ns"]()
	}
	b.ReportMetric(0, "ns/op") // auth-ns says it better
	median := medians(works)
	for name, time := range median {
		b.ReportMetric(time, name)
	}
	b.ReportMetric(median["check-ns"]/median["aes-gcm-ns"], "check/aes-gcm")
	b.ReportMetric(median["auth-ns"]/median["fields-ns"], "auth/fields")
	b.ReportMetric(median["check-ns"]/median["empty-ns"], "check/empty")
}

// medians measures in short bursts by turns, of which the median counts, so that other work on
// the machine moves the ratios little.
func medians(works map[string]func()) map[string]float64 {
	const rounds, size = 201, 20
	bursts := map[string][]time.Duration{}
	for range rounds {
		for name, work := range works {
			start := time.Now()
			for range size {
				work()
			}
			bursts[name] = append(bursts[name], time.Since(start))
		}
	}
	median := map[string]float64{}
	for name, times := range bursts {
		slices.Sort(times)
		median[name] = float64(times[rounds/2]) / size
	}
	return median
}

// opener makes a function that opens as many bytes as the token has ciphertext, in its cipher.
func opener(b *testing.B, token string) func() {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	guardtest.NoError(b, err)
	gcm, err := cipher.NewGCM(block)
	guardtest.NoError(b, err)
	plaintext := make([]byte, base64.RawURLEncoding.DecodedLen(len(strings.Split(token, ".")[3])))
	nonce := make([]byte, gcm.NonceSize())
	sealed := gcm.Seal(nil, nonce, plaintext, nil)
	return func() {
		if _, err := gcm.Open(plaintext[:0], nonce, sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// answerTo makes a handler that writes the header fields with which another answers, and does nothing else.
func answerTo(b *testing.B, handler http.Handler, token string) http.Handler {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, "/auth", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	if answer.Code != http.StatusOK || len(answer.Header()) < 4 {
		b.Fatal(answer.Code, answer.Header())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, values := range answer.Header() {
			h.Set(name, values[0])
		}
	})
}

// asker makes a function that asks a handler over a socket, with a client that costs next to nothing.
func asker(b *testing.B, handler http.Handler, token string) func() {
	b.Helper()
	server := httptest.NewServer(handler)
	b.Cleanup(server.Close)
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", server.Listener.Addr().String())
	guardtest.NoError(b, err)
	b.Cleanup(func() { conn.Close() })
	request := []byte("GET /auth HTTP/1.1\r\nHost: server.example\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	answer := make([]byte, 4096)
	return func() {
		_, err := conn.Write(request)
		guardtest.NoError(b, err)
		n, err := conn.Read(answer)
		guardtest.NoError(b, err)
		if text := string(answer[:n]); !strings.HasPrefix(text, "HTTP/1.1 200 ") || !strings.HasSuffix(text, "\r\n\r\n") {
			b.Fatal(text)
		}
	}
}

// BenchmarkRequire is what the middleware adds to a handler, without a network.
func BenchmarkRequire(b *testing.B) {
	h := guardtest.NewIssuer(b)
	handler := guard.Require(h, "iSHARE")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+h.Token(b, "iSHARE"))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
