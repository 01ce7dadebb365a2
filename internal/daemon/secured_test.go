package daemon_test

import (
	"io"
	"log/slog"
	"net/http"

	"github.com/waybill-token/waybill/guard"
)

var discard = slog.New(slog.DiscardHandler)

// secured are handlers behind a token.
var secured = map[string]http.Handler{
	"GET /who": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, ok := guard.Caller(r.Context()); ok {
			_, _ = io.WriteString(w, string(claims.Party))
		}
	}),
	"GET /panic": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a secret of the program") }),
}
