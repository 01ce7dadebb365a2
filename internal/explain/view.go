package explain

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// A Judge judges an assertion at a time, as [assertion.Explainer.ExplainRequest] and [provider.Explain] do.
type Judge func(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error)

// Options say how to judge.
type Options struct {
	Judge Judge
	// At is the time; zero: when the assertion was made, or now where it does not say or says a time to come.
	At time.Time
	// Scopes are the values that the server knows besides iSHARE; nil: it is not known which.
	Scopes []string
	// Give says what has to be given, by what a rule needs (assertion.NeedsTrust and so on).
	Give map[string]string
	// Hint is what helps in an outage, besides waiting. Optional.
	Hint func(cause error) string
}

// A View is a judged assertion as people and programs see it. What a stranger wrote in it is cut, and free of control
// characters.
type View struct {
	Verdict      string        `json:"verdict"` // accepted, rejected, undecided in an outage, or unknown
	Rule         string        `json:"rule,omitempty"`
	Sentence     string        `json:"sentence,omitempty"`
	Hint         string        `json:"hint,omitempty"`
	Note         string        `json:"note,omitempty"`  // about the input: the first of Notes
	Notes        []string      `json:"notes,omitempty"` // all of them
	JudgedAt     time.Time     `json:"judgedAt"`
	Time         string        `json:"time"` // why then, in a sentence
	Rules        []Rule        `json:"rules"`
	Issuer       string        `json:"iss,omitempty"`
	Party        string        `json:"party,omitempty"`
	Header       []Field       `json:"header,omitempty"`
	Claims       []Field       `json:"claims,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
	TrustedList  string        `json:"trustedList,omitempty"`
	Revocation   []string      `json:"revocation,omitempty"`
	Parts        []Part        `json:"-"` // as it was sent, for a page
}

// A Rule is what became of one rule.
type Rule struct {
	ID      string            `json:"id"`
	Outcome assertion.Outcome `json:"outcome"`
	Detail  string            `json:"detail,omitempty"` // what is wrong, or what would have to be given
	Hint    string            `json:"hint,omitempty"`
	Title   string            `json:"title"`
	Spec    string            `json:"spec,omitempty"` // of a rule that failed
	Sent    string            `json:"sent,omitempty"` // what it is about, as it was sent
}

// A Field is a parameter of the header or a claim.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	About string `json:"about,omitempty"` // the value in words
}

// A Certificate is one of x5c.
type Certificate struct {
	Subject    string           `json:"subject"`
	Issuer     string           `json:"issuer"`
	Key        string           `json:"key"`
	Thumbprint string           `json:"x5t#s256"`
	NotBefore  time.Time        `json:"notBefore"`
	NotAfter   time.Time        `json:"notAfter"`
	PartyIDs   []ishare.PartyID `json:"partyIds,omitempty"`
	Anchor     bool             `json:"anchor,omitempty"`
	SelfIssued bool             `json:"selfIssued,omitempty"`
	Authority  bool             `json:"authority,omitempty"` // it says that it is a CA
	Name       string           `json:"-"`                   // the common name, for a drawing
	// NotIssuer says that it has not issued the one before it in x5c.
	NotIssuer bool `json:"notIssuer,omitempty"`
}

// The verdicts of a [View].
const (
	Accepted  = "accepted"
	Rejected  = "rejected"
	Undecided = "undecided"
	Unknown   = "unknown"
)

// Explain judges what was found in a text.
func Explain(ctx context.Context, in *Input, o Options) (*View, error) {
	at, why := judgedAt(in, o.At, time.Now())
	e, err := judgeBoth(ctx, in, o, at)
	if err != nil {
		return nil, err
	}
	v := newView(e, o)
	v.JudgedAt, v.Time = at.UTC().Truncate(time.Millisecond), why
	v.Notes = clean(in.Notes)
	if len(v.Notes) > 0 {
		v.Note = v.Notes[0]
	}
	v.Parts = partsOf(in)
	if parts := strings.Split(in.Mended, "."); len(parts) == len(partNames) {
		v.Header, v.Claims = fields(parts[0], at), fields(parts[1], at)
		v.saySent(parts[0], parts[1])
	}
	return v, nil
}

// judgeBoth judges the assertion as it was sent, and when its encoding is what is wrong with it the rest of it besides.
func judgeBoth(ctx context.Context, in *Input, o Options, at time.Time) (*provider.Explanation, error) {
	e, err := judge(ctx, in, in.Assertion, o, at)
	if err != nil || in.Mended == in.Assertion || e.Rejection == nil || e.Rejection.Rule != rule.JWTCompact {
		return e, err
	}
	flaw := e.Rejection
	e, err = judge(ctx, in, in.Mended, o, at)
	if err == nil && (e.Rejection == nil || e.Rejection.Rule != rule.JWTCompact) { // so that the rest can be judged
		takeOver(e, flaw)
	}
	return e, err
}

// judge judges one of the two forms of the assertion.
func judge(ctx context.Context, in *Input, compact string, o Options, at time.Time) (*provider.Explanation, error) {
	request := assertion.Request{Assertion: compact}
	if in.Request != nil {
		request.Trace = &rule.Trace{}
		r := in.Request.Clone(ctx)
		r.Body = io.NopCloser(bytes.NewReader(in.Body))
		asked := tokenendpoint.Explain(r, o.Scopes, request.Trace)
		request.ClientID = asked.ClientID
		request.AnyScope = o.Scopes == nil && len(strings.Fields(asked.Scope)) > 1
	}
	return o.Judge(ctx, request, at)
}

// takeOver makes the verdict that of jwt.compact. The signature of an assertion whose encoding was put right is not that
// of what was sent, so nothing is said of it when it does not hold.
func takeOver(e *provider.Explanation, flaw *rule.Rejection) {
	e.Accepted, e.Outage = false, nil
	for i := range e.Findings {
		switch f := &e.Findings[i]; f.Rule {
		case rule.JWTCompact:
			f.Outcome, f.Rejection = assertion.Fail, flaw
		case rule.JWTSignature:
			if f.Outcome == assertion.Fail {
				f.Outcome, f.Rejection = assertion.Skipped, nil
			}
		}
	}
	e.Rejection = nil
	for _, f := range e.Findings {
		if f.Rejection != nil {
			e.Rejection = f.Rejection
			return
		}
	}
}

// judgedAt is the time at which an assertion is judged, and a sentence about it.
func judgedAt(in *Input, given, now time.Time) (at time.Time, why string) {
	made, ok := madeAt(in.Mended)
	age := now.Sub(made)
	switch {
	case !given.IsZero():
		return given, "judged as of " + stamp(given)
	case !ok:
		return now, "judged as of this moment, as it does not say when it was made"
	case age < 0:
		return now, fmt.Sprintf("judged as of this moment; it says that it was made %s from now", inWords(-age))
	case age <= assertion.Lifetime:
		return made, fmt.Sprintf("judged as of the moment it was made, %s ago", inWords(age))
	}
	return made, fmt.Sprintf("judged as of the moment it was made, %s ago; now it is expired, as every assertion is after %d seconds", inWords(age), assertion.Lifetime/time.Second)
}

// madeAt is the time that iat states, or that exp implies. What is written in milliseconds or as a text is as wrong as it
// was then, and not expired besides.
func madeAt(compact string) (time.Time, bool) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	claims := object(parts[1])
	if iat, ok := timeOf(claims["iat"]); ok {
		return iat, true
	}
	exp, ok := timeOf(claims["exp"])
	return exp.Add(-assertion.Lifetime), ok
}

// timeOf reads a time in seconds or milliseconds, a number or a text.
func timeOf(claim any) (time.Time, bool) {
	seconds, ok := claim.(float64)
	if text, is := claim.(string); is {
		var err error
		seconds, err = strconv.ParseFloat(text, 64)
		ok = err == nil
	}
	if seconds >= maxSeconds {
		seconds /= 1000
	}
	if !ok || !(seconds >= 0 && seconds < maxSeconds) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))), true
}

// maxSeconds is a time in the year 5138; a larger number is in milliseconds.
const maxSeconds = 1e11

func newView(e *provider.Explanation, o Options) *View {
	v := &View{Verdict: Rejected, Issuer: Printable(e.Unverified.Issuer)}
	_, outage := rule.Classify(e.Outage)
	switch {
	case e.Accepted:
		v.Verdict = Accepted
	case e.Rejection != nil:
		v.Rule, v.Sentence, v.Hint = e.Rejection.Rule.ID, Printable(e.Rejection.Sentence), Printable(e.Rejection.Hint)
	case outage != nil:
		v.Verdict, v.Rule, v.Sentence, v.Hint = Undecided, outage.Rule.ID, outage.Rule.Sentence, outage.Rule.Hint
		if outage.Cause != nil {
			v.Sentence += ": " + Printable(outage.Cause.Error())
			if o.Hint != nil {
				v.Hint = cmp.Or(o.Hint(outage.Cause), v.Hint)
			}
		}
	default:
		v.Verdict = Unknown
	}
	for _, f := range e.Findings {
		r := Rule{ID: f.Rule.ID, Outcome: f.Outcome, Title: f.Rule.Title}
		switch f.Outcome {
		case assertion.Fail:
			r.Detail, r.Hint, r.Spec = Printable(f.Rejection.Sentence), Printable(f.Rejection.Hint), f.Rule.Spec
		case assertion.Unknown:
			r.Detail = "not known: give " + o.Give[f.Needs]
		case assertion.Pass, assertion.Skipped:
		}
		v.Rules = append(v.Rules, r)
	}
	if e.Party != nil {
		v.Party = string(e.Party.ID)
	}
	for i, cert := range e.Certificates {
		v.Certificates = append(v.Certificates, Certificate{
			Subject: Printable(Subject(cert)), Issuer: Printable(cert.Issuer.String()), Key: keyOf(cert), Thumbprint: ishare.Thumbprint(cert.Raw),
			NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), PartyIDs: ishare.CertificateIDs(cert),
			Anchor: e.Chain != nil && i == e.Chain.Len()-1, SelfIssued: bytes.Equal(cert.RawIssuer, cert.RawSubject),
			Name: Printable(cmp.Or(cert.Subject.CommonName, Subject(cert))), Authority: cert.IsCA,
			NotIssuer: i > 0 && !issued(cert, e.Certificates[i-1]),
		})
	}
	if list := e.TrustedList; list != nil {
		v.TrustedList = fmt.Sprintf("granted authorities: %d, asked %s", list.Granted, list.Fetched.UTC().Format(time.RFC3339))
		if list.Err != nil {
			v.TrustedList = "not to be had: " + Printable(list.Err.Error())
		}
	}
	for _, s := range e.Revocation {
		v.Revocation = append(v.Revocation, Printable(statusOf(s)))
	}
	return v
}

// statusOf is what was said of one certificate, in a line.
func statusOf(f revocation.Status) string {
	about := fmt.Sprintf("x5c[%d] ", f.Index)
	switch {
	case f.Source == "" && f.Err != nil:
		return about + "no answer: " + f.Err.Error()
	case f.Source == "":
		return about + "no answer"
	case f.Revoked != "":
		return about + f.Source + " " + f.Address + ": " + f.Revoked
	}
	return about + f.Source + " " + f.Address + ": not revoked, says the answer until " + f.NextUpdate.UTC().Format(time.RFC3339)
}

// issued reports whether one certificate was issued by another, by names and signature.
func issued(by, cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, by.RawSubject) && by.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

func keyOf(cert *x509.Certificate) string {
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok {
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	}
	return cert.PublicKeyAlgorithm.String()
}

// Subject is the subject of a certificate as people know it: the standard library gives the
// organizationIdentifier as a number and hex.
func Subject(cert *x509.Certificate) string {
	subject := cert.Subject
	var extra []string
	for _, attribute := range subject.Names {
		if attribute.Type.String() == "2.5.4.97" {
			extra = append(extra, fmt.Sprintf(",organizationIdentifier=%v", attribute.Value))
		}
	}
	subject.Names = nil // what is left are the attributes that have names
	return subject.String() + strings.Join(extra, "")
}

// Bounds of what is shown of an assertion.
const (
	maxFields = 40
	maxValue  = 200
)

// fields lists the members of a part of a JWT as they stand there, duplicates included.
func fields(part string, at time.Time) []Field {
	decoded := decodePart(part)
	d := jsontext.NewDecoder(bytes.NewReader(decoded), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil
	}
	var all []Field
	for len(all) < maxFields && d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return all
		}
		field := Field{Name: cut(name.String())}
		value, err := d.ReadValue()
		if err != nil {
			return all
		}
		all = append(all, field.with(value.Clone(), at))
	}
	return all
}

// with gives the field its value, and says in words what people cannot read.
func (f Field) with(value jsontext.Value, at time.Time) Field {
	var list []jsontext.Value
	if f.Name == "x5c" && json.Unmarshal(value, &list) == nil {
		f.Value = fmt.Sprintf("%d certificates", len(list))
		if len(list) == 1 {
			f.Value = "1 certificate"
		}
		return f
	}
	f.Value = cut(string(value))
	var text string
	if json.Unmarshal(value, &text) == nil {
		f.Value = cut(text)
	}
	var seconds float64
	if slices.Contains([]string{"iat", "exp", "nbf"}, f.Name) && json.Unmarshal(value, &seconds) == nil && math.Abs(seconds) < maxSeconds {
		then := time.UnixMilli(int64(math.Round(seconds * 1000)))
		f.About = stamp(then)
		if f.Name != "iat" {
			f.About += ", " + relative(then.Sub(at))
		}
	}
	return f
}

func relative(d time.Duration) string {
	switch {
	case d > 0:
		return inWords(d) + " later"
	case d < 0:
		return inWords(-d) + " earlier"
	}
	return "just then"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// inWords is a length of time in words, to two figures.
func inWords(d time.Duration) string {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if d >= 2*unit.size {
			return fmt.Sprintf("%d %ss", d/unit.size, unit.name)
		}
	}
	if d.Round(time.Second) == time.Second {
		return "1 second"
	}
	return fmt.Sprintf("%d seconds", d.Round(time.Second)/time.Second)
}

func cut(s string) string {
	if runes := []rune(s); len(runes) > maxValue {
		s = string(runes[:maxValue]) + "…"
	}
	return Printable(s)
}

func clean(all []string) []string {
	for i, s := range all {
		all[i] = Printable(s)
	}
	return all
}

// Printable keeps what a stranger wrote from steering a terminal: control characters, and those that turn the direction of
// writing.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ', r == 0x7f, 0x80 <= r && r < 0xa0, 0x200b <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069, r == 0xfeff:
			return '?'
		}
		return r
	}, s)
}
