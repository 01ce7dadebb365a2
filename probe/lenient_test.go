package probe_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

// A lenient server is a small token endpoint with a secured endpoint, written without any of our packages. Each thing
// that it minds is called by the case that catches its absence, and can be switched off: by the name of a case, or of a
// group of cases. It then goes on as a server would that never thought of it.
type lenient struct {
	*cast

	off string
	url string

	mu     sync.Mutex
	uses   map[string][]string // assertions by jti
	tokens map[string]bool
}

func newLenient(c *cast, off string) *lenient {
	return &lenient{cast: c, off: off, uses: map[string][]string{}, tokens: map[string]bool{}}
}

func startLenient(t *testing.T, c *cast, off string) *lenient {
	t.Helper()
	s := newLenient(c, off)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// minds says whether the server minds something.
func (s *lenient) minds(aspect string) bool {
	return aspect != s.off && !strings.HasPrefix(aspect, s.off+"/")
}

// A judgement is what the server has against a request: the first thing that it minds.
type judgement struct {
	*lenient

	against string
}

func (j *judgement) note(aspect string, wrong bool) {
	if wrong && j.against == "" && j.minds(aspect) {
		j.against = aspect
	}
}

// pedantic notes what is right, and which a server that is broken in this way refuses.
func (j *judgement) pedantic(aspect string, unusual bool) {
	if unusual && j.against == "" && !j.minds(aspect) {
		j.against = aspect
	}
}

func (s *lenient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case ishare.TokenPath:
		s.token(w, r)
	case "/secured":
		s.secured(w, r)
	case "/.well-known/oauth-authorization-server":
		s.metadata(w)
	case "/capabilities":
		s.capabilities(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *lenient) token(w http.ResponseWriter, r *http.Request) {
	j := &judgement{lenient: s}
	form, ok := j.form(r)
	if ok {
		j.assertion(form)
	}
	switch {
	case j.against == "":
		s.grant(w)
	case strings.HasPrefix(j.against, "request.method/"):
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		s.refuse(w, j.against)
	}
}

func (s *lenient) grant(w http.ResponseWriter) {
	payload := rand.Text()
	token := "eyJ0eXAiOiJhdCtqd3QifQ." + payload + "." + payload // which looks like a JWT
	s.mu.Lock()
	s.tokens[token] = true
	s.mu.Unlock()
	answer := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600}
	mediaType, status := "application/json", http.StatusOK
	switch s.off {
	case "answer/status":
		status = http.StatusCreated
	case "answer/media-type":
		mediaType = "text/plain"
	case "answer/token_type":
		answer["token_type"] = "JWT"
	case "answer/expires_in":
		answer["expires_in"] = "3600"
	case "answer/expires_in-3600":
		answer["expires_in"] = 60
	case "answer/no-refresh-token":
		answer["refresh_token"] = "x"
	}
	body := must(json.Marshal(answer))
	if s.off == "answer/JSON-object" {
		body = append(append([]byte("["), body...), ']')
	}
	w.Header().Set("Content-Type", mediaType)
	if s.minds("answer/no-store") {
		w.Header().Set("Cache-Control", "private, no-store")
	}
	if s.minds("answer/pragma") {
		w.Header().Set("Pragma", "no-cache")
	}
	w.WriteHeader(status)
	w.Write(body)
}

func (s *lenient) refuse(w http.ResponseWriter, why string) {
	code := "invalid_client"
	mediaType, status := "application/json", http.StatusBadRequest
	if s.off == "answer/error-code" {
		code = "bad_assertion"
	}
	answer := map[string]string{"error": code, "error_description": why}
	switch s.off {
	case "answer/error-status":
		status = http.StatusForbidden
	case "answer/error-challenge":
		status = http.StatusUnauthorized
	case "answer/error-media-type":
		mediaType = "text/plain"
	case "answer/error-says-why":
		delete(answer, "error_description")
	case "answer/error-no-token":
		answer["access_token"] = "oops"
	case "answer/error-no-trace":
		answer["trace"] = "at org.example.Token.issue(Token.java:17)"
	}
	w.Header().Set("Content-Type", mediaType)
	if s.minds("answer/error-no-store") {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	w.Write(must(json.Marshal(answer)))
}

// form reads the parameters, wherever they are.
func (j *judgement) form(r *http.Request) (form map[string]string, ok bool) {
	body := string(must(io.ReadAll(r.Body)))
	j.note("request.method/GET", r.Method == http.MethodGet)
	j.note("request.method/PUT", r.Method == http.MethodPut)
	if body == "" {
		j.note("request.missing-parameter/all-in-the-URL", r.Method == http.MethodPost && r.URL.RawQuery != "")
		body = r.URL.RawQuery
	}
	contentType := r.Header.Get("Content-Type")
	inJSON := strings.HasPrefix(body, "{")
	j.pedantic("right/media-type-with-charset", strings.Contains(contentType, "charset"))
	j.note("request.media-type/JSON", inJSON)
	j.note("request.media-type/JSON-by-name", !inJSON && contentType == "application/json")
	j.note("request.media-type/text", contentType == "text/plain")
	j.note("request.media-type/missing", contentType == "" && r.Method != http.MethodGet)
	j.note("request.size/a-megabyte", len(body) > 64<<10)
	j.note("request.client-authentication/basic", r.Header.Get("Authorization") != "")
	if inJSON {
		return form, json.Unmarshal([]byte(body), &form) == nil
	}
	return j.pairs(body), true
}

func (j *judgement) pairs(body string) map[string]string {
	form := map[string]string{}
	var names []string
	for pair := range strings.SplitSeq(body, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name)
		text, err := url.QueryUnescape(value)
		j.note("request.malformed/bad-escape", err != nil)
		j.note("request.malformed/not-UTF-8", !utf8.ValidString(text))
		if before, twice := form[name]; twice {
			switch {
			case name == "state":
				j.note("request.duplicate-parameter/unknown-parameter", true)
			case before != text:
				j.note("request.duplicate-parameter/another-"+name, true)
			default:
				j.note("request.duplicate-parameter/"+name, true)
			}
			continue
		}
		form[name] = text
		names = append(names, name)
	}
	j.pedantic("right/parameters-in-another-order", len(names) > 0 && names[0] == "client_assertion")
	j.pedantic("right/additional-parameters", form["probe"] != "")
	value, there := form["probe"]
	j.pedantic("right/empty-parameter", there && value == "")
	return form
}

func (j *judgement) parameters(form map[string]string) {
	for _, name := range []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"} {
		value, there := form[name]
		j.note("request.missing-parameter/"+name, !there)
		j.note("request.missing-parameter/"+name+"-empty", there && value == "")
	}
	if grant := form["grant_type"]; grant != "" && grant != "client_credentials" {
		j.note("request.grant-type/capitals", strings.EqualFold(grant, "client_credentials"))
		j.note("request.grant-type/authorization_code", !strings.EqualFold(grant, "client_credentials"))
	}
	if scope := form["scope"]; scope != "" && !slices.Contains(strings.Fields(scope), "iSHARE") {
		j.note("request.scope/lower-case", strings.EqualFold(scope, "iSHARE"))
		j.note("request.scope/comma", strings.Contains(scope, ","))
		j.note("request.scope/openid", scope == "openid")
	}
	if kind := form["client_assertion_type"]; kind != "" {
		j.note("request.assertion-type/short", kind == "jwt-bearer")
		j.note("request.assertion-type/SAML", strings.HasSuffix(kind, "saml2-bearer"))
	}
	j.note("request.client-id/no-identifier", form["client_id"] != "" && !strings.HasPrefix(form["client_id"], "did:"))
	j.note("request.client-authentication/secret", form["client_secret"] != "")
}

// An opened assertion is what could be made of one.
type opened struct {
	*judgement

	raw            string   // as it came, for replay
	parts          []string // as they are signed
	signature      []byte
	cut            bool // there was none
	header, claims map[string]any
	alg            string
	chain          []*x509.Certificate // nil: x5c is no ordinary one
	leaf           *x509.Certificate
	key            crypto.PublicKey
	clientID       string
}

func (j *judgement) assertion(form map[string]string) {
	j.parameters(form)
	if form["client_assertion"] == "" {
		return
	}
	o := &opened{judgement: j, raw: form["client_assertion"], clientID: form["client_id"]}
	o.leaf = j.consumer.Certificate()
	if !o.split() {
		j.note("jwt.compact", true)
		return
	}
	o.readHeader()
	o.readX5C()
	o.readPayload()
	o.checkWho()
	o.checkTimes()
	if o.chain != nil {
		o.checkChain()
	}
	o.checkParty()
	if o.against != "" {
		return
	}
	o.checkSignature()
	if o.against == "" || !o.minds("jti.replayed/not-burned") {
		o.checkReplay()
	}
}

func (o *opened) split() bool {
	compact := o.raw
	if strings.HasPrefix(compact, "{") {
		o.note("jwt.compact/JSON-serialisation", true)
		var flat map[string]string
		json.Unmarshal([]byte(compact), &flat)
		compact = flat["protected"] + "." + flat["payload"] + "." + flat["signature"]
	}
	o.note("jwt.compact/line-break-behind", strings.HasSuffix(compact, "\n"))
	o.note("jwt.compact/blank-before", strings.HasPrefix(compact, " "))
	parts := strings.Split(strings.TrimSpace(compact), ".")
	o.note("jwt.compact/no-signature", len(parts) == 2)
	o.note("jwt.compact/four-parts", len(parts) == 4)
	if o.cut = len(parts) == 2; o.cut {
		parts = append(parts, "")
	}
	if len(parts) < 3 {
		return false
	}
	signature := parts[2]
	standard := strings.ContainsAny(signature, "+/")
	o.note("jwt.compact/line-break-inside", strings.Contains(signature, "\n"))
	o.note("jwt.compact/standard-base64", standard)
	o.note("jwt.compact/padded-signature", !standard && strings.Contains(signature, "="))
	o.note("jwt.compact/padded-payload", strings.Contains(parts[1], "="))
	signature = strings.NewReplacer("\n", "", "+", "-", "/", "_", "=", "").Replace(signature)
	o.parts, o.signature = parts[:2], must(base64.RawURLEncoding.DecodeString(signature))
	return true
}

// object reads a part, of which an array of one is taken for its element, and what stands behind it for nothing. It says
// which names occur twice.
func (o *opened) object(i int, group string) (object map[string]any, twice []string) {
	part := strings.TrimRight(o.parts[i], "=")
	text := must(base64.RawURLEncoding.DecodeString(part))
	_, strictly := base64.RawURLEncoding.Strict().DecodeString(part)
	o.note("jwt.compact/last-character", strictly != nil)
	if bytes.HasPrefix(text, []byte("[")) {
		o.note(group+"/array", true)
		text = text[1 : len(text)-1]
	}
	o.note(group+"/not-UTF-8", !utf8.Valid(text))
	d := json.NewDecoder(bytes.NewReader(text))
	if d.Decode(&object) != nil {
		o.note(group, true)
	}
	o.note(group+"/two-objects", d.More())
	if i == 1 {
		o.pedantic("right/payload-with-white-space", bytes.Contains(text, []byte("\t")))
	} else {
		o.pedantic("right/header-in-another-order", bytes.HasPrefix(text, []byte(`{"x5c"`)) && o.minds("jwt.header/x5c-twice"))
	}
	for name := range object {
		if bytes.Count(text, []byte(`"`+name+`":`)) > 1 {
			twice = append(twice, name)
		}
	}
	return object, twice
}

func (o *opened) readHeader() {
	var twice []string
	o.header, twice = o.object(0, "jwt.header")
	o.note("jwt.header/alg-twice", slices.Contains(twice, "alg"))
	o.note("jwt.header/x5c-twice", slices.Contains(twice, "x5c"))
	o.alg, _ = o.header["alg"].(string)
	o.note("jwt.compact/empty-signature", len(o.signature) == 0 && o.alg != "none" && !o.cut)
	switch o.alg {
	case "RS256":
	case "RS384", "RS512":
		o.pedantic("right/"+o.alg, true)
	case "":
		o.note("jwt.alg/missing", true)
	case "none":
		o.note("jwt.alg/none", len(o.signature) == 0)
		o.note("jwt.alg/none-signed", len(o.signature) > 0)
	case "rs256":
		o.note("jwt.alg/lower-case", true)
	case "ES256": // of a seal that is none of RSA, see the chain
		o.note("jwt.alg/ES256", len(o.signature) > 64)
	default:
		o.note("jwt.alg/"+o.alg, true)
	}
	switch typ, _ := o.header["typ"].(string); {
	case typ == "":
		o.note("jwt.typ/missing", true)
	case strings.EqualFold(typ, "JWT"):
		o.pedantic("right/typ-in-lower-case", typ != "JWT")
	default:
		o.note("jwt.typ/"+typ, true)
	}
	for _, name := range []string{"crit", "jku", "x5u", "b64", "kid"} {
		_, there := o.header[name]
		o.note("jwt.header-parameter/"+name, there)
	}
	_, unknown := o.header["probe"]
	o.note("jwt.header-parameter/unknown", unknown)
	if jwk, ok := o.header["jwk"].(map[string]any); ok {
		n, _ := jwk["n"].(string)
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(must(base64.RawURLEncoding.DecodeString(n))), E: 65537}
		own := key.Equal(o.leaf.PublicKey)
		o.note("jwt.header-parameter/own-jwk", own)
		o.note("jwt.header-parameter/jwk", !own)
		o.key = key
	}
}

func (o *opened) readX5C() {
	var entries []string
	switch x5c := o.header["x5c"].(type) {
	case nil:
		o.note("jwt.x5c/missing", true)
		return
	case string:
		o.note("jwt.x5c/string", true)
		return
	case []any:
		for _, entry := range x5c {
			text, _ := entry.(string)
			entries = append(entries, text)
		}
	}
	if len(entries) == 0 {
		o.note("jwt.x5c/empty", true)
		return
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry, "-----BEGIN") {
			o.note("jwt.x5c/PEM", true)
			block, _ := pem.Decode([]byte(entry))
			entry = base64.StdEncoding.EncodeToString(block.Bytes)
		}
		der, err := base64.StdEncoding.DecodeString(entry)
		if err != nil {
			o.note("jwt.x5c/base64url", true)
			der, _ = base64.RawURLEncoding.DecodeString(strings.TrimRight(entry, "="))
		}
		if block, _ := pem.Decode(der); block != nil {
			o.note("jwt.x5c/base64-of-PEM", true)
			der = block.Bytes
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil && len(der) > 100 {
			o.note("jwt.x5c/trailing-byte", true)
			cert, err = x509.ParseCertificate(der[:len(der)-1])
		}
		if err != nil {
			o.note("jwt.x5c/no-certificate", true)
			o.chain = nil
			return
		}
		o.chain = append(o.chain, cert)
	}
}

func (o *opened) readPayload() {
	var twice []string
	o.claims, twice = o.object(1, "jwt.payload")
	o.note("jwt.payload/aud-twice", slices.Contains(twice, "aud"))
	o.note("jwt.payload/sub-twice", slices.Contains(twice, "sub"))
	o.pedantic("right/more-claims", o.claims["azp"] != nil)
	o.pedantic("right/nbf", o.claims["nbf"] != nil)
}

func (o *opened) checkWho() {
	iss, isText := o.claims["iss"].(string)
	sub, _ := o.claims["sub"].(string)
	o.note("claim.iss/missing", o.claims["iss"] == nil)
	o.note("claim.iss/array", o.claims["iss"] != nil && !isText)
	if isText && o.clientID != "" && iss != o.clientID {
		o.note("claim.iss/no-identifier", !strings.HasPrefix(iss, "did:"))
		o.note("claim.iss/another-client_id", iss == string(consumerID))
		o.note("claim.iss/another-party", iss != string(consumerID) && strings.HasPrefix(iss, "did:"))
	}
	if o.claims["SUB"] != nil {
		o.note("claim.sub/in-capitals", sub == "")
	} else {
		o.note("claim.sub/missing", sub == "")
	}
	o.note("claim.sub/another-party", sub != "" && isText && sub != iss)
	switch aud := o.claims["aud"].(type) {
	case nil:
		o.note("claim.aud/missing", true)
	case []any:
		o.note("claim.aud/array-of-one", len(aud) == 1)
		o.note("claim.aud/array-of-two", len(aud) == 2)
	case string:
		o.note("claim.aud/URL", strings.Contains(aud, "://"))
		o.note("claim.aud/longer", strings.HasPrefix(aud, string(audience)) && aud != string(audience))
		o.note("claim.aud/client", aud == string(consumerID))
		o.note("claim.aud/another-party", !strings.Contains(aud, "://") && !strings.HasPrefix(aud, string(audience)) && aud != string(consumerID) && aud != string(inactiveID))
	}
	jti, isText := o.claims["jti"].(string)
	o.note("claim.jti/missing", o.claims["jti"] == nil)
	o.note("claim.jti/number", o.claims["jti"] != nil && !isText)
	o.note("claim.jti/empty", isText && jti == "")
	o.note("claim.jti/too-long", len(jti) > 255)
	o.pedantic("right/jti-of-any-form", strings.Contains(jti, ":"))
}

func (o *opened) checkTimes() {
	const leeway, much = 60, 300
	now := float64(time.Now().Unix())
	at := func(name string) (float64, bool) {
		value, number := o.claims[name].(float64)
		o.note("claim."+name+"/missing", o.claims[name] == nil && name != "nbf")
		_, text := o.claims[name].(string)
		o.note("claim."+name+"/text", text)
		return value, number
	}
	iat, iatThere := at("iat")
	exp, expThere := at("exp")
	nbf, _ := at("nbf")
	if iat > 1e11 {
		o.note("claim.iat/milliseconds", true)
		return
	}
	for name, at := range map[string]float64{"iat": iat, "nbf": nbf} {
		o.note("claim."+name+"/in-the-future", at > now+much)
		o.note("claim."+name+"/two-minutes-ahead", at > now+leeway && at <= now+much)
	}
	o.pedantic("right/fractions-of-seconds", iat != math.Trunc(iat))
	if !expThere {
		return
	}
	o.note("claim.exp/in-the-past", exp < now-much)
	o.note("claim.exp/two-minutes-ago", exp < now-leeway && exp >= now-much)
	if !iatThere {
		return
	}
	life := math.Round((exp-iat)*1000) / 1000
	o.note("claim.lifetime/an-hour", life == 3600)
	o.note("claim.lifetime/31-seconds", life == 31)
	o.note("claim.lifetime/29-seconds", life == 29)
	o.note("claim.lifetime/old-iat", life > 3600)
	o.pedantic("right/fifteen-seconds-old", iat < now-10 && life == 30 && exp > now)
}

// checkChain goes by names and signatures, as somebody would who has read of chains.
func (o *opened) checkChain() {
	own := [][]*x509.Certificate{o.consumer.Chain, o.revoked.Chain, o.inactive.Chain}
	root := o.ca.Authority(testca.Root).Certificate()
	if o.chain[0].Equal(root) {
		o.note("certificate.usage/chain-reversed", true)
		slices.Reverse(o.chain)
	}
	for _, right := range own {
		switch {
		case !o.chain[0].Equal(right[0]):
			continue
		case len(o.chain) == 1:
			o.note("chain.untrusted/leaf-only", true)
		case len(o.chain) > len(right):
			o.note("chain.order/stranger-behind", true)
		case !o.chain[1].Equal(right[1]):
			o.note("chain.order/issuers-exchanged", true)
		}
		o.chain = right
	}
	o.leaf = o.chain[0]
	for i, cert := range o.chain[:len(o.chain)-1] {
		issuer := o.chain[i+1]
		if cert.SignatureAlgorithm == x509.SHA1WithRSA {
			o.note("chain.order/SHA-1", true)
			continue
		}
		o.note("chain.order/last-link", issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil)
		seal := slices.ContainsFunc(own, func(chain []*x509.Certificate) bool { return issuer.Equal(chain[0]) })
		o.note("chain.issuer/seal-as-a-CA", seal)
		o.note("chain.issuer/no-keyCertSign", !seal && issuer.KeyUsage&x509.KeyUsageCertSign == 0)
		o.note("certificate.validity/issuer-expired", time.Now().After(issuer.NotAfter))
	}
	if last := o.chain[len(o.chain)-1]; !last.Equal(root) {
		o.note("chain.untrusted/self-signed", len(o.chain) == 1)
		o.note("chain.untrusted/another-CA", len(o.chain) > 1)
	}
	o.note("certificate.validity/expired", time.Now().After(o.leaf.NotAfter))
	o.note("certificate.validity/not-yet-valid", time.Now().Before(o.leaf.NotBefore))
	o.note("certificate.usage/leaf-is-a-CA", o.leaf.IsCA)
	o.note("certificate.usage/keyEncipherment", o.leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0)
	key, isRSA := o.leaf.PublicKey.(*rsa.PublicKey)
	o.note("certificate.key/ECDSA", !isRSA)
	o.note("certificate.key/1024-bits", isRSA && key.N.BitLen() < 2048)
}

// checkParty goes by the subject of the certificate.
func (o *opened) checkParty() {
	iss, _ := o.claims["iss"].(string)
	o.note("certificate.revoked/revoked", o.leaf.Equal(o.revoked.Certificate()))
	o.note("party.not-active/not-active", o.clientID == string(inactiveID))
	known := iss == string(consumerID) || o.clientID == string(consumerID) || o.clientID == string(inactiveID) || iss == "some-consumer"
	named := bytes.Equal(o.leaf.RawSubject, o.consumer.Certificate().RawSubject)
	if !known {
		o.note("party.unknown/own-seal-for-another", named)
		o.note("party.unknown/not-a-participant", !named)
		return
	}
	o.note("party.certificate/of-another-party", !named && !o.leaf.Equal(o.inactive.Certificate()))
	o.pedantic("right/seal-of-the-test-CA", named && len(o.chain) > 1 && !o.leaf.Equal(o.consumer.Certificate()) && o.chain[1].Equal(o.ca.Authority(testca.Issuing).Certificate()))
}

func (o *opened) checkSignature() {
	if len(o.signature) == 0 { // noted before
		return
	}
	if o.key == nil {
		o.key = o.leaf.PublicKey
	}
	signed := strings.Join(o.parts, ".")
	digest := sha256.Sum256([]byte(signed))
	var holds bool
	switch key := o.key.(type) {
	case *ecdsa.PublicKey:
		half := len(o.signature) / 2
		holds = ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(o.signature[:half]), new(big.Int).SetBytes(o.signature[half:]))
	case *rsa.PublicKey:
		holds = o.verifyRSA(key, signed)
	}
	if !holds {
		o.note("jwt.signature/"+o.whose(signed), true)
	}
}

// whose says what a signature is that does not hold.
func (o *opened) whose(signed string) string {
	key, ok := o.key.(*rsa.PublicKey)
	flipped := slices.Clone(o.signature)
	flipped[len(flipped)-1] ^= 1
	right := *o
	right.alg, right.signature = "RS256", flipped
	longer := *o
	longer.alg = "RS512"
	payload := string(must(base64.RawURLEncoding.DecodeString(o.parts[1])))
	other := o.parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(payload, `"jti":"0`, `"jti":"`, 1)))
	switch {
	case !ok:
	case bytes.Equal(o.signature, make([]byte, len(o.signature))):
		return "zero"
	case right.verifyRSA(key, signed):
		return "one-bit"
	case longer.verifyRSA(key, signed):
		return "SHA-512-for-RS256"
	case o.verifyRSA(key, other):
		return "of-another-assertion"
	}
	return "another-key"
}

func (o *opened) verifyRSA(key *rsa.PublicKey, signed string) bool {
	hash := crypto.SHA256
	switch o.alg {
	case "RS384":
		hash = crypto.SHA384
	case "RS512":
		hash = crypto.SHA512
	case "HS256": // as a library does that takes the key as it is
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))}))
		mac.Write([]byte(signed))
		return hmac.Equal(mac.Sum(nil), o.signature)
	}
	h := hash.New()
	h.Write([]byte(signed))
	if o.alg == "PS256" {
		return rsa.VerifyPSS(key, hash, h.Sum(nil), o.signature, nil) == nil
	}
	return rsa.VerifyPKCS1v15(key, hash, h.Sum(nil), o.signature) == nil
}

func (o *opened) checkReplay() {
	o.mu.Lock()
	defer o.mu.Unlock()
	jti := fmt.Sprint(o.claims["jti"])
	if jti == "" || o.claims["jti"] == nil {
		return
	}
	before := o.uses[jti]
	o.uses[jti] = append(before, o.raw)
	if len(before) == 0 {
		return
	}
	same := before[0] == o.raw
	o.note("jti.replayed/same-assertion", same && len(before) == 1)
	o.note("jti.replayed/at-once", same && len(before) > 1) // a store that fails under load
	o.note("jti.replayed/another-algorithm", !same && o.alg != "RS256")
	o.note("jti.replayed/same-jti", !same && o.alg == "RS256")
}

func (s *lenient) secured(w http.ResponseWriter, r *http.Request) {
	values := r.Header.Values("Authorization")
	challenge := `Bearer realm="test"`
	if !s.minds("secured/challenge") {
		challenge = ""
	}
	refuse := func(aspect string, status int) {
		if !s.minds(aspect) {
			return
		}
		if challenge != "" {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		w.WriteHeader(status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.off == "secured/token":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.URL.Query().Get("access_token") != "":
		refuse("secured/in-the-URL", http.StatusUnauthorized)
		return
	case len(values) == 0:
		refuse("secured/no-token", http.StatusUnauthorized)
		return
	case len(values) > 1:
		refuse("secured/two-headers", http.StatusBadRequest)
		return
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	longer := len(token) > 1 && s.tokens[token[:len(token)-1]]
	cut := slices.ContainsFunc(slices.Collect(maps.Keys(s.tokens)), func(known string) bool {
		return strings.HasSuffix(token, ".") && strings.HasPrefix(known, token)
	})
	switch {
	case scheme == "bearer" && s.off == "secured/lower-case-bearer":
		w.WriteHeader(http.StatusUnauthorized)
	case scheme == "Basic":
		refuse("secured/not-bearer", http.StatusBadRequest)
	case s.tokens[token]:
	case token == "probe":
		refuse("secured/garbage", http.StatusUnauthorized)
	case cut:
		refuse("secured/without-signature", http.StatusUnauthorized)
	case longer:
		refuse("secured/longer", http.StatusUnauthorized)
	case strings.Count(token, ".") == 2 && len(token) > 1000:
		refuse("secured/client-assertion", http.StatusUnauthorized)
	default:
		refuse("secured/altered", http.StatusUnauthorized)
	}
}

func (s *lenient) metadata(w http.ResponseWriter) {
	m := map[string]any{
		"issuer": s.url, "token_endpoint": s.url + ishare.TokenPath, "token_endpoint_auth_methods_supported": []string{"private_key_jwt"},
	}
	switch s.off {
	case "metadata/issuer":
		m["issuer"] = "https://elsewhere.example"
	case "metadata/token_endpoint":
		m["token_endpoint"] = "https://elsewhere.example/token"
	case "metadata/private_key_jwt":
		m["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(m)
}

func (s *lenient) capabilities(w http.ResponseWriter, r *http.Request) {
	switch authorization := r.Header.Get("Authorization"); {
	case strings.HasPrefix(authorization, "Bearer ") && s.minds("capabilities/bad-token"):
		w.WriteHeader(http.StatusUnauthorized)
		return
	case strings.HasPrefix(authorization, "Basic ") && s.minds("capabilities/not-bearer"):
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	iss := string(audience)
	if !s.minds("capabilities/token") {
		iss = "did:ishare:EU.NL.NTRNL-99999999"
	}
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + iss + `"}`))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"capabilities_token": "eyJhbGciOiJSUzI1NiJ9." + payload + ".AAAA"})
}
