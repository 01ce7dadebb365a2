package guard_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
)

// A transport is how requests come: a server's configuration, and whether it speaks HTTP/2.
type transport struct {
	name  string
	tls   *tls.Config // nil: plain HTTP
	http2 bool
}

// Who calls is told by the token, over every protocol. A certificate that the client shows in TLS
// neither stands in for a token nor hinders one.
func TestEveryTransport(t *testing.T) {
	t.Parallel()
	h := guardtest.NewIssuer(t)
	token := h.Token(t, "iSHARE")
	for _, transport := range []transport{
		{"HTTP/1.1", nil, false},
		{"HTTP/1.1 over TLS", &tls.Config{MinVersion: tls.VersionTLS12}, false},
		{"HTTP/1.1 over mutual TLS", &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}, false},
		{"HTTP/2", &tls.Config{MinVersion: tls.VersionTLS12}, true},
		{"HTTP/2 over mutual TLS", &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}, true},
	} {
		for _, way := range guardtest.Ways() {
			t.Run(transport.name+"/"+way.Name, func(t *testing.T) {
				t.Parallel()
				server := transport.start(t, way.Guard(t, h, nil, "iSHARE"))
				if status, _ := fetch(t, server, ""); status != http.StatusUnauthorized {
					t.Errorf("without a token: status %d", status)
				}
				if status, body := fetch(t, server, token); status != http.StatusOK || !strings.Contains(body, string(guardtest.Consumer)) {
					t.Errorf("with one: status %d, %q", status, body)
				}
			})
		}
	}
}

func (c transport) start(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if shown := r.TLS != nil && len(r.TLS.PeerCertificates) > 0; (r.ProtoMajor == 2) != c.http2 || shown != (c.tls != nil && c.tls.ClientAuth != tls.NoClientCert) {
			t.Errorf("%s with TLS %+v", r.Proto, r.TLS)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	if c.tls == nil {
		server.Start()
		return server
	}
	server.TLS, server.EnableHTTP2 = c.tls.Clone(), c.http2
	server.StartTLS()
	own, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatalf("%T", server.Client().Transport)
	}
	own.TLSClientConfig.Certificates = server.TLS.Certificates // as good as any other
	return server
}

// fetch gets the orders.
func fetch(t *testing.T, server *httptest.Server, token string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/orders", nil)
	guardtest.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := server.Client().Do(r)
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	guardtest.NoError(t, err)
	return answer.StatusCode, string(b)
}
