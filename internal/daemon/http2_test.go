package daemon

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// Who takes requests back faster than anybody looks at answers loses the connection; who does it now and then, for as
// long as the connection lasts, keeps what else is under way on it.
func TestResetsOfAConnection(t *testing.T) {
	const answered, reset = true, false
	for name, test := range map[string]struct {
		requests []bool // again and again
		pause    time.Duration
		closed   bool
	}{
		"rapid reset":                    {[]bool{reset}, 0, true},
		"resets for hours":               {[]bool{reset}, 100 * time.Millisecond, false},
		"resets for hours, of which few": {[]bool{reset, answered}, 0, false},
		"one answer for many":            {[]bool{reset, reset, reset, answered}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &http.Server{
					Handler:     http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
					ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return ctx },
				}
				setProtocols(server, true)
				ours, theirs := net.Pipe()
				defer theirs.Close()
				defer ours.Close()
				within := server.ConnContext(t.Context(), ours)
				for i := range 1000 {
					ctx, takeBack := context.WithCancel(within)
					if test.requests[i%len(test.requests)] == reset {
						takeBack()
					}
					r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
					r.ProtoMajor = 2
					server.Handler.ServeHTTP(httptest.NewRecorder(), r)
					takeBack()
					time.Sleep(test.pause)
				}
				_ = ours.SetWriteDeadline(time.Now().Add(-time.Second))
				_, err := ours.Write([]byte("x"))
				if closed := err == io.ErrClosedPipe; closed != test.closed { //nolint:errorlint // as [net.Pipe] gives it
					t.Errorf("the connection is closed: %t, %v", closed, err)
				}
			})
		})
	}
}
