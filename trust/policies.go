package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/rule"
)

// Object identifiers as they are encoded, by which policies are compared.
const (
	anyPolicy           = "\x55\x1d\x20\x00"                 // 2.5.29.32.0
	qualifierCPS        = "\x2b\x06\x01\x05\x05\x07\x02\x01" // id-qt-cps
	qualifierUserNotice = "\x2b\x06\x01\x05\x05\x07\x02\x02" // id-qt-unotice
)

// absent is the number of certificates to skip when the certificate states none: more than there are.
const absent = math.MaxInt64

// policies is what a certificate says of certificate policies.
type policies struct {
	present  bool // the extension certificatePolicies
	listed   []string
	any      bool
	mappings []policyMapping

	requireExplicit, inhibitMapping, inhibitAny int64 // certificates to skip, or absent
}

// A policyMapping says that a policy of the issuer's is equal to one of the subject's.
type policyMapping struct{ issuer, subject string }

// A policyState is the state of path validation (RFC 5280 section 6.1.2) that is about policies, with the default
// inputs: any policy will do, none is demanded, policies may be mapped, and anyPolicy is taken as it stands.
//
// Of the valid_policy_tree only the lowest level is kept, as a set. With these inputs nobody asks which of the root's
// policies a node descends from; nodes of one level with the same valid_policy have the same expected_policy_set; and a
// branch that ends is pruned whether or not it is kept. So the tree is NULL when the level is empty, and the work grows
// with the size of the certificates and not with the paths through the tree.
type policyState struct {
	expected map[string]struct{} // the union of the expected_policy_sets, without anyPolicy
	any      bool                // the level has the node anyPolicy

	explicit, mapping, inhibitAny int64 // the counters explicit_policy, policy_mapping and inhibit_anyPolicy
}

// policiesHold: RFC 5280 sections 6.1.2 to 6.1.5 as far as they are about policies. What an anchor says counts like the
// word of an issuer (RFC 5937 section 3.2), but an anchor that names no policies does not rule out every one.
func policiesHold(c chainInput) *rule.Rejection {
	n := int64(c.anchor)
	s := policyState{expected: map[string]struct{}{}, any: true, explicit: n + 1, mapping: n + 1, inhibitAny: n + 1}
	demanding := 0 // whose requireExplicitPolicy counts
	for i := c.anchor; i >= 0; i-- {
		cert := c.certificates[i]
		p, err := readPolicies(cert)
		if err != nil {
			return rule.ChainIssuer.Because("%s has policies that cannot be processed: %s", c.label(i), err).WithHint(hintReissue)
		}
		selfIssued := i > 0 && c.isSelfIssued(i)
		if i < c.anchor || p.present {
			s.narrow(p, s.inhibitAny > 0 || selfIssued)
		}
		if i == 0 {
			s.explicit = max(s.explicit-1, 0)
			if p.requireExplicit == 0 {
				s.explicit, demanding = 0, 0
			}
		}
		if s.explicit == 0 && !s.any && len(s.expected) == 0 { // no policy is valid for the certificates so far
			return rule.ChainIssuer.Because("%s demands a certificate policy that holds for the whole chain (policyConstraints), and none is left at %s", c.label(demanding), c.label(i)).
				WithHint("The CA must issue the certificate under a policy that its own certificate allows; certificates of another product of the same CA may have it.")
		}
		if i == 0 {
			return nil
		}
		if p.requireExplicit < s.explicit {
			demanding = i
		}
		// For the next certificate: section 6.1.4 (a), (b) and (h) to (j).
		if err := s.apply(p.mappings); err != nil {
			return rule.ChainIssuer.Because("%s has policies that cannot be processed: %s", c.label(i), err).WithHint(hintReissue)
		}
		if !selfIssued && i < c.anchor {
			s.explicit, s.mapping, s.inhibitAny = max(s.explicit-1, 0), max(s.mapping-1, 0), max(s.inhibitAny-1, 0)
		}
		s.explicit, s.mapping, s.inhibitAny = min(s.explicit, p.requireExplicit), min(s.mapping, p.inhibitMapping), min(s.inhibitAny, p.inhibitAny)
	}
	return nil
}

// narrow goes one certificate down: section 6.1.3 (d) and (e).
func (s *policyState) narrow(p *policies, anyCounts bool) {
	valid := map[string]struct{}{}
	if p.any && anyCounts {
		valid = s.expected // every one that is expected, and those that follow
	}
	for _, id := range p.listed {
		if _, expected := s.expected[id]; expected || s.any {
			valid[id] = struct{}{}
		}
	}
	s.expected, s.any = valid, s.any && p.any && anyCounts
}

// apply replaces policies by those to which they are mapped: section 6.1.4 (a) and (b).
func (s *policyState) apply(mappings []policyMapping) error {
	var subjects []string
	mapped := map[string]struct{}{}
	for _, m := range mappings {
		if m.issuer == anyPolicy || m.subject == anyPolicy {
			return errors.New("anyPolicy is mapped")
		}
		mapped[m.issuer] = struct{}{}
		if _, valid := s.expected[m.issuer]; s.mapping > 0 && (valid || s.any) {
			subjects = append(subjects, m.subject)
		}
	}
	for issuer := range mapped {
		delete(s.expected, issuer)
	}
	for _, subject := range subjects {
		s.expected[subject] = struct{}{}
	}
	return nil
}

// readPolicies reads the extensions that are about policies (RFC 5280 sections 4.2.1.4, 4.2.1.5, 4.2.1.11 and
// 4.2.1.14). crypto/x509 reads them too, and leaves out qualifiers, negative numbers and what stands behind.
func readPolicies(cert *x509.Certificate) (*policies, error) {
	p := &policies{requireExplicit: absent, inhibitMapping: absent, inhibitAny: absent}
	for _, ext := range cert.Extensions {
		ok := true
		switch der := cryptobyte.String(ext.Value); {
		case ext.Id.Equal(certcheck.OIDCertificatePolicies):
			ok = p.readPolicies(der, ext.Critical)
		case ext.Id.Equal(certcheck.OIDPolicyMappings):
			ok = p.readMappings(der)
		case ext.Id.Equal(certcheck.OIDPolicyConstraints):
			ok = p.readConstraints(der)
		case ext.Id.Equal(certcheck.OIDInhibitAnyPolicy):
			ok = der.ReadASN1Integer(&p.inhibitAny) && der.Empty() && p.inhibitAny >= 0
		}
		if !ok {
			return nil, fmt.Errorf("the extension %s is malformed or says more than is known here", certcheck.ExtensionName(ext.Id))
		}
	}
	return p, nil
}

// readPolicies: where the extension is critical, its qualifiers must be known as well.
func (p *policies) readPolicies(der cryptobyte.String, critical bool) bool {
	p.present = true
	var list cryptobyte.String
	if !der.ReadASN1(&list, cbasn1.SEQUENCE) || !der.Empty() {
		return false
	}
	for !list.Empty() {
		var information, id, qualifiers cryptobyte.String
		var qualified bool
		if !list.ReadASN1(&information, cbasn1.SEQUENCE) || !information.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) ||
			!information.ReadOptionalASN1(&qualifiers, &qualified, cbasn1.SEQUENCE) || !information.Empty() {
			return false
		}
		if critical && !knowsQualifiers(qualifiers) {
			return false
		}
		if string(id) == anyPolicy {
			p.any = true
		} else {
			p.listed = append(p.listed, string(id))
		}
	}
	return true
}

func knowsQualifiers(qualifiers cryptobyte.String) bool {
	for !qualifiers.Empty() {
		var qualifier, id cryptobyte.String
		if !qualifiers.ReadASN1(&qualifier, cbasn1.SEQUENCE) || !qualifier.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) ||
			string(id) != qualifierCPS && string(id) != qualifierUserNotice {
			return false
		}
	}
	return true
}

func (p *policies) readMappings(der cryptobyte.String) bool {
	var list cryptobyte.String
	if !der.ReadASN1(&list, cbasn1.SEQUENCE) || !der.Empty() {
		return false
	}
	for !list.Empty() {
		var pair, issuer, subject cryptobyte.String
		if !list.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1(&issuer, cbasn1.OBJECT_IDENTIFIER) ||
			!pair.ReadASN1(&subject, cbasn1.OBJECT_IDENTIFIER) || !pair.Empty() {
			return false
		}
		p.mappings = append(p.mappings, policyMapping{issuer: string(issuer), subject: string(subject)})
	}
	return true
}

func (p *policies) readConstraints(der cryptobyte.String) bool {
	var list cryptobyte.String
	if !der.ReadASN1(&list, cbasn1.SEQUENCE) || !der.Empty() || list.Empty() {
		return false
	}
	for number, skip := range []*int64{&p.requireExplicit, &p.inhibitMapping} {
		tag := cbasn1.Tag(number).ContextSpecific()
		if list.PeekASN1Tag(tag) && (!list.ReadASN1Int64WithTag(skip, tag) || *skip < 0) {
			return false
		}
	}
	return list.Empty()
}
