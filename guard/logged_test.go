package guard_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/guard/tokenadmin"
)

// What goes wrong for every request that comes is told once while it lasts.
func TestWhatLastsIsSummedUp(t *testing.T) {
	h := newHouse(t)
	token := h.token(t, "iSHARE")
	introspect := func(handler http.Handler) {
		r := httptest.NewRequest(http.MethodPost, "/introspect", strings.NewReader("token=x"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	for name, test := range map[string]struct {
		message string
		make    func(*slog.Logger) (http.Handler, error)
		ask     func(http.Handler)
	}{
		"an upstream is down": {"an upstream is out of reach", func(log *slog.Logger) (http.Handler, error) {
			return proxy.New(proxy.Config{
				Checker: h, Log: log, Transport: &ports{},
				Routes: []proxy.Route{{Path: "/", Upstream: &url.URL{Scheme: "http", Host: "x"}}},
			})
		}, func(handler http.Handler) { get(handler, "/", token) }},
		"a proxy asks wrongly": {"forward-auth is asked wrongly", func(log *slog.Logger) (http.Handler, error) {
			return proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: log})
		}, func(handler http.Handler) { get(handler, "/auth?scop=orders", "") }},
		"tokens cannot be checked": {"a request about access tokens failed", func(log *slog.Logger) (http.Handler, error) {
			return tokenadmin.NewIntrospection(tokenadmin.Config{Checker: undecided{}, Log: log})
		}, introspect},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, told := newLog()
				handler, err := test.make(log)
				check(t, err)
				lines := func() int { return strings.Count(told.String(), test.message) }
				for range 100 {
					test.ask(handler)
				}
				if lines() != 1 {
					t.Errorf("%d lines while it lasts: %s", lines(), told)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if lines() != 2 || !strings.Contains(told.String(), `"more":99`) {
					t.Errorf("%d lines when it has ended: %s", lines(), told)
				}
				test.ask(handler)
				test.ask(handler)
				closer, ok := handler.(io.Closer)
				if !ok {
					t.Fatal("nothing writes what was counted at the end")
				}
				check(t, closer.Close())
				if lines() != 4 {
					t.Errorf("%d lines at the end: %s", lines(), told)
				}
			})
		})
	}
}

// ports fails as a dialer does, each time with another port of its own.
type ports struct{ last int }

func (p *ports) RoundTrip(*http.Request) (*http.Response, error) {
	p.last++
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p.last}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Source: at, Addr: at, Err: errors.Join(syscall.ECONNREFUSED, errors.New(strconv.Itoa(p.last)))}
}
