package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
)

// What would break the upstream's request line, or make a tunnel, does not get there; and is
// the client's fault, about which nobody is told.
func TestRequestLine(t *testing.T) {
	for _, c := range []struct {
		method, query string
		status        int
	}{
		{"GET", "q=1&r=%20+#z", 200},
		{"GET", "\xff|\"é", 200},
		{"PROPFIND", "", 200},
		{"x!#$%&'*+-.^_`|~09", "", 200},
		{"GET", "q HTTP/1.0 x", 400},
		{"GET", " ", 400},
		{"GET", "q\r\nX-Ishare-Party-Id: evil", 400},
		{"GET", "q\tr", 400},
		{"GET", "q\x00", 400},
		{"GET", "q\x7f", 400},
		{"", "", 400},
		{"GET /admin HTTP/1.1", "", 400},
		{"G\xffT", "", 400},
		{"GÉT", "", 400},
		{"GET\r\n", "", 400},
		{"GET:", "", 400},
	} {
		h := guardtest.NewIssuer(t)
		log, told := guardtest.NewLog()
		asked := false
		reverse := newProxy(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }),
			proxy.Config{Checker: h, Log: log, Routes: []proxy.Route{routeTo(t, "/", "http://upstream")}})
		r := httptest.NewRequest(http.MethodGet, "/api/x", nil)
		r.Header.Set("Authorization", "Bearer "+h.Token(t, "iSHARE"))
		r.Method, r.URL.RawQuery = c.method, c.query
		w := httptest.NewRecorder()
		reverse.ServeHTTP(w, r)
		if w.Code != c.status || asked != (c.status == http.StatusOK) || (w.Header().Get("Allow") != "") != (c.status == http.StatusMethodNotAllowed) {
			t.Errorf("%q ?%q: %d %v, upstream asked: %v", c.method, c.query, w.Code, w.Header(), asked)
		}
		if text := told.String(); text != "" {
			t.Errorf("%q ?%q: log: %s", c.method, c.query, text)
		}
	}
}

// Over HTTP/2 a query may come with a blank in it.
func TestQueryOverHTTP2(t *testing.T) {
	s := newSocketFixture(t, true, nil)
	r := s.request(t, http.MethodGet, "/api/x", nil)
	r.URL.RawQuery = "q HTTP/1.0 junk"
	answer, err := s.proxy.Client().Do(r)
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	guardtest.NoError(t, err)
	if answer.ProtoMajor != 2 || answer.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "the query") {
		t.Errorf("%s %s %s", answer.Proto, answer.Status, body)
	}
}

// Over HTTP/1.1 a client may ask for a tunnel at a path.
func TestConnect(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	if status := s.raw(t, "CONNECT /public/x HTTP/1.1", "Host: x", s.bearer(t), "", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("status %d", status)
	}
}

// To judge a path costs more than to send it.
func TestLongPaths(t *testing.T) {
	h := guardtest.NewIssuer(t)
	reverse := newProxy(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), proxy.Config{Checker: h, Routes: []proxy.Route{routeTo(t, "/", "http://x")}})
	token := h.Token(t, "iSHARE")
	for text, want := range map[string]int{
		"/" + strings.Repeat("a", 8191):       http.StatusOK,
		"/" + strings.Repeat("a", 8192):       http.StatusRequestURITooLong,
		"/" + strings.Repeat("%61", 8192/3):   http.StatusOK,
		"/" + strings.Repeat("%61", 8192/3+1): http.StatusRequestURITooLong,
		"/" + strings.Repeat("%2F", 8192/3+1): http.StatusRequestURITooLong,
		"/a?" + strings.Repeat("a", 16<<10):   http.StatusOK,
	} {
		if got := guardtest.Get(reverse, text, token).Code; got != want {
			t.Errorf("%.10s... of %d bytes: %d", text, len(text), got)
		}
	}
}
