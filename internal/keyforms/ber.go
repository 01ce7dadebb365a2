package keyforms

import (
	"bytes"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxDepth = 32 // far above the nesting of any form

	constructed = 0x20 // the bit of a tag that says that the element holds others
	number      = 0x1f // the bits of a tag that number it
	indefinite  = 0x80 // the first octet of a length that an end-of-contents ends
)

var (
	endOfContents = []byte{0, 0} // behind an element of indefinite length

	errCutOff = errors.New("its end is missing")
	errBER    = errors.New("its encoding is not BER (X.690)")
)

// toDER takes the first element of BER, and gives it with definite and shortest lengths and
// with strings in one piece (X.690 sections 8.1.3, 8.7.3 and 10), and what stands behind
// it. PKCS#12 and PKCS#7 may be BER (RFC 7292 section 3), and NSS, Java and GnuTLS have
// written it. A string with an implicit tag stays in its pieces; see [octets].
func toDER(ber []byte) (der, rest []byte, err error) {
	e, rest, err := parseElement(ber, maxDepth)
	if err != nil {
		return nil, nil, err
	}
	return e.append(nil), rest, nil
}

// An element is one tag with its content, of which there is one: octets, or other elements.
type element struct {
	tag     byte
	content []byte
	parts   []element
}

func parseElement(ber []byte, depth int) (e element, rest []byte, err error) {
	length, ended, head, err := header(ber)
	if err != nil {
		return e, nil, err
	}
	e.tag = ber[0]
	body, rest := ber[head:], []byte(nil)
	if ended {
		body, rest = body[:length], body[length:]
	}
	switch {
	case e.tag&constructed == 0 && !ended:
		return e, nil, errBER
	case e.tag&constructed == 0:
		e.content = body
		return e, rest, nil
	case depth == 0:
		return e, nil, errBER
	}
	for !ended && !bytes.HasPrefix(body, endOfContents) || ended && len(body) > 0 {
		var part element
		if part, body, err = parseElement(body, depth-1); err != nil && ended {
			return e, nil, errBER
		} else if err != nil {
			return e, nil, err
		}
		e.parts = append(e.parts, part)
	}
	if !ended {
		rest = body[len(endOfContents):]
	}
	if e.tag != byte(asn1.OCTET_STRING)|constructed {
		return e, rest, nil
	}
	for _, part := range e.parts { // of a string that came in several pieces
		if part.tag != byte(asn1.OCTET_STRING) {
			return e, rest, errBER
		}
		e.content = append(e.content, part.content...)
	}
	e.tag, e.parts = byte(asn1.OCTET_STRING), nil
	return e, rest, nil
}

// header reads tag and length. Ended tells that the length is stated, and is there in full.
func header(ber []byte) (length int, ended bool, head int, err error) {
	switch {
	case len(ber) < 2:
		return 0, false, 0, errCutOff
	case ber[0]&number == number: // a tag of several octets; no form has any
		return 0, false, 0, errBER
	case ber[1] == indefinite:
		return 0, false, 2, nil
	}
	length, head = int(ber[1]), 2
	if octets := length - indefinite; octets > 0 {
		if octets > 4 {
			return 0, false, 0, errBER
		}
		head += octets
		if len(ber) < head {
			return 0, false, 0, errCutOff
		}
		length = 0
		for _, b := range ber[2:head] {
			length = length<<8 | int(b)
		}
	}
	if length < 0 || length > len(ber)-head {
		return 0, false, 0, errCutOff
	}
	return length, true, head, nil
}

func (e *element) append(der []byte) []byte {
	content := e.content
	for i := range e.parts {
		content = e.parts[i].append(content)
	}
	b := cryptobyte.NewBuilder(der)
	b.AddASN1(asn1.Tag(e.tag), func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return b.BytesOrPanic() // the content is shorter than the input, whose length was an int
}

// octets reads an OCTET STRING under an implicit tag, which BER may have cut into pieces.
func octets(s *cryptobyte.String, tag asn1.Tag) ([]byte, bool) {
	var content, part cryptobyte.String
	if s.PeekASN1Tag(tag) {
		ok := s.ReadASN1(&content, tag)
		return content, ok
	}
	if !s.ReadASN1(&content, tag|constructed) {
		return nil, false
	}
	var joined []byte
	for !content.Empty() {
		if !content.ReadASN1(&part, asn1.OCTET_STRING) {
			return nil, false
		}
		joined = append(joined, part...)
	}
	return joined, true
}
