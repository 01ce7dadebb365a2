package certparse

import (
	"bytes"
	"fmt"
	"strings"
)

const certificate = "a certificate"

// Describe says what bytes look like, as a noun: "a certificate signing request". It
// looks at their frame alone, so what it names may still be damaged inside.
func Describe(data []byte) string {
	text := bytes.TrimLeft(data, "\ufeff \t\r\n")
	switch {
	case len(text) == 0:
		return "empty"
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return "PEM text"
	case bytes.HasPrefix(data, []byte("\xfe\xed\xfe\xed")), bytes.HasPrefix(data, []byte("\xce\xce\xce\xce")):
		return "a Java keystore of the old kind (JKS)"
	case bytes.HasPrefix(text, []byte("PuTTY-User-Key-File-")), bytes.HasPrefix(text, []byte("ssh-")):
		return "a key for SSH"
	case bytes.HasPrefix(text, []byte("<")):
		return "HTML or XML"
	case data[0] != sequence:
		return "no DER"
	}
	_, content, rest, state := element(data)
	switch {
	case state == indefinite:
		return "BER of indefinite length, not DER"
	case state == short:
		return "cut off: its end is missing"
	case state == broken:
		return "no DER"
	case len(rest) > 0:
		return fmt.Sprintf("followed by %d bytes that do not belong to it", len(rest))
	}
	return shape(content)
}

// sequence is the tag that every form begins with.
const sequence = 0x30

// shape tells what a SEQUENCE is by the tags of what it holds.
func shape(content []byte) string {
	tags, parts := children(content)
	switch {
	case strings.HasPrefix(tags, "\x30\x30\x03") && len(tags) == 3:
		return signed(parts[0])
	case tags == "\x30\x03":
		return "a public key"
	case tags == "\x30\x04":
		return "an encrypted private key (PKCS#8)"
	case strings.HasPrefix(tags, "\x02\x30\x04"):
		return "a private key (PKCS#8)"
	case strings.HasPrefix(tags, "\x02\x04"):
		return "a private key (SEC 1)"
	case tags == "\x02\x02":
		return "a public key"
	case strings.HasPrefix(tags, "\x02\x02\x02"):
		return "a private key (PKCS#1)"
	case strings.HasPrefix(tags, "\x02\x30"):
		return "PKCS#12"
	case strings.HasPrefix(tags, "\x06"):
		return "PKCS#7"
	}
	return "no certificate, key or PKCS#12"
}

// signed tells certificates, requests and revocation lists apart, whose frames are alike.
func signed(tbs []byte) string {
	tags, parts := children(tbs)
	switch {
	case strings.HasPrefix(tags, "\x02\x30\x30"): // version or serial number, and a name or an algorithm
		if inner, _ := children(parts[1]); !strings.HasPrefix(inner, "\x06") {
			return "a certificate signing request"
		}
		if strings.HasPrefix(tags, "\x02\x30\x30\x17") || strings.HasPrefix(tags, "\x02\x30\x30\x18") {
			return "a revocation list"
		}
	case strings.HasPrefix(tags, "\x30\x30\x17"), strings.HasPrefix(tags, "\x30\x30\x18"):
		return "a revocation list"
	}
	return certificate
}

// children gives the tags of the first elements and what they hold, as far as they can be read.
func children(content []byte) (string, [][]byte) {
	var tags []byte
	var parts [][]byte
	for len(content) > 0 && len(tags) < 8 {
		tag, inner, rest, state := element(content)
		if state != whole {
			break
		}
		tags, parts, content = append(tags, tag), append(parts, inner), rest
	}
	return string(tags), parts
}

// What became of the reading of an element.
const (
	whole = iota
	short
	indefinite
	broken
)

// element reads one element with a length of its own (X.690 section 8.1.3).
func element(data []byte) (tag byte, content, rest []byte, state int) {
	if len(data) < 2 {
		return 0, nil, nil, short
	}
	tag, length, head := data[0], int(data[1]), 2
	switch {
	case length == 0x80:
		return tag, nil, nil, indefinite
	case length > 0x84:
		return tag, nil, nil, broken
	case length > 0x80:
		head += length - 0x80
		if len(data) < head {
			return tag, nil, nil, short
		}
		length = 0
		for _, b := range data[2:head] {
			length = length<<8 | int(b)
		}
	}
	if length < 0 || len(data)-head < length {
		return tag, nil, nil, short
	}
	return tag, data[head : head+length], data[head+length:], whole
}
