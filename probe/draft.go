package probe

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
)

// A Seal is a key with its certificates, and whose they are.
type Seal struct {
	// ClientID is the party's identifier.
	ClientID ishare.PartyID
	// Key signs; RSA, in memory or in hardware.
	Key crypto.Signer
	// Certificates is the chain, leaf first.
	Certificates []*x509.Certificate
	// Algorithm is RS256 unless set.
	Algorithm jws.Algorithm
}

// A draft is a right token request that is about to be made wrong.
type draft struct {
	*isharetest.Request

	seal   Seal
	signer *signer
	forge  *forge
	// unable says why the request cannot be made with this seal.
	unable string
}

// newDraft makes a right request to the server.
func newDraft(seal Seal, audience ishare.PartyID, scope ishare.Scope, f *forge) *draft {
	party := isharetest.Party{Record: &ishare.Party{ID: seal.ClientID}, Certificates: seal.Certificates}
	d := &draft{Request: party.Request(audience), seal: seal, signer: &signer{Signer: seal.Key}, forge: f}
	d.Path = "" // the whole address is configured
	d.Assertion.Key = d.signer
	d.Assertion.Header.Set("alg", string(cmp.Or(seal.Algorithm, jws.RS256)))
	if len(scope) > 0 {
		d.Form.Set("scope", scope.String())
	}
	return d
}

// An Assertion is a right client assertion that can be made wrong before it is signed.
type Assertion struct{ draft *draft }

// NewAssertion makes a right assertion for a server.
func NewAssertion(seal Seal, audience ishare.PartyID) *Assertion {
	return &Assertion{newDraft(seal, audience, nil, &forge{newKey: generate})}
}

// Compact signs the assertion and writes it. The error is that of the key.
func (a *Assertion) Compact() (string, error) {
	compact := a.draft.Assertion.Compact()
	return compact, a.draft.signer.err
}

// Breakable lists the rules that [Assertion.Break] can break, in the order of the catalogue.
func Breakable() []string {
	var ids []string
	for _, c := range Cases() {
		if breaks(c) && !slices.Contains(ids, c.Group()) {
			ids = append(ids, c.Group())
		}
	}
	return inCatalogueOrder(ids)
}

// breaks says whether a case is about nothing but the assertion, of the rules that one's own seal allows to break.
func breaks(c Case) bool {
	return c.change != nil && (strings.HasPrefix(c.Name, "jwt.") || strings.HasPrefix(c.Name, "claim.")) && samples[c.Group()] == c.Name
}

// samples are the cases that break their rule and no other, also where nothing but the assertion is known.
var samples = map[string]string{
	"jwt.compact":          "jwt.compact/padded-signature",
	"jwt.header":           "jwt.header/alg-twice",
	"jwt.alg":              "jwt.alg/PS256",
	"jwt.typ":              "jwt.typ/at+jwt",
	"jwt.header-parameter": "jwt.header-parameter/kid",
	"jwt.x5c":              "jwt.x5c/base64-of-PEM",
	"jwt.payload":          "jwt.payload/aud-twice",
	"jwt.signature":        "jwt.signature/one-bit",
	"claim.iss":            "claim.iss/no-identifier",
	"claim.sub":            "claim.sub/another-party",
	"claim.aud":            "claim.aud/array-of-one",
	"claim.jti":            "claim.jti/missing",
	"claim.iat":            "claim.iat/in-the-future",
	"claim.exp":            "claim.exp/in-the-past",
	"claim.lifetime":       "claim.lifetime/an-hour",
	"claim.nbf":            "claim.nbf/in-the-future",
}

// Break breaks one rule of a right assertion and no other, and says in a sentence how. It is an error when the rule is
// none of [Breakable], or cannot be broken with this seal. What is changed afterwards is signed too.
func (a *Assertion) Break(ruleID string) (how string, err error) {
	for _, c := range Cases() {
		if c.Group() != ruleID || !breaks(c) {
			continue
		}
		c.change(a.draft)
		if a.draft.unable != "" {
			return "", fmt.Errorf("probe: %s: %s", ruleID, a.draft.unable)
		}
		return c.Sends, nil
	}
	return "", fmt.Errorf("probe: no assertion breaks the rule %q alone", ruleID)
}

// Set changes one member of an assertion: name=value for the payload, header.name=value for the header. The value is
// JSON, or else a text; without one, the member is removed.
func (a *Assertion) Set(assignment string) error {
	name, value, found := strings.Cut(assignment, "=")
	object := &a.draft.Assertion.Payload
	if parameter, ok := strings.CutPrefix(name, "header."); ok {
		name, object = parameter, &a.draft.Assertion.Header
	}
	switch {
	case !found || name == "":
		return fmt.Errorf("probe: %q: want a name, an equals sign and a value, such as aud=did:ishare:EU.NL.NTRNL-10000000 or header.kid=1", assignment)
	case !utf8.ValidString(assignment):
		return fmt.Errorf("probe: %q is not UTF-8", assignment)
	case value == "":
		object.Delete(name)
	case jsontext.Value(value).IsValid(jsontext.AllowDuplicateNames(true)): // which somebody may want to try
		object.Set(name, isharetest.Raw(value))
	default:
		object.Set(name, value)
	}
	return nil
}

// A signer remembers that its key could not sign, for which a request has no place.
type signer struct {
	crypto.Signer

	err error
}

// Sign never fails: when the key does, the signature is none, and err is set.
func (s *signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(random, digest, opts)
	if s.err = cmp.Or(s.err, err); s.err != nil {
		signature = []byte{0}
	}
	return signature, nil
}

// unless says that the request cannot be made when there is an error, and whether there is none.
func (d *draft) unless(err error) bool {
	if err != nil && d.unable == "" {
		d.unable = err.Error()
	}
	return err == nil
}

// maxRun is the longest run of characters without a blank that is shown, in bytes: a longer one may be a certificate, a key or
// a signature.
const maxRun = 90

// withoutRuns shows what is too long as an ellipsis.
func withoutRuns(text string) string {
	var b strings.Builder
	begin := 0 // of the run
	flush := func(end int) {
		if end-begin > maxRun {
			b.WriteString("…")
		} else {
			b.WriteString(text[begin:end])
		}
	}
	for i := range len(text) {
		if c := text[i]; !isRun(c) {
			flush(i)
			b.WriteByte(c)
			begin = i + 1
		}
	}
	flush(len(text))
	return b.String()
}

// isRun says whether a byte is one of base64, or of base64url.
func isRun(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("+/=_-", c) >= 0
}

// maxSent is how much is shown of a request, in bytes.
const maxSent = 1500

// shown is the request as a report has it: without the signature, and without certificates.
func (d *draft) shown() string {
	method := d.Method
	if d.InURL {
		method += " with the form in the URL"
	}
	a := d.Assertion
	text := fmt.Sprintf("%s; header %s; payload %s", method, cmp.Or(a.HeaderText, a.Header.String()), cmp.Or(a.PayloadText, a.Payload.String()))
	text = strings.ToValidUTF8(withoutRuns(text), "?")
	if len(text) > maxSent {
		text = strings.ToValidUTF8(text[:maxSent], "") + "…"
	}
	return text
}

// Changes of a draft.

func claim(name string, value any) func(*draft) {
	return func(d *draft) { d.Assertion.Payload.Set(name, value) }
}

func withoutClaim(name string) func(*draft) {
	return func(d *draft) { d.Assertion.Payload.Delete(name) }
}

func header(name string, value any) func(*draft) {
	return func(d *draft) { d.Assertion.Header.Set(name, value) }
}

func withoutHeader(name string) func(*draft) {
	return func(d *draft) { d.Assertion.Header.Delete(name) }
}

func parameter(name, value string) func(*draft) {
	return func(d *draft) { d.Form.Set(name, value) }
}

func withoutParameter(name string) func(*draft) {
	return func(d *draft) { d.Form.Delete(name) }
}

func httpHeader(name, value string) func(*draft) {
	return func(d *draft) { d.Header.Set(name, value) }
}

// suffix adds to the encoded form.
func suffix(text string) func(*draft) {
	return func(d *draft) { d.Rewrite = func(form string) string { return form + text } }
}

// first puts a member before the others.
func first(object *isharetest.Object, name string, value any) {
	*object = slices.Insert(*object, 0, isharetest.Member{Name: name, Value: value})
}

// part rewrites one of the three parts after the assertion was signed.
func part(i int, change func(string) string) func(*draft) {
	return func(d *draft) {
		d.Assertion.Rewrite = func(compact string) string {
			parts := strings.Split(compact, ".")
			parts[i] = change(parts[i])
			return strings.Join(parts, ".")
		}
	}
}

// signedPart rewrites header or payload before the assertion is signed, so that the signature is right for what is sent.
func signedPart(i int, change func(string) string) func(*draft) {
	return func(d *draft) {
		sign, alg := d.Assertion.Key, d.algorithm()
		d.Assertion.Sign = func(signed string) []byte {
			parts := strings.Split(signed, ".")
			parts[i] = change(parts[i])
			return signWith(sign, alg, strings.Join(parts, "."))
		}
		part(i, change)(d)
	}
}

func (d *draft) algorithm() jws.Algorithm {
	alg, _ := d.Assertion.Header.Get("alg").(string)
	return jws.Algorithm(alg)
}

// signWith signs as alg says, with the key of a draft, which never fails.
func signWith(key crypto.Signer, alg jws.Algorithm, signed string) []byte {
	hash := map[jws.Algorithm]crypto.Hash{jws.RS384: crypto.SHA384, jws.RS512: crypto.SHA512}[alg]
	if hash == 0 {
		hash = crypto.SHA256
	}
	h := hash.New()
	_, _ = io.WriteString(h, signed) // never fails
	signature, err := key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		return nil
	}
	return signature
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// ago is a time before now, in seconds.
func ago(d time.Duration) int64 { return time.Now().Add(-d).Unix() }

// times sets iat and exp.
func (d *draft) times(iat, exp any) {
	d.Assertion.Payload.Set("iat", iat)
	d.Assertion.Payload.Set("exp", exp)
}
