package sandbox

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
)

// Bounds of the control API, in bytes.
const (
	maxControlRequest = 4 << 10
	maxState          = 1 << 20
)

// A State is what there is in a running sandbox and how its switches stand.
type State struct {
	Framework Framework `json:"framework"`
	Provider  Address   `json:"provider"`
	Registry  Address   `json:"registry"`
	Control   string    `json:"control"` // URL
	Switches  []Switch  `json:"switches"`
	Asked     Counters  `json:"asked"`
}

// Counters are how often the servers were asked since they started, whatever they answered.
type Counters struct {
	Tokens       uint64 `json:"tokens"`  // of the registry
	Parties      uint64 `json:"parties"` // one or a search
	TrustedLists uint64 `json:"trusted_lists"`
	Capabilities uint64 `json:"capabilities"`
	OCSP         uint64 `json:"ocsp"`
	CRL          uint64 `json:"crl"`
}

// An Address is a party that serves.
type Address struct {
	ID  ishare.PartyID `json:"id"`
	URL string         `json:"url"`
}

// A switchRequest is what PUT /switches/{name} takes.
type switchRequest struct {
	Value string `json:"value"`
}

// controlHandler is the API by which a running sandbox is watched and changed:
//
//	GET  /state             how everything stands
//	PUT  /switches/{name}   {"value": "…"} turns one switch
//	POST /reset             {} puts every switch back
//
// Each answers with the state, or with an error. Everything else is the console's, if there is one.
//
// Whoever can connect may use it, so it listens on loopback only. A page of another site in a browser on this machine
// can connect as well: it must neither change anything, which is why requests from other origins and bodies that a form
// can send are refused, nor read anything through a host name that it made resolve to this address (DNS rebinding),
// which is why requests for any other host are refused.
func (s *Sandbox) controlHandler(address net.Addr) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { s.respondState(w) })
	mux.HandleFunc("PUT /switches/{name}", s.setSwitch)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		s.respondState(w)
	})
	handler := jsonOnly(mux)
	if s.Console != nil {
		root := http.NewServeMux()
		for _, path := range []string{"/state", "/switches/", "/reset"} {
			root.Handle(path, handler)
		}
		root.Handle("/", s.Console)
		handler = root
	}
	return ownHost(address, http.NewCrossOriginProtection().Handler(handler))
}

func (s *Sandbox) respondState(w http.ResponseWriter) {
	body, err := json.Marshal(s.State())
	if err != nil {
		respondError(w, http.StatusInternalServerError, err.Error())
		return
	}
	respond.Encoded(w, http.StatusOK, body)
}

func (s *Sandbox) setSwitch(w http.ResponseWriter, r *http.Request) {
	var request switchRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlRequest))
	if err == nil {
		err = json.Unmarshal(body, &request, json.RejectUnknownMembers(true))
	}
	if err != nil {
		respondError(w, http.StatusBadRequest, `want {"value": "…"}`)
		return
	}
	switch err := s.Set(r.PathValue("name"), request.Value); {
	case errors.Is(err, ErrNoSwitch):
		respondError(w, http.StatusNotFound, err.Error())
	case err != nil:
		respondError(w, http.StatusBadRequest, err.Error())
	default:
		s.respondState(w)
	}
}

// ownHost refuses requests whose Host is not the address that is listened on, by number or as localhost.
func ownHost(address net.Addr, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(address.String())
	local := net.JoinHostPort("localhost", port)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != address.String() && r.Host != local {
			respondError(w, http.StatusMisdirectedRequest, "this is "+address.String()+" and answers for nobody else")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// jsonOnly refuses changes in any other form: before a browser sends JSON for a page of
// another origin it sends a preflight request, which is refused here.
func jsonOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if r.Method != http.MethodGet && (err != nil || mediaType != "application/json") {
			respondError(w, http.StatusUnsupportedMediaType, "want a body of the type application/json")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// respondError answers with an error in the form that tokens are refused in.
func respondError(w http.ResponseWriter, status int, why string) {
	respond.Error(w, status, http.StatusText(status), why)
}
