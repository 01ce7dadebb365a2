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
)

// MaxCertificates is the most certificates that x5c may hold. The longest chain
// in use has four.
const MaxCertificates = 10

// A Header is the decoded JOSE header: well-formed, not judged.
type Header struct {
	members map[string]jsontext.Value
}

// Header decodes the header.
//
// The error wraps [ErrCompact] when the header is not base64url, and [ErrHeader] when
// it is not a strict JSON object.
func (t *Token) Header() (*Header, error) {
	raw, err := decodeSegment(t.header)
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrCompact, err)
	}
	h := &Header{}
	if err := UnmarshalObject(raw, &h.members); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return h, nil
}

// Has reports whether the header holds the parameter. Names are compared with
// regard to case.
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

// Certificates decodes x5c: one to [MaxCertificates] strings, each the standard
// base64 of one DER certificate (RFC 7515 section 4.1.6). The order is the
// sender's, and none of them is trusted.
//
// The error wraps [ErrX5C]; its text is fit for the sender.
func (h *Header) Certificates() ([]*x509.Certificate, error) {
	value, ok := h.members["x5c"]
	if !ok {
		return nil, fmt.Errorf("%w: x5c is missing", ErrX5C)
	}
	entries, err := entriesOf(value)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: x5c is not an array", ErrX5C)
	case len(entries) == 0:
		return nil, fmt.Errorf("%w: x5c is empty", ErrX5C)
	case len(entries) > MaxCertificates:
		return nil, fmt.Errorf("%w: x5c holds more than %d entries", ErrX5C, MaxCertificates)
	}
	chain := make([]*x509.Certificate, len(entries))
	for i, entry := range entries {
		cert, err := parseEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("%w: x5c[%d] %w", ErrX5C, i, err)
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

// entryError is a reason that reads on behind "x5c[1] ".
type entryError string

func (e entryError) Error() string { return string(e) }

const (
	errEntryKind   entryError = "is not a string"
	errEntryPEM    entryError = "is PEM text; it must be the base64 of the DER alone, without BEGIN and END lines"
	errEntryPEM64  entryError = "is base64 of a PEM text; it must be base64 of the DER, which is what stands between the BEGIN and END lines"
	errEntryBase64 entryError = "is not standard base64 with padding and without line breaks"
	errEntryDER    entryError = "is not a DER certificate"
)

var (
	strictStd = base64.StdEncoding.Strict()
	pemBegin  = []byte("-----BEGIN")
)

func parseEntry(entry jsontext.Value) (*x509.Certificate, error) {
	if entry.Kind() != '"' {
		return nil, errEntryKind
	}
	text, err := jsontext.AppendUnquote(nil, entry)
	if err != nil {
		return nil, errEntryKind
	}
	if bytes.Contains(text, pemBegin) {
		return nil, errEntryPEM
	}
	if bytes.ContainsAny(text, "\r\n") { // the decoder would skip them
		return nil, errEntryBase64
	}
	der, err := strictStd.AppendDecode(nil, text)
	if err != nil {
		return nil, errEntryBase64
	}
	if bytes.Contains(der, pemBegin) {
		return nil, errEntryPEM64
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %.120s", errEntryDER, strings.TrimPrefix(err.Error(), "x509: "))
	}
	return cert, nil
}
