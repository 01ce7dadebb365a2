package console

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/trust"
)

// A jwtView is an assertion in its parts.
type jwtView struct {
	Parts   []partView
	Members []memberView // of the payload that are times, in words
	Chain   *drawing     // nil: there are no certificates
}

// A partView is one of the parts between the dots.
type partView struct {
	Name    string // header, payload, signature
	Encoded string
	Decoded string
	Note    string
}

// A memberView is a claim with what it means.
type memberView struct{ Name, Means string }

// Bounds of what is shown.
const (
	maxParts   = 5
	maxSent    = 300
	maxDecoded = 16 << 10
)

// newJWTView takes an assertion apart as far as it can be, whatever it is. The report may be nil.
func newJWTView(compact string, report *provider.Explanation, now time.Time) jwtView {
	var v jwtView
	parts := strings.SplitN(compact, ".", maxParts)
	for i, part := range parts {
		p := partView{Name: fmt.Sprintf("part %d", i+1), Encoded: cut(part, MaxBody)}
		if names := []string{"header", "payload", "signature"}; i < len(names) && len(parts) == len(names) {
			p.Name = names[i]
		}
		decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(part), "="))
		switch {
		case err != nil:
			p.Note = "not base64url"
		case p.Name == "signature":
			p.Note = fmt.Sprintf("%d bytes", len(decoded))
		default:
			p.Decoded = pretty(decoded)
		}
		v.Parts = append(v.Parts, p)
	}
	for name, value := range members(compact, 1) {
		if means := timeOf(name, value, now); means != "" {
			v.Members = append(v.Members, memberView{name, means})
		}
	}
	slices.SortFunc(v.Members, func(a, b memberView) int { return strings.Compare(a.Name, b.Name) })
	if report != nil && report.Report != nil && len(report.Certificates) > 0 {
		v.Chain = draw(report.Certificates, report.Chain, now)
	}
	return v
}

// pretty writes JSON with its members under each other, and certificates by their beginning. What is none is shown as it is.
func pretty(text []byte) string {
	value := jsontext.Value(slices.Clone(text))
	if err := value.Indent(jsontext.AllowDuplicateNames(true), jsontext.WithIndent("  ")); err != nil {
		return cut(string(text), maxDecoded)
	}
	var lines []string
	for line := range strings.Lines(string(value)) {
		const certificate = `"MII`
		if i := strings.Index(line, certificate); i >= 0 && len(line) > 200 {
			line = line[:i+24] + fmt.Sprintf("… (%d characters)", len(strings.TrimRight(line, "\",\n"))-i-1) + line[len(strings.TrimRight(line, "\",\n")):]
		}
		lines = append(lines, cut(strings.TrimSuffix(line, "\n"), maxDecoded))
	}
	shown := strings.Join(lines, "\n")
	return shown[:min(len(shown), maxDecoded)]
}

// members are those of a part as they were written. Of several with a name, the last; nil: it is no object.
func members(compact string, part int) map[string]jsontext.Value {
	parts := strings.Split(compact, ".")
	if part >= len(parts) {
		return nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(parts[part]), "="))
	var found map[string]jsontext.Value
	if err != nil || json.Unmarshal(decoded, &found, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return nil
	}
	return found
}

// timeOf is what a claim about time means; empty: it means none.
func timeOf(name string, value jsontext.Value, now time.Time) string {
	seconds, err := strconv.ParseFloat(string(value), 64)
	if !slices.Contains([]string{"iat", "exp", "nbf"}, name) || err != nil || math.Abs(seconds) > 1e11 {
		return ""
	}
	return asWords(time.Unix(int64(seconds), 0), now)
}

// sentParts are the members that rules are about, by the rule's id.
func sentParts(compact string) map[string]string {
	header, claims := members(compact, 0), members(compact, 1)
	sent := map[string]string{}
	say := func(id string, of map[string]jsontext.Value, names ...string) {
		var said []string
		for _, name := range names {
			if value, ok := of[name]; ok {
				said = append(said, name+": "+cut(string(value), maxSent))
			} else if of != nil {
				said = append(said, "no "+name)
			}
		}
		sent[id] = strings.Join(said, ", ")
	}
	say("jwt.alg", header, "alg")
	say("jwt.typ", header, "typ")
	say("jwt.x5c", header, "x5c")
	for _, name := range []string{"sub", "aud", "jti", "iat", "exp", "nbf"} {
		say("claim."+name, claims, name)
	}
	say("claim.iss", claims, "iss")
	say("claim.sub", claims, "sub", "iss")
	say("claim.lifetime", claims, "iat", "exp")
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, cut(name, maxSent))
	}
	slices.Sort(names)
	sent["jwt.header-parameter"] = strings.Join(names[:min(len(names), 20)], ", ")
	return sent
}

// Measures of a drawing, in units of its own.
const (
	boxWidth  = 320
	boxHeight = 84
	boxGap    = 40
	maxLine   = 44 // characters of a line in a box
)

// A drawing is a chain from the root down to the seal.
type drawing struct {
	Width, Height int
	Boxes         []box
	Links         []link
}

// A box is a certificate.
type box struct {
	Y        int
	Index    int // in x5c
	Title    string
	Subtitle string
	Details  string
	Mark     string // what is to be said of it; empty: nothing
	Anchor   bool
	Bad      bool
}

// A link is between a certificate and the one below, which it has issued or not.
type link struct {
	Y, End, Middle int
	Holds          bool
}

// draw draws certificates as they stand in x5c. The chain is nil when it is not trusted.
func draw(certificates []*x509.Certificate, chain *trust.Chain, now time.Time) *drawing {
	var anchor *x509.Certificate
	if chain != nil {
		trusted := chain.Certificates()
		anchor = trusted[len(trusted)-1]
	}
	d := &drawing{Width: boxWidth + 20, Height: len(certificates)*(boxHeight+boxGap) - boxGap + 20}
	for i, cert := range slices.Backward(certificates) {
		y := 10 + (len(certificates)-1-i)*(boxHeight+boxGap)
		b := box{Y: y, Index: i, Title: cut(cert.Subject.CommonName, maxLine), Subtitle: subtitle(cert), Details: details(cert)}
		b.Anchor = anchor != nil && cert.Equal(anchor)
		switch {
		case now.Before(cert.NotBefore):
			b.Mark, b.Bad = "not valid yet", true
		case now.After(cert.NotAfter):
			b.Mark, b.Bad = "expired", true
		case b.Anchor:
			b.Mark = "trusted by the server"
		}
		d.Boxes = append(d.Boxes, b)
		if i > 0 {
			below := certificates[i-1]
			signed := cert.CheckSignature(below.SignatureAlgorithm, below.RawTBSCertificate, below.Signature) == nil
			top := y + boxHeight
			d.Links = append(d.Links, link{Y: top, End: top + boxGap, Middle: top + boxGap/2, Holds: signed && bytes.Equal(below.RawIssuer, cert.RawSubject)})
		}
	}
	return d
}

func subtitle(cert *x509.Certificate) string {
	var ids []string
	for _, id := range ishare.CertificateIDs(cert) {
		ids = append(ids, string(id))
	}
	switch {
	case len(ids) > 0:
		slices.Reverse(ids) // did:ishare:… is behind EU.EORI.…
		return cut(ids[0], maxLine)
	case cert.IsCA:
		return "a certificate authority"
	}
	return "names no participant"
}

func details(cert *x509.Certificate) string {
	key := cert.PublicKeyAlgorithm.String()
	switch public := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		key = fmt.Sprintf("RSA, %d bits", public.N.BitLen())
	case *ecdsa.PublicKey:
		key = "ECDSA, " + public.Curve.Params().Name
	}
	return key + ", " + cert.NotBefore.UTC().Format(time.DateOnly) + " to " + cert.NotAfter.UTC().Format(time.DateOnly)
}
