package isharetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"time"
)

// A Fault is a way in which a [Registry] or [StatusServices] fail, or answer with what a client must not accept.
type Fault string

// Faults of every server.
const (
	NoFault        Fault = "normal"
	FaultSlow      Fault = "slow"      // answers after [Slowness]
	FaultHanging   Fault = "hanging"   // never answers, and holds the connection for as long as the caller does
	FaultError     Fault = "error"     // answers with status 500
	FaultOff       Fault = "off"       // breaks the connection off without an answer
	FaultMalformed Fault = "malformed" // answers with what cannot be parsed
)

// Faults of a [Registry] in what it signs.
const (
	FaultWrongSignature Fault = "wrong-signature"  // the signature does not hold
	FaultWrongSigner    Fault = "wrong-signer"     // another participant signs, with its own seal
	FaultWrongIssuer    Fault = "wrong-issuer"     // iss and sub are a party that does not exist
	FaultWrongAudience  Fault = "wrong-audience"   // aud is a party that does not exist
	FaultExpired        Fault = "expired"          // every answer is an hour old
	FaultOldTrustedList Fault = "old-trusted-list" // the trusted list is an hour old, and nothing else
	FaultOtherParty     Fault = "other-party"      // records are about another party than the one asked for
)

// StatusFaults are the faults of [StatusServices].
func StatusFaults() []Fault {
	return []Fault{NoFault, FaultSlow, FaultError, FaultOff, FaultMalformed, FaultHanging}
}

// RegistryFaults are the faults of a [Registry].
func RegistryFaults() []Fault {
	return append(StatusFaults(), FaultWrongSignature, FaultWrongSigner, FaultWrongIssuer, FaultWrongAudience,
		FaultExpired, FaultOldTrustedList, FaultOtherParty)
}

// Slowness is how long a server with [FaultSlow] takes: longer than the clients of a registry or of a status
// service wait.
const Slowness = 20 * time.Second

// A faultSwitch holds the fault of a server. It is safe for concurrent use.
type faultSwitch struct{ fault atomic.Value }

// get returns an empty fault, which is none either, as long as none has been set.
func (s *faultSwitch) get() Fault {
	fault, _ := s.fault.Load().(Fault)
	return fault
}

// set panics at a fault that the server cannot have: a test that goes on would prove nothing.
func (s *faultSwitch) set(fault Fault, possible []Fault) {
	if !slices.Contains(possible, fault) {
		panic(fmt.Sprintf("isharetest: the server has no fault %q, but %q", fault, possible))
	}
	s.fault.Store(fault)
}

// wrap counts requests, and applies the fault before it calls the next handler.
func (s *faultSwitch) wrap(count *atomic.Uint64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		switch s.get() { //nolint:exhaustive // the next handler has the others
		case FaultSlow:
			timer := time.NewTimer(Slowness)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		case FaultHanging:
			_, _ = io.Copy(io.Discard, r.Body) // a caller who goes is noticed only when the body has been read
			<-r.Context().Done()
			return
		case FaultError:
			http.Error(w, "told to fail", http.StatusInternalServerError)
			return
		case FaultOff:
			panic(http.ErrAbortHandler) // the way to break a connection off
		}
		next.ServeHTTP(w, r)
	})
}

// listen takes a free port of this machine. The server answers from start to stop; stop also ends the answers that a
// fault holds back.
func listen(handler http.Handler) (url string, start, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(handler)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	return "http://" + server.Listener.Addr().String(), server.Start, func() {
		cancel()
		server.Close()
	}
}
