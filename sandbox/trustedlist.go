package sandbox

import (
	"crypto/x509"

	"github.com/waybill-token/waybill/trust"
)

// What the trusted list can say of an authority.
const (
	granted   = "granted"
	withdrawn = "withdrawn"
)

// A trustedCA is an item of the trusted list.
type trustedCA struct {
	subject     string
	fingerprint trust.Fingerprint
	granted     bool
}

// status is that of 3.0.
func (ca trustedCA) status() string {
	if ca.granted {
		return granted
	}
	return withdrawn
}

// A trustedList is what the registry says of the two authorities. It goes by its
// list itself when it is asked for a token.
type trustedList struct {
	root, otherRoot *x509.Certificate
	validator       *trust.Validator
	other           *dial
}

func openTrustedList(root, other *x509.Certificate) (*trustedList, error) {
	l := &trustedList{root: root, otherRoot: other}
	var err error
	if l.validator, err = trust.New(l.anchors(withdrawn)); err != nil {
		return nil, err
	}
	l.other = newDial(&dial{
		name: "other-ca", about: "what the trusted list says of the CA of the untrusted consumer",
		choices: []string{withdrawn, granted}, initial: withdrawn,
		turned: func(status string) { l.validator.SetAnchors(l.anchors(status)) },
	})
	return l, nil
}

// items is the list as it stands.
func (l *trustedList) items() []trustedCA { return l.itemsWhen(l.other.get()) }

// itemsWhen is the list when it says this of the other authority.
func (l *trustedList) itemsWhen(other string) []trustedCA {
	return []trustedCA{
		{subject: l.root.Subject.String(), fingerprint: trust.FingerprintOf(l.root), granted: true},
		{subject: l.otherRoot.Subject.String(), fingerprint: trust.FingerprintOf(l.otherRoot), granted: other == granted},
	}
}

func (l *trustedList) anchors(other string) trust.Anchors {
	anchors := trust.Anchors{}
	for _, ca := range l.itemsWhen(other) {
		if ca.granted {
			anchors[ca.fingerprint] = ca.subject
		}
	}
	return anchors
}
