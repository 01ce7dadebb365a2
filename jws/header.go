package jws

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/certparse"
)

// MaxCertificates is the most certificates that x5c may hold. The longest chain in use has four.
const MaxCertificates = 10

// A Header is the decoded JOSE header: well-formed, not judged.
type Header struct {
	members map[string]jsontext.Value
}

// Header decodes the header.
//
// The error is a [*FlawError]. It wraps [ErrCompact] when the header is not base64url, and
// [ErrHeader] when it is not a strict JSON object.
func (t *Token) Header() (*Header, error) {
	raw, flaw := decodePart("header", t.header)
	if flaw != nil {
		return nil, flaw
	}
	h := &Header{}
	if err := UnmarshalObject(raw, &h.members); err != nil {
		return nil, &FlawError{Sentence: "the header " + err.Error(), kind: ErrHeader}
	}
	return h, nil
}

// Has reports whether the header holds the parameter. Names are compared with regard to case.
func (h *Header) Has(name string) bool {
	_, ok := h.members[name]
	return ok
}

// Text returns the parameter's value when it is present and a string.
func (h *Header) Text(name string) (string, bool) {
	v := h.members[name]
	if v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

// Others lists, sorted, the parameters besides those named.
func (h *Header) Others(names ...string) []string {
	var others []string
	for name := range h.members {
		if !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return others
}

// Certificates decodes x5c: one to [MaxCertificates] strings, each the standard base64 of one DER certificate (RFC 7515
// section 4.1.6). The order is the sender's, and none of them is trusted.
//
// The certificates of issuers come again with every seal that they issue. So known, if it is not nil, is asked for those
// behind the first: it gives the certificate of a DER that it has already, and nil otherwise.
//
// The error is a [*FlawError] that wraps [ErrX5C].
func (h *Header) Certificates(known func(der []byte) *x509.Certificate) ([]*x509.Certificate, error) {
	value, ok := h.members["x5c"]
	if !ok {
		return nil, &FlawError{Sentence: "x5c is missing", kind: ErrX5C}
	}
	entries, err := entriesOf(value)
	switch {
	case err != nil && value.Kind() == '"':
		return nil, &FlawError{"x5c is one string, not an array", "Make x5c an array of strings, also of one certificate.", ErrX5C}
	case err != nil:
		return nil, &FlawError{"x5c is not an array", "Make x5c an array of strings, one for each certificate.", ErrX5C}
	case len(entries) == 0:
		return nil, &FlawError{Sentence: "x5c is empty", kind: ErrX5C}
	case len(entries) > MaxCertificates:
		return nil, &FlawError{
			fmt.Sprintf("x5c holds more than %d entries", MaxCertificates),
			"Send the seal and the CAs above it, each once; other certificates of the file do not belong there.", ErrX5C,
		}
	}
	chain := make([]*x509.Certificate, len(entries))
	for i, entry := range entries {
		parse := certparse.Parse
		if i > 0 && known != nil {
			parse = func(der []byte) (*x509.Certificate, error) {
				if cert := known(der); cert != nil {
					return cert, nil
				}
				return certparse.Parse(der)
			}
		}
		cert, flaw := parseEntry(entry, parse)
		if flaw != nil {
			return nil, &FlawError{fmt.Sprintf("x5c[%d] %s", i, flaw.Sentence), flaw.Hint, ErrX5C}
		}
		chain[i] = cert
	}
	return chain, nil
}

// entriesOf takes an array apart, as far as one entry too many: an array of a
// thousand small things takes no more memory than an honest one.
func entriesOf(array jsontext.Value) ([]jsontext.Value, error) {
	var entries []jsontext.Value
	d := jsontext.NewDecoder(bytes.NewReader(array))
	if begin, err := d.ReadToken(); err != nil || begin.Kind() != '[' {
		return nil, errors.New("not an array")
	}
	for len(entries) <= MaxCertificates && d.PeekKind() != ']' {
		entry, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry.Clone())
	}
	return entries, nil
}

// Hints about entries.
const (
	hintPEM  = "Put in x5c what stands between the lines BEGIN and END of each certificate, joined to one line."
	hintText = "Each entry is the standard base64 of one certificate in DER, with padding, on one line: the lines between BEGIN and END of a PEM file, joined."
	hintURL  = "Encode the certificates in standard base64, which has + and / in place of - and _, and padding: x5c is the one part of a JWT that is not base64url (RFC 7515 section 4.1.6)."
	hintDER  = "Each entry is one whole certificate in DER, in standard base64: compare it with the lines between BEGIN and END of the PEM file."
)

var (
	strictStd = base64.StdEncoding.Strict()
	pemBegin  = []byte("-----BEGIN")
)

// parseEntry reads one certificate. The sentence of the flaw reads on behind "x5c[1] ".
func parseEntry(entry jsontext.Value, parse func(der []byte) (*x509.Certificate, error)) (*x509.Certificate, *FlawError) {
	text, err := jsontext.AppendUnquote(nil, entry)
	if entry.Kind() != '"' || err != nil {
		return nil, &FlawError{Sentence: "is not a string", Hint: hintText}
	}
	if bytes.Contains(text, pemBegin) {
		return nil, &FlawError{Sentence: "is PEM text; it must be the base64 of the DER alone, without BEGIN and END lines", Hint: hintPEM}
	}
	der, err := strictStd.AppendDecode(nil, text)
	if err != nil || bytes.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, base64Flaw(text)
	}
	switch {
	case len(der) == 0:
		return nil, &FlawError{Sentence: "is an empty string", Hint: hintText}
	case bytes.Contains(der, pemBegin):
		return nil, &FlawError{Sentence: "is base64 of a PEM text; it must be base64 of the DER, which is what stands between the BEGIN and END lines", Hint: hintPEM}
	}
	cert, err := parse(der)
	if err == nil {
		return cert, nil
	}
	flaw := &FlawError{Sentence: "cannot be read", Hint: hintDER}
	if e, ok := errors.AsType[*certparse.Error](err); ok {
		flaw.Sentence = e.Reason
		switch {
		case e.Issued:
			flaw.Hint = certparse.Reissue
		case strings.Contains(e.Reason, "PKCS#7"):
			flaw.Hint = "Take the certificates out of the PKCS#7 (openssl pkcs7 -print_certs), and make each an entry of x5c, leaf first."
		}
	}
	return nil, flaw
}

// base64Flaw finds why a text is not the standard base64 of a certificate.
func base64Flaw(text []byte) *FlawError {
	const sentence = "is not standard base64"
	url := bytes.ContainsAny(text, "-_") && !bytes.ContainsAny(text, "+/")
	padded := len(text)%4 == 0
	bare := bytes.TrimRight(text, "=")
	_, err := base64.RawStdEncoding.Strict().AppendDecode(nil, bare)
	switch {
	case bytes.ContainsAny(text, "\r\n \t"):
		return &FlawError{Sentence: sentence + ": it holds line breaks or blanks", Hint: "Join the lines of the base64 to one, without line breaks and blanks, as base64 -w0 writes it."}
	case url:
		return &FlawError{Sentence: sentence + " but base64url: it holds - or _", Hint: hintURL}
	case err == nil && !padded:
		return &FlawError{Sentence: sentence + ": its padding, = at the end, is missing", Hint: hintText}
	}
	return &FlawError{Sentence: sentence, Hint: hintText}
}
