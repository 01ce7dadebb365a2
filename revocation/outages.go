package revocation

import (
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/trust"
)

const (
	maxOutages    = 1024             // causes that are remembered; with more, one may be told again
	outagePause   = time.Minute      // before a cause is told again that comes and goes
	outageSilence = 10 * time.Minute // after which a cause that nobody met is over
)

// outages are the causes of missing answers that the log was told of, so that one that
// concerns ten thousand certificates is one line, until it has ended. The zero outages is ready to use.
type outages struct {
	mu    sync.Mutex
	known map[string]outageState
}

type outageState struct {
	told, met time.Time // the last times
	over      bool
}

// begin reports whether the log is to be told of the cause.
func (o *outages) begin(cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	state, known := o.known[cause]
	silent := now.Sub(state.met) > outageSilence
	state.met = now
	if known && !silent && (!state.over || now.Sub(state.told) < outagePause) {
		o.known[cause] = state
		return false
	}
	if o.known == nil || !known && len(o.known) >= maxOutages {
		o.known = map[string]outageState{}
	}
	o.known[cause] = outageState{told: now, met: now}
	return true
}

// end reports whether the log was told of the cause and not yet that it is over.
func (o *outages) end(cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	state, known := o.known[cause]
	if !known || state.over {
		return false
	}
	state.over = true
	o.known[cause] = state
	return true
}

// causeOf names what keeps the status of an issuer's certificates from being found out. Which
// way an address is out of reach does not matter, nor what it says of one port or another.
func causeOf(err error, issuer *x509.Certificate) string {
	fingerprint := trust.FingerprintOf(issuer)
	var cause strings.Builder
	cause.Write(fingerprint[:])
	addSources(&cause, err)
	if cause.Len() == len(fingerprint) {
		cause.WriteString(err.Error())
	}
	return cause.String()
}

func addSources(cause *strings.Builder, err error) {
	if source, ok := err.(*sourceError); ok { //nolint:errorlint // the tree is walked here
		cause.WriteString("\x00" + source.source + " " + outbound.Endpoint(source.address) + " ")
		if !errors.As(err, new(*outbound.UnreachableError)) {
			cause.WriteString(source.cause.Error())
		}
		return
	}
	switch wrapper := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() error }:
		if inner := wrapper.Unwrap(); inner != nil {
			addSources(cause, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			addSources(cause, inner)
		}
	}
}
