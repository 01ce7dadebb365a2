package registry

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/ishare"
)

// A Version is the version of the framework that a Participant Registry speaks.
type Version string

// The versions. The empty Version is [VersionAuto].
const (
	// VersionAuto finds the version out; see [Remote].
	VersionAuto Version = "auto"
	// Version3 is 3.0: partyToken, claims, /trustedList.
	Version3 Version = "3.0"
	// Version2 is every 2.x: party_token, adherence, /trusted_list.
	Version2 Version = "2"
)

// String is the version; that of VersionAuto when none is chosen.
func (v Version) String() string { return string(cmp.Or(v, VersionAuto)) }

// UnmarshalText reads one of the versions.
func (v *Version) UnmarshalText(text []byte) error {
	if _, err := spelling.Choose(text, string(VersionAuto), string(Version3), string(Version2)); err != nil {
		return err
	}
	*v = Version(text)
	return nil
}

// A versionTracker knows the version that one registry speaks: configured, or seen in its answers.
type versionTracker struct {
	configured bool
	current    atomic.Pointer[Version] // nil: not known yet
}

func newVersionTracker(configured Version) (*versionTracker, error) {
	t := &versionTracker{}
	switch configured {
	case "", VersionAuto:
	case Version3, Version2:
		t.configured = true
		t.current.Store(&configured)
	default:
		return nil, fmt.Errorf("version %.20q is not auto, 3.0 or 2", configured)
	}
	return t, nil
}

// version is VersionAuto as long as it is not known.
func (t *versionTracker) version() Version {
	if v := t.current.Load(); v != nil {
		return *v
	}
	return VersionAuto
}

// observe takes note of the version of an answer. A registry that is brought to
// another version is followed, unless the configuration says what to expect.
func (t *versionTracker) observe(v Version) error {
	switch known := t.version(); {
	case v == known:
		return nil
	case t.configured:
		return fmt.Errorf("the registry answers in the form of version %s, and is configured to speak %s", v, known)
	}
	t.current.Store(&v)
	return nil
}

// A question is one request to a registry: a path below its base URL, escaped, and a query.
type question struct {
	path  string
	query url.Values
}

// searches are the other ways to ask for one party. An identifier cannot hold the
// wildcard of the search, so that one search is for one party.
func (v Version) searches(id ishare.PartyID) []question {
	parameters := []string{"id", "alsoKnownAs"}
	if v == Version2 {
		parameters = []string{"id"} // from 2.1 on
		if strings.HasPrefix(string(id), "EU.EORI.") {
			parameters = []string{"eori"}
		}
	}
	questions := make([]question, len(parameters))
	for i, p := range parameters {
		questions[i] = question{path: "parties", query: url.Values{p: {string(id)}}}
	}
	return questions
}

// listQuestions ask for the trusted list where it may be, the likeliest place first.
func (t *versionTracker) listQuestions() []question {
	new3, old2 := question{path: "trustedList"}, question{path: "trusted_list"}
	switch known := t.version(); {
	case t.configured && known == Version2:
		return []question{old2}
	case t.configured:
		return []question{new3}
	case known == Version2:
		return []question{old2, new3}
	}
	return []question{new3, old2}
}
