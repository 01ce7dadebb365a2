package workbench

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Names of chains.
const (
	chainOwn          = "own"
	chainRenewed      = "renewed"
	chainOther        = "other"
	chainLeaf         = "leaf"
	chainRootless     = "rootless"
	chainExchanged    = "exchanged"
	chainGap          = "gap"
	chainReversed     = "reversed"
	chainExpired      = "expired"
	chainFuture       = "future"
	chainEncipherment = "encipherment"
	chainCA           = "ca"
	chainShort        = "short"
	chainBySeal       = "by-seal"
	chainNoCA         = "no-ca"
	chainStrange      = "strange"
	chainSelfSigned   = "self-signed"
)

// Chains are the certificates that can go along, the right ones first.
func Chains() []Choice {
	return []Choice{
		{chainOwn, "the participant's seal with its CAs up to the root"},
		{chainRenewed, "a newer seal of the same key, which is not registered"},
		{chainOther, "the seal of another participant"},
		{chainLeaf, "the seal alone"},
		{chainRootless, "without the root"},
		{chainExchanged, "two CAs exchanged"},
		{chainGap, "a CA left out"},
		{chainReversed, "the root first"},
		{chainExpired, "a seal that expired an hour ago"},
		{chainFuture, "a seal that is valid from an hour from now"},
		{chainEncipherment, "a seal for encipherment, not for signing"},
		{chainCA, "a seal that is a CA"},
		{chainShort, "a seal with a key of 1024 bits"},
		{chainBySeal, "a seal that another participant's seal has issued"},
		{chainNoCA, "a seal whose issuing CA says that it is none"},
		{chainStrange, "a seal of a CA with the same names that nobody trusts"},
		{chainSelfSigned, "a seal signed with its own key"},
	}
}

// Names of signers.
const (
	signerSeal   = "seal"
	signerOther  = "other"
	signerIssuer = "issuer"
	signerHMAC   = "hmac"
	signerNobody = "nobody"
)

// Signers are those who can sign, the right one first.
func Signers() []Choice {
	return []Choice{
		{signerSeal, "the key of the first certificate"},
		{signerOther, "the key of another participant"},
		{signerIssuer, "the key of the issuing CA"},
		{signerHMAC, "HMAC, with the public key as the secret"},
		{signerNobody, "nobody: the signature is empty"},
	}
}

// Names of changes.
const (
	changeNothing = "nothing"
	changePadded  = "padded"
	changeLine    = "line"
	changeBit     = "bit"
	changeClaims  = "claims"
)

// Changes can be made to an assertion once it is signed, none first.
func Changes() []Choice {
	return []Choice{
		{changeNothing, "nothing"},
		{changePadded, "the signature is padded"},
		{changeLine, "a line break follows"},
		{changeBit, "a bit of the signature is flipped"},
		{changeClaims, "a claim is added to the payload"},
	}
}

// Names of ways.
const (
	wayForm   = "form"
	wayJSON   = "json"
	wayGet    = "get"
	wayBroken = "broken"
	wayLarge  = "large"
)

// Ways are those in which the form can be sent, the right one first.
func Ways() []Choice {
	return []Choice{
		{wayForm, "as a form, by POST"},
		{wayJSON, "as JSON"},
		{wayGet, "by GET, in the URL"},
		{wayBroken, "with a percent sign that stands for nothing"},
		{wayLarge, "with 64 KiB more"},
	}
}

// takeWay has the request sent in a way.
func takeWay(name string, r *isharetest.Request) error {
	switch name {
	case wayForm:
	case wayJSON:
		r.AsJSON()
	case wayGet:
		r.Method, r.InURL = http.MethodGet, true
		r.Header.Del("Content-Type")
	case wayBroken:
		r.Rewrite = func(form string) string { return form + "&discount=50%" }
	case wayLarge:
		r.Rewrite = func(form string) string { return form + "&padding=" + strings.Repeat("0", tokenendpoint.MaxBody) }
	default:
		return fmt.Errorf("%w: way %.40q", ErrNoChoice, name)
	}
	return nil
}

// another is the participant that stands for any other than the draft's.
func (w *Workbench) another(folder string) *testca.Identity {
	for _, p := range w.parties {
		if p.Folder != folder && p.Folder != w.provider.Folder {
			return w.seals[p.Folder]
		}
	}
	return w.seals[folder]
}

// chain finds or forges the certificates of a draft, with the key of the first.
func (w *Workbench) chain(d Draft) (*testca.Identity, error) {
	own := w.seals[d.Party]
	some := func(indexes ...int) (*testca.Identity, error) {
		id := &testca.Identity{Key: own.Key}
		for _, i := range indexes {
			id.Chain = append(id.Chain, own.Chain[min(i, len(own.Chain)-1)])
		}
		return id, nil
	}
	forged := func(change func(*x509.Certificate)) (*testca.Identity, error) {
		return w.forge(d, testca.SealRequest{Key: own.Key, Template: change})
	}
	switch d.Chain {
	case chainOwn:
		return own, nil
	case chainRenewed:
		return w.renewed[d.Party], nil
	case chainOther:
		return w.another(d.Party), nil
	case chainLeaf:
		return some(0)
	case chainRootless:
		return some(0, 1, 2)
	case chainExchanged:
		return some(0, 2, 1, 3)
	case chainGap:
		return some(0, 1, 3)
	case chainReversed:
		return some(3, 2, 1, 0)
	case chainExpired:
		return forged(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().AddDate(-3, 0, 0), time.Now().Add(-time.Hour)
		})
	case chainFuture:
		return forged(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	case chainEncipherment:
		return forged(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	case chainCA:
		return forged(func(c *x509.Certificate) {
			c.IsCA = true
			c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
		})
	case chainShort:
		return w.forge(d, testca.SealRequest{KeyBits: 1024})
	case chainBySeal:
		return w.forge(d, testca.SealRequest{Key: own.Key, Issuer: w.another(d.Party)})
	}
	return w.wrongIssuer(d, own.Key)
}

// wrongIssuer forges a seal with its issuer.
func (w *Workbench) wrongIssuer(d Draft, key crypto.Signer) (*testca.Identity, error) {
	request := testca.SealRequest{Key: key}
	switch d.Chain {
	case chainNoCA:
		template := w.ca.Template(testca.Issuing)
		template.IsCA, template.MaxPathLen = false, 0
		issuer, err := w.ca.Authority(testca.Sub).Issue(template, w.ca.Authority(testca.Issuing).Key)
		if err != nil {
			return nil, err
		}
		request.Issuer = issuer
	case chainStrange:
		// The same names, and the keys of others: those of the participants make CAs without waiting for new ones.
		keys := []crypto.Signer{w.seals[w.parties[0].Folder].Key, w.seals[w.parties[1].Folder].Key, w.seals[w.parties[2].Folder].Key}
		issuer, err := testca.SelfSign(fresh(w.ca.Authority(testca.Root).Certificate()), keys[0])
		for i, level := range []testca.Level{testca.Sub, testca.Issuing} {
			if err == nil {
				issuer, err = issuer.Issue(fresh(w.ca.Authority(level).Certificate()), keys[i+1])
			}
		}
		if err != nil {
			return nil, err
		}
		request.Issuer = issuer
	case chainSelfSigned:
		template, err := w.ca.SealTemplate(w.sealRequest(d, request))
		if err != nil {
			return nil, err
		}
		return testca.SelfSign(template, key)
	default:
		return nil, fmt.Errorf("%w: certificates %.40q", ErrNoChoice, d.Chain)
	}
	return w.forge(d, request)
}

// fresh is a certificate to be signed once more, for another key.
func fresh(cert *x509.Certificate) *x509.Certificate {
	template := *cert
	template.SerialNumber, template.SubjectKeyId, template.AuthorityKeyId = nil, nil, nil
	template.PublicKey, template.SignatureAlgorithm = nil, x509.UnknownSignatureAlgorithm
	return &template
}

func (w *Workbench) forge(d Draft, request testca.SealRequest) (*testca.Identity, error) {
	id, err := w.ca.Seal(w.sealRequest(d, request))
	if err != nil {
		return nil, fmt.Errorf("workbench: %w", err)
	}
	return id, nil
}

// sealRequest has the seal name the participant of the draft.
func (w *Workbench) sealRequest(d Draft, request testca.SealRequest) testca.SealRequest {
	subject := w.seals[d.Party].Certificate().Subject
	request.Organization, request.SerialNumber = subject.CommonName, subject.SerialNumber
	for _, attribute := range subject.Names {
		if text, ok := attribute.Value.(string); ok && attribute.Type.String() == "2.5.4.97" {
			request.Identifier = text
		}
	}
	return request
}

// signer says who signs; nil: the key of the first certificate does.
func (w *Workbench) signer(d Draft, id *testca.Identity) (func(signed string) []byte, error) {
	with := func(key crypto.Signer) func(string) []byte {
		return func(signed string) []byte {
			digest := sha256.Sum256([]byte(signed))
			signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil {
				return nil // which an RSA key of such a size does not do
			}
			return signature
		}
	}
	switch d.Signer {
	case signerSeal:
		return nil, nil //nolint:nilnil // as isharetest.Assertion has it
	case signerOther:
		return with(w.another(d.Party).Key), nil
	case signerIssuer:
		return with(w.ca.Authority(testca.Issuing).Key), nil
	case signerNobody:
		return func(string) []byte { return nil }, nil
	case signerHMAC:
		public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: id.Certificate().RawSubjectPublicKeyInfo})
		return func(signed string) []byte {
			mac := hmac.New(sha256.New, public)
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		}, nil
	}
	return nil, fmt.Errorf("%w: signer %.40q", ErrNoChoice, d.Signer)
}

// changeNamed is what becomes of the assertion after it is signed; nil: nothing.
func changeNamed(name string) (func(compact string) string, error) {
	parts := func(change func(parts []string)) func(string) string {
		return func(compact string) string {
			split := strings.Split(compact, ".")
			change(split)
			return strings.Join(split, ".")
		}
	}
	switch name {
	case changeNothing:
		return nil, nil //nolint:nilnil // as isharetest.Assertion has it
	case changePadded:
		return func(compact string) string { return compact + "==" }, nil
	case changeLine:
		return func(compact string) string { return compact + "\n" }, nil
	case changeBit:
		return parts(func(split []string) {
			signature, _ := base64.RawURLEncoding.DecodeString(split[2]) // which we have encoded
			if len(signature) > 0 {
				signature[len(signature)-1] ^= 1
			}
			split[2] = base64.RawURLEncoding.EncodeToString(signature)
		}), nil
	case changeClaims:
		return parts(func(split []string) {
			claims, _ := base64.RawURLEncoding.DecodeString(split[1])
			if end := bytes.LastIndexByte(claims, '}'); end >= 0 {
				claims = slices.Concat(claims[:end], []byte(`,"role":"admin"`), claims[end:])
			}
			split[1] = base64.RawURLEncoding.EncodeToString(claims)
		}), nil
	}
	return nil, fmt.Errorf("%w: change %.40q", ErrNoChoice, name)
}

// newUUID makes a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
