package daemon

import (
	_ "embed"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// openAPI describes what the public listener serves.
//
//go:embed openapi.json
var openAPI []byte

const (
	wellKnownPath = "/.well-known" // RFC 8615
	metadataPath  = wellKnownPath + "/oauth-authorization-server"
	keySetPath    = wellKnownPath + "/jwks.json"
	openAPIPath   = "/openapi.json"
)

// newPublic makes what the public listener serves. It listens on the address.
func (s *service) newPublic(address net.Addr, secured map[string]http.Handler) (http.Handler, error) {
	if err := s.newEndpoint(); err != nil {
		return nil, err
	}
	s.base = ownURL(s.config, address.String())
	services := offered(s.config, s.base, s.seal, s.checker, s.log)
	services.Parties = s.from.parties()
	var err error
	if s.offer, err = capabilities.New(services); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, path := range tokenPaths(s.config) {
		mux.Handle(path, s.needing(s.endpoint, publicOf))
		mux.HandleFunc(path+"/{$}", slashTooMany)
	}
	mux.Handle(capabilities.Path, s.needing(s.offer, publicOf))
	mux.HandleFunc("GET "+metadataPath, s.metadata)
	mux.HandleFunc("GET "+metadataPath+"/{issuer...}", s.metadataOfPath)
	mux.HandleFunc("GET "+keySetPath, func(w http.ResponseWriter, _ *http.Request) { respond.Encoded(w, http.StatusOK, s.keys.PublicJWKS()) })
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) { respond.Encoded(w, http.StatusOK, openAPI) })
	protect := guard.Require(s.checker, ishare.ScopeISHARE)
	for pattern, handler := range secured {
		mux.Handle(pattern, protect(handler))
	}
	if len(s.config.Routes) == 0 {
		return mux, nil
	}
	reverse := routed(s.config, s.checker, s.log)
	reverse.Own = mux
	s.proxy, err = proxy.New(reverse)
	return s.proxy, err
}

func publicOf(s *service) http.Handler { return s.public }

// metadata is the authorization server metadata of RFC 8414 section 2.
type metadata struct {
	Issuer         string           `json:"issuer"`
	TokenEndpoint  string           `json:"token_endpoint"`
	JWKSURI        string           `json:"jwks_uri"`
	Scopes         []string         `json:"scopes_supported"`
	ResponseTypes  []string         `json:"response_types_supported"`
	GrantTypes     []string         `json:"grant_types_supported"`
	AuthMethods    []string         `json:"token_endpoint_auth_methods_supported"`
	AuthAlgorithms []jws.Algorithm  `json:"token_endpoint_auth_signing_alg_values_supported"`
	Party          ishare.PartyID   `json:"ishare_party_id"` // the audience of assertions
	AlsoKnownAs    []ishare.PartyID `json:"ishare_also_known_as,omitempty"`
}

// metadataOfPath answers where RFC 8414 section 3.1 puts the metadata of an issuer with a path.
func (s *service) metadataOfPath(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != metadataPath+s.base.Path {
		http.NotFound(w, r)
		return
	}
	s.metadata(w, r)
}

// metadata answers also at the plain place, whatever the issuer's path: a proxy may cut it off. As in
// what we sign, the Host header of a request decides nothing.
func (s *service) metadata(w http.ResponseWriter, _ *http.Request) {
	base := s.base.String()
	respond.JSON(w, http.StatusOK, metadata{
		Issuer:         base,
		TokenEndpoint:  base + tokenendpoint.Path,
		JWKSURI:        base + keySetPath,
		Scopes:         s.scopes(),
		ResponseTypes:  []string{}, // there is no authorization endpoint
		GrantTypes:     []string{"client_credentials"},
		AuthMethods:    []string{"private_key_jwt"},
		AuthAlgorithms: []jws.Algorithm{jws.RS256, jws.RS384, jws.RS512},
		Party:          s.config.Party.ID,
		AlsoKnownAs:    s.config.Party.AlsoKnownAs,
	})
}

// slashTooMany tells who is close to the token endpoint.
func slashTooMany(w http.ResponseWriter, r *http.Request) {
	respond.Error(w, http.StatusNotFound, rule.CodeInvalidRequest, "the token endpoint is "+strings.TrimSuffix(r.URL.Path, "/")+", without a slash at its end")
}

// uncached makes the ban on caching explicit in every answer, as iSHARE asks. A
// handler may say otherwise.
func uncached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond.ForbidCaching(w.Header())
		next.ServeHTTP(w, r)
	})
}

// unambiguous ends the connection behind a request in chunks. There may have been a Content-Length besides, which net/http
// forgets, and by which somebody before us may have seen the request end elsewhere; RFC 9112 section 6.1 has the
// connection closed then, so that nothing behind it is taken for a request.
func unambiguous(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// survive turns a panic into the answer to every error of our own, which shows
// nothing but where to look in the log, and keeps serving. The log gets each with its stack until there are many.
func survive(log *slog.Logger, sums *logsum.Log, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer catch(w, r, log, sums)
		next.ServeHTTP(w, r)
	})
}

// maxPanic bounds by how much of their values panics are told apart.
const maxPanic = 160

// catch must be deferred.
func catch(w http.ResponseWriter, r *http.Request, log *slog.Logger, sums *logsum.Log) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint,err113 // the documented sentinel, compared as net/http does
		panic(v)
	}
	text := fmt.Sprint(v)
	correlation, full := sums.Failure(slog.LevelError, "panic", []slog.Attr{slog.String("value", text[:min(len(text), maxPanic)])})
	if full {
		log.ErrorContext(r.Context(), "panic", slog.String("correlation", correlation),
			slog.Any("value", v), slog.String("stack", string(debug.Stack())))
	}
	writeFault(w, correlation)
}

func writeFault(w http.ResponseWriter, correlation string) {
	internal := rule.Internal.Because("%s; correlation id %s", rule.Internal.Sentence, correlation)
	respond.Error(w, internal.Rule.Status, internal.Rule.Code, internal.Description())
}
