package trust

import (
	"crypto/x509"
	"errors"
	"strings"
	"sync"
)

// maxOutages bounds how many causes the log is known to know of. When there are more, it may
// be told of one again.
const maxOutages = 1024

// outages are the causes of missing answers that the log was told of, so that one that
// concerns ten thousand certificates is one line. The zero outages is ready to use.
type outages struct {
	mu    sync.Mutex
	known map[string]struct{}
}

// begin reports whether the cause is new.
func (o *outages) begin(cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.known[cause]; known {
		return false
	}
	if o.known == nil || len(o.known) >= maxOutages {
		o.known = map[string]struct{}{}
	}
	o.known[cause] = struct{}{}
	return true
}

// end reports whether the cause was known, and forgets it.
func (o *outages) end(cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known := o.known[cause]
	delete(o.known, cause)
	return known
}

// causeOf names what keeps the status of an issuer's certificates from being found out. Which
// way an address is out of reach does not matter, nor what it says of one port or another.
func causeOf(err error, issuer *x509.Certificate) string {
	fingerprint := FingerprintOf(issuer)
	var cause strings.Builder
	cause.Write(fingerprint[:])
	addSources(&cause, err)
	if cause.Len() == len(fingerprint) {
		cause.WriteString(err.Error())
	}
	return cause.String()
}

func addSources(cause *strings.Builder, err error) {
	if source, ok := err.(*sourceError); ok { //nolint:errorlint // the tree is walked here
		cause.WriteString("\x00" + source.source + " " + call{address: source.address}.circuit() + " ")
		if !errors.As(err, new(*unreachableError)) {
			cause.WriteString(source.cause.Error())
		}
		return
	}
	switch wrapper := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() error }:
		if inner := wrapper.Unwrap(); inner != nil {
			addSources(cause, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			addSources(cause, inner)
		}
	}
}
