package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/rule"
)

// maxComparisons bounds how often a name is held against a constraint for one chain:
// both are for a CA to choose, and their product counts.
const maxComparisons = 1 << 17

// A form is a kind of GeneralName, by its tag (RFC 5280 section 4.2.1.6).
type form uint8

const (
	formOther     form = 0
	formEmail     form = 1
	formDNS       form = 2
	formDirectory form = 4
	formURI       form = 6
	formIP        form = 7
)

// String gives the name of the form in RFC 5280.
func (f form) String() string {
	names := [...]string{"otherName", "rfc822Name", "dNSName", "x400Address", "directoryName", "ediPartyName", "URI", "iPAddress", "registeredID"}
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("name of the form %d", uint8(f))
}

// A generalName is a name of a certificate, or the base of a subtree in a name constraint.
type generalName struct {
	form      form
	text      string // email, DNS and URI, in lower case but for the local part of an address
	directory name
	octets    []byte // IP: an address, or an address and a mask. Another form: as it stands
	// opaque: nobody says here what is within what, for the form is another one or the
	// name is not one that can be compared. Under a constraint of its form, no name passes.
	opaque bool
}

// A nameConstraint is the extension of one CA.
type nameConstraint struct{ permitted, excluded []generalName }

// namesArePermitted: RFC 5280 sections 4.2.1.10, 6.1.3 (b), (c) and 6.1.4 (g). Each CA's
// constraints are held against every certificate below it, those of an anchor too;
// certificates that are self-issued are exempt unless they are the leaf.
func namesArePermitted(c chainInput) *rule.Rejection {
	comparisons := 0
	for i := c.anchor; i > 0; i-- {
		ext, limited := certcheck.Extension(c.certificates[i], certcheck.OIDNameConstraints)
		if !limited {
			continue
		}
		constraint, err := readNameConstraint(ext.Value)
		if err != nil {
			return rule.ChainIssuer.Because("%s has name constraints that cannot be processed: %s", c.label(i), err).WithHint(hintReissue)
		}
		for j := i - 1; j >= 0; j-- {
			if j > 0 && c.isSelfIssued(j) {
				continue
			}
			if err := constraint.permits(c.certificates[j], &comparisons); err != nil {
				return rule.ChainIssuer.Because("the name constraints of %s do not permit %s: %s", c.label(i), c.label(j), err).
					WithHint("The CA may issue certificates for certain names only. Use a certificate of a CA that may name its subject.")
			}
		}
	}
	return nil
}

// permits says why a certificate has a name that it must not have.
func (c *nameConstraint) permits(cert *x509.Certificate, comparisons *int) error {
	names, err := namesOf(cert)
	if err != nil {
		return err
	}
	if *comparisons += len(names) * (len(c.permitted) + len(c.excluded)); *comparisons > maxComparisons {
		return fmt.Errorf("there are more than %d pairs of names and constraints", maxComparisons)
	}
	for _, n := range names {
		for _, base := range c.excluded {
			if base.form == n.form && (base.opaque || n.opaque || n.overlaps(base)) {
				return fmt.Errorf("the %s %sis excluded", n.form, n.quoted())
			}
		}
		limited, within := false, false
		for _, base := range c.permitted {
			if base.form == n.form {
				limited, within = true, within || !base.opaque && !n.opaque && n.within(base)
			}
		}
		if limited && !within {
			return fmt.Errorf("the %s %sis not among the permitted ones", n.form, n.quoted())
		}
	}
	return nil
}

func (n generalName) quoted() string {
	if n.text == "" {
		return ""
	}
	return fmt.Sprintf("%q ", certcheck.Shorten(n.text))
}

// within reports whether a name is in the permitted subtree.
func (n generalName) within(base generalName) bool {
	switch n.form {
	case formDirectory:
		return n.directory.within(base.directory, false)
	case formIP:
		return inNetwork(n.octets, base.octets)
	case formDNS:
		return isHostBelow(n.text, base.text)
	case formEmail, formURI:
		_, host, isAddress := cutAddress(n.text)
		switch {
		case base.text == "":
			return true
		case strings.Contains(base.text, "@"):
			return isAddress && n.text == base.text
		case strings.HasPrefix(base.text, "."):
			return isHostBelow(host, base.text)
		}
		return host == base.text // one host, and not those below it
	default:
		return false
	}
}

// overlaps reports whether a name is in the excluded subtree. A host excludes those
// below it in every form of name, as crypto/x509 has it, a wildcard stands for each
// of its hosts, and a value of a directory name that cannot be compared may be any.
func (n generalName) overlaps(base generalName) bool {
	switch n.form {
	case formDNS, formEmail, formURI:
		if strings.Contains(base.text, "@") {
			return n.text == base.text
		}
		_, host, _ := cutAddress(n.text)
		if below, wildcard := strings.CutPrefix(host, "*."); wildcard && isHostBelow(strings.TrimPrefix(base.text, "."), below) {
			return true
		}
		return isHostBelow(host, base.text)
	case formDirectory:
		return n.directory.within(base.directory, true)
	default:
		return n.within(base)
	}
}

// cutAddress takes a mailbox apart, or gives a host as it is.
func cutAddress(s string) (local, host string, isAddress bool) {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

// isHostBelow: every host is below "", and below ".example.org" is what has more labels.
func isHostBelow(host, base string) bool {
	return base == "" || host == base || strings.HasSuffix(host, "."+strings.TrimPrefix(base, "."))
}

// inNetwork holds an address against an address and a mask of the same family.
func inNetwork(address, network []byte) bool {
	if len(network) != 2*len(address) {
		return false
	}
	for i, octet := range address {
		if mask := network[len(address)+i]; (octet^network[i])&mask != 0 {
			return false
		}
	}
	return true
}

// readNameConstraint reads the extension. A base that cannot be read is an error: as an
// excluded one, it would exclude nothing.
func readNameConstraint(der cryptobyte.String) (*nameConstraint, error) {
	c := &nameConstraint{}
	var list cryptobyte.String
	ok := der.ReadASN1(&list, cbasn1.SEQUENCE) && der.Empty() && !list.Empty()
	for number, subtrees := range []*[]generalName{&c.permitted, &c.excluded} {
		var trees cryptobyte.String
		var present bool
		ok = ok && list.ReadOptionalASN1(&trees, &present, cbasn1.Tag(number).ContextSpecific().Constructed())
		for ok && !trees.Empty() {
			var tree cryptobyte.String
			var base generalName
			// Section 4.2.1.10 has no other minimum than 0, which need not be there, and no maximum.
			ok = trees.ReadASN1(&tree, cbasn1.SEQUENCE) && base.read(&tree, true) &&
				(tree.Empty() || bytes.Equal(tree, []byte{0x80, 1, 0}))
			*subtrees = append(*subtrees, base)
		}
	}
	if !ok || !list.Empty() {
		return nil, fmt.Errorf("the extension %s is malformed", certcheck.ExtensionName(certcheck.OIDNameConstraints))
	}
	return c, nil
}

const oidEmailAddress = "1.2.840.113549.1.9.1"

// namesOf lists the names of a certificate: its subject, its subjectAltName, and the
// addresses of e-mail in the subject when there is no subjectAltName.
func namesOf(cert *x509.Certificate) ([]generalName, error) {
	subject, ok := parseName(cert.RawSubject)
	if !ok {
		return nil, fmt.Errorf("its subject cannot be read")
	}
	var names []generalName
	if len(subject) > 0 {
		names = append(names, generalName{form: formDirectory, directory: subject})
	}
	ext, present := certcheck.Extension(cert, certcheck.OIDSubjectAltName)
	if !present { // RFC 5280 section 4.2.1.10 has those in the subject compared with the constraints on rfc822Name
		for _, attribute := range cert.Subject.Names {
			if attribute.Type.String() == oidEmailAddress {
				text, _ := attribute.Value.(string)
				n := generalName{form: formEmail}
				n.readText(text, false)
				names = append(names, n)
			}
		}
		return names, nil
	}
	var list cryptobyte.String
	der := cryptobyte.String(ext.Value)
	ok = der.ReadASN1(&list, cbasn1.SEQUENCE) && der.Empty()
	for ok && !list.Empty() {
		var n generalName
		ok = n.read(&list, false)
		names = append(names, n)
		if n.mayBeMailbox() {
			names = append(names, generalName{form: formEmail, opaque: true})
		}
	}
	if !ok {
		return nil, fmt.Errorf("its %s has a name that cannot be read", certcheck.ExtensionName(certcheck.OIDSubjectAltName))
	}
	return names, nil
}

// derSMTPUTF8Mailbox is the object identifier 1.3.6.1.5.5.7.8.9 in DER.
const derSMTPUTF8Mailbox = "\x2b\x06\x01\x05\x05\x07\x08\x09"

// mayBeMailbox reports whether a name is a mailbox whose local part goes beyond ASCII, for
// which RFC 9598 has the constraints on rfc822Name count too. Such mailboxes are not
// compared here, so those constraints let none pass. A name whose type cannot be read may be one.
func (n generalName) mayBeMailbox() bool {
	var id cryptobyte.String
	contents := cryptobyte.String(n.octets)
	return n.form == formOther && (!contents.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) || string(id) == derSMTPUTF8Mailbox)
}

// read takes the next GeneralName away.
func (n *generalName) read(from *cryptobyte.String, isBase bool) bool {
	var value cryptobyte.String
	var tag cbasn1.Tag
	const contextSpecific, constructed = 0x80, 0x20
	if !from.ReadAnyASN1(&value, &tag) || tag&0xc0 != contextSpecific {
		return false
	}
	n.form = form(tag &^ (contextSpecific | constructed))
	switch n.form {
	case formDirectory:
		var ok bool
		n.directory, ok = parseName(value)
		return ok
	case formIP:
		address, ok := netip.AddrFromSlice(value)
		n.octets, n.opaque = value, !ok || address.Is4In6() // which is two addresses at once
		if isBase {
			n.opaque = len(value) != 8 && len(value) != 32
		}
	case formDNS, formEmail, formURI:
		n.readText(string(value), isBase)
	default:
		n.octets, n.opaque = value, true
	}
	return true
}

// readText: what stands for hosts is compared without regard to case (RFC 5280 sections
// 7.2 to 7.5), and must be hosts that can be compared.
func (n *generalName) readText(text string, isBase bool) {
	if n.form == formURI && !isBase {
		text = hostOf(text)
	}
	local, host, isAddress := cutAddress(text)
	host = strings.ToLower(host) // and not the local part
	n.text = host
	if isAddress {
		n.text = local + "@" + host
	}
	notGraphic := func(r rune) bool { return r <= ' ' || r > '~' }
	n.opaque = strings.ContainsFunc(text, notGraphic) || strings.HasSuffix(host, ".") || strings.Contains(host, "..") || strings.ContainsAny(host, "/:[]") ||
		strings.ContainsAny(local, `"\()<>,;:@[]`) || // quoted, one mailbox has several spellings (RFC 5321 section 4.1.2)
		isAddress && n.form != formEmail ||
		!isBase && (host == "" || host[0] == '.' || n.form == formEmail && !isAddress)
}

// hostOf is the host of a URI, or "" where it has none or is an IP address, which constraints on URIs do not speak of.
func hostOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return ""
	}
	return u.Hostname()
}

// isSelfIssued: subject and issuer have the same name, as where a CA changes its key (RFC 5280 section 6.1). Several
// rules ask, and names are dear to compare.
func (c chainInput) isSelfIssued(i int) bool {
	self, known := c.selfIssued[i]
	if !known {
		self = SameName(c.certificates[i].RawIssuer, c.certificates[i].RawSubject)
		c.selfIssued[i] = self
	}
	return self
}
