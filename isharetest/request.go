package isharetest

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// The values that every token request carries.
const (
	GrantType     = "client_credentials"
	AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	MediaType     = "application/x-www-form-urlencoded"
	TokenPath     = ishare.TokenPath
)

// Signed stands in a parameter's value for the client assertion, which is signed when the request is made.
const Signed = "{client_assertion}"

// A Request is a token request taken apart, right until something of it is
// changed. It is good for about half a minute from [Party.Request] on.
type Request struct {
	Method string
	Path   string
	Header http.Header // Content-Type included
	Form   Form        // where [Signed] stands for the assertion
	InURL  bool        // the form goes into the URL, and the body is empty
	// Chunked sends the body without saying how long it is.
	Chunked bool
	// Rewrite changes the encoded form just before it is sent. May be nil.
	Rewrite func(form string) string

	Assertion *Assertion

	// Expect is the rule by which the request must be refused, or nil when it must get a token. [Attempt] sets it.
	Expect *rule.Rule
}

// Request makes a right token request to a server. Each has a jti of its own.
func (p *Party) Request(audience ishare.PartyID) *Request {
	now := time.Now().Unix()
	return &Request{
		Method: http.MethodPost,
		Path:   TokenPath,
		Header: http.Header{"Content-Type": {MediaType}},
		Form: Form{
			{"grant_type", GrantType},
			{"scope", ishare.ScopeISHARE},
			{"client_id", string(p.ID())},
			{"client_assertion_type", AssertionType},
			{"client_assertion", Signed},
		},
		Assertion: &Assertion{
			Header: Object{{"alg", "RS256"}, {"typ", "JWT"}, {"x5c", X5C(p.Certificates...)}},
			Payload: Object{
				{"iss", p.ID()},
				{"sub", p.ID()},
				{"aud", audience},
				{"jti", uuid()},
				{"iat", now},
				{"exp", now + int64(assertion.Lifetime/time.Second)},
			},
			Key: p.Key,
		},
	}
}

// As has the client use another identifier: in client_id, iss and sub.
func (r *Request) As(id ishare.PartyID) {
	r.Form.Set("client_id", string(id))
	r.Assertion.Payload.Set("iss", id)
	r.Assertion.Payload.Set("sub", id)
}

// ClientID is the client_id of the form.
func (r *Request) ClientID() ishare.PartyID { return ishare.PartyID(r.Form.Get("client_id")) }

// AsJSON has the parameters sent as a JSON object, as many a client does.
func (r *Request) AsJSON() {
	r.Header.Set("Content-Type", "application/json")
	r.Rewrite = func(string) string {
		var o Object
		for _, p := range r.signed() {
			o.Add(strings.ToValidUTF8(p.Name, "\ufffd"), strings.ToValidUTF8(p.Value, "\ufffd"))
		}
		return o.String()
	}
}

// signed is the form with the assertion in its place.
func (r *Request) signed() Form {
	form := slices.Clone(r.Form)
	for i, p := range form {
		if p.Value == Signed {
			form[i].Value = r.Assertion.Compact()
		}
	}
	return form
}

// Body is the form as it is sent, percent-encoded and with the assertion in its place.
func (r *Request) Body() string {
	body := r.signed().Encode()
	if r.Rewrite != nil {
		body = r.Rewrite(body)
	}
	return body
}

// HTTP makes the request to the server at a base URL, such as http://127.0.0.1:8080.
// It panics when the method or the URL is not a valid one.
func (r *Request) HTTP(base string) *http.Request {
	address, body := strings.TrimSuffix(base, "/")+r.Path, r.Body()
	if r.InURL {
		address, body = address+"?"+body, ""
	}
	req := must(http.NewRequestWithContext(context.Background(), r.Method, address, strings.NewReader(body)))
	req.Header = r.Header.Clone()
	if r.Chunked {
		req.ContentLength = -1
	}
	return req
}

// A Form is the parameters of a request in their order. A name may occur twice.
type Form []Parameter

// A Parameter is a name with its value, not encoded.
type Parameter struct{ Name, Value string }

// Get returns the value of the first parameter with this name, or "".
func (f Form) Get(name string) string {
	for _, p := range f {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Set replaces the value of the first parameter with this name, or adds it behind the others.
func (f *Form) Set(name, value string) {
	i := slices.IndexFunc(*f, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		f.Add(name, value)
		return
	}
	(*f)[i].Value = value
}

// Add adds a parameter behind the others, whether or not there is one of this name.
func (f *Form) Add(name, value string) { *f = append(*f, Parameter{name, value}) }

// Delete removes every parameter with this name.
func (f *Form) Delete(name string) {
	*f = slices.DeleteFunc(*f, func(p Parameter) bool { return p.Name == name })
}

// Encode writes the parameters in their order as a form.
func (f Form) Encode() string {
	pairs := make([]string, len(f))
	for i, p := range f {
		pairs[i] = url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value)
	}
	return strings.Join(pairs, "&")
}

// An Assertion is a client assertion taken apart.
type Assertion struct {
	Header, Payload Object
	// HeaderText and PayloadText, when not empty, are sent in place of Header and Payload.
	HeaderText, PayloadText string
	// Key signs with the hash of the header's alg: SHA-384 for RS384, SHA-512 for
	// RS512, and SHA-256 for everything else.
	Key crypto.Signer
	// Sign, when not nil, signs in place of Key.
	Sign func(signed string) []byte
	// Rewrite changes the compact serialisation after it is signed. May be nil.
	Rewrite func(compact string) string
}

// Compact is the assertion as it is sent.
func (a *Assertion) Compact() string {
	signed := encode(cmp.Or(a.HeaderText, a.Header.String())) + "." + encode(cmp.Or(a.PayloadText, a.Payload.String()))
	sign := a.Sign
	if sign == nil {
		sign = a.signWithKey
	}
	compact := signed + "." + encode(string(sign(signed)))
	if a.Rewrite != nil {
		compact = a.Rewrite(compact)
	}
	return compact
}

func (a *Assertion) signWithKey(signed string) []byte {
	digest, hash := digestFor(a.Header.text("alg"), signed)
	return must(a.Key.Sign(rand.Reader, digest, hash))
}

func digestFor(alg, signed string) ([]byte, crypto.Hash) {
	switch alg {
	case "RS384":
		sum := sha512.Sum384([]byte(signed))
		return sum[:], crypto.SHA384
	case "RS512":
		sum := sha512.Sum512([]byte(signed))
		return sum[:], crypto.SHA512
	default:
		sum := sha256.Sum256([]byte(signed))
		return sum[:], crypto.SHA256
	}
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// X5C is a chain as the header parameter x5c carries it: standard base64 of DER.
func X5C(chain ...*x509.Certificate) []string {
	entries := make([]string, len(chain))
	for i, cert := range chain {
		entries[i] = base64.StdEncoding.EncodeToString(cert.Raw)
	}
	return entries
}

// An Answer is what a server said to a token request (RFC 6749 sections 5.1 and 5.2).
type Answer struct {
	Status int         `json:"-"`
	Header http.Header `json:"-"`

	AccessToken string  `json:"access_token"`
	TokenType   string  `json:"token_type"`
	ExpiresIn   float64 `json:"expires_in"` // seconds
	Scope       string  `json:"scope"`

	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// sendTimeout ends a request to a server that does not answer.
const sendTimeout = 30 * time.Second

// maxAnswer is the most that is read of an answer.
const maxAnswer = 1 << 20

// Send makes the request to the server at a base URL. The error says that there was
// no answer, or none in JSON; a refusal is an answer.
func (r *Request) Send(base string) (*Answer, error) {
	client := &http.Client{Timeout: sendTimeout}
	response, err := client.Do(r.HTTP(base))
	if err != nil {
		return nil, fmt.Errorf("isharetest: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("isharetest: answer: %w", err)
	}
	a := &Answer{Status: response.StatusCode, Header: response.Header}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("isharetest: answer with status %d: %w", response.StatusCode, err)
	}
	return a, nil
}

// RuleID is the id of the rule that the answer's error_description begins with, or
// "" when it begins with none: servers other than Waybill name none.
func (a *Answer) RuleID() string {
	named, _ := rule.Described(a.Description)
	if named == nil {
		return ""
	}
	return named.ID
}

// Meets returns nil when the answer is the one that a request asks for: a token when rule is nil, and otherwise the
// status and the error code of the rule, and no other rule's id.
func (a *Answer) Meets(reason *rule.Rule) error {
	if reason == nil {
		if a.Status != http.StatusOK || a.AccessToken == "" || a.Error != "" {
			return fmt.Errorf("isharetest: no token, but status %d, error %q: %s", a.Status, a.Error, a.Description)
		}
		return nil
	}
	var problems []error
	if a.AccessToken != "" {
		problems = append(problems, errors.New("isharetest: the server gave a token"))
	}
	if a.Status != reason.Status {
		problems = append(problems, fmt.Errorf("isharetest: status %d, want %d", a.Status, reason.Status))
	}
	if a.Error != reason.Code {
		problems = append(problems, fmt.Errorf("isharetest: error %q, want %q", a.Error, reason.Code))
	}
	if id := a.RuleID(); id != "" && id != reason.ID {
		problems = append(problems, fmt.Errorf("isharetest: refused by %s, want %s", id, reason.ID))
	}
	return errors.Join(problems...)
}

// Check sends the requests of the attempt to the server at a base URL, and returns
// nil when every answer [Answer.Meets] what its request expects.
func (a Attempt) Check(base string) error {
	for i, r := range a.Requests() {
		answer, err := r.Send(base)
		if err == nil {
			err = answer.Meets(r.Expect)
		}
		if err != nil {
			return fmt.Errorf("%s, request %d: %w", a, i+1, err)
		}
	}
	return nil
}
