package revocation

import (
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Who said something.
const (
	byOCSP = "OCSP"
	byList = "CRL"
)

// A verdict is what was found out about one certificate.
type verdict struct {
	source     string // byOCSP or byList
	address    string
	thisUpdate time.Time
	nextUpdate time.Time
	revoked    *withdrawal // nil: it is not
}

// inForce says why what was said from thisUpdate to nextUpdate does not count.
func (v verdict) inForce(at time.Time) error {
	switch {
	case v.thisUpdate.After(at.Add(maxSkew)):
		return fmt.Errorf("it begins only on %s", v.thisUpdate.UTC().Format(time.RFC3339))
	case !at.Before(v.nextUpdate):
		return fmt.Errorf("it ended on %s", v.nextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// answer is the verdict with the time for which it is used.
func (v verdict) answer(again, until time.Time) *answer[verdict] {
	if v.revoked.final() {
		again, until = forever(), forever()
	}
	return &answer[verdict]{value: v, again: again, until: until}
}

// A withdrawal is the revocation of a certificate.
type withdrawal struct {
	at     time.Time
	reason reason
}

// final: nothing but a hold is ever lifted (RFC 5280 section 5.3.1).
func (w *withdrawal) final() bool {
	return w != nil && w.reason != certificateHold && w.reason != removeFromCRL
}

// String goes on behind a certificate in a sentence.
func (w *withdrawal) String() string {
	what := "is revoked"
	if w.reason == certificateHold {
		what = "is on hold"
	}
	return fmt.Sprintf("%s since %s (%s)", what, w.at.UTC().Format(time.RFC3339), w.reason)
}

// A reason is a CRLReason (RFC 5280 section 5.3.1).
type reason uint8

const (
	certificateHold reason = ocsp.CertificateHold
	removeFromCRL   reason = ocsp.RemoveFromCRL
)

// reasonOf is the reason with a code that somebody else wrote.
func reasonOf(code int) reason {
	if code < 0 || code > lastReason {
		return lastReason + 1
	}
	return reason(code)
}

const lastReason = ocsp.AACompromise

// String gives the reason as the RFC writes it.
func (r reason) String() string {
	names := [...]string{
		"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
		"certificateHold", "unused", "removeFromCRL", "privilegeWithdrawn", "aACompromise",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return "reason unknown"
}
