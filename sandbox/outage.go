package sandbox

import (
	"io"
	"net/http"
	"time"
)

// What every server of the data space can be told to do.
const (
	normal = "normal" // answer
	slow   = "slow"   // answer when nobody waits any more
	broken = "error"  // answer with status 500
	off    = "off"    // break off without an answer
)

// malformed is an answer that is none, by status services. What it is of the registry, [mischiefs] say.
const malformed = "malformed"

// slowness is longer than any client of a registry or a status service waits.
const slowness = 20 * time.Second

// outages are the choices of a server that can do no more than fail.
func outages() []string { return []string{normal, slow, broken, off} }

// statusOutages are the choices of a status service.
func statusOutages() []string { return append(outages(), malformed) }

// malforming is [failing] for a status service.
func malforming(d *dial, next http.Handler) http.Handler {
	return failing(d, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.get() == malformed {
			_, _ = io.WriteString(w, "told to answer with what is none") // the caller may be gone
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// failing lets requests through as the dial says. Other positions than those of
// [outages] are the next handler's affair.
func failing(d *dial, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch d.get() {
		case slow:
			if !linger(r) {
				return
			}
		case broken:
			http.Error(w, "told to fail", http.StatusInternalServerError)
			return
		case off:
			panic(http.ErrAbortHandler) // the way to break a connection off
		}
		next.ServeHTTP(w, r)
	})
}

// linger keeps a request waiting, and reports false when nobody is left to answer.
func linger(r *http.Request) bool {
	timer := time.NewTimer(slowness)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
