package sandbox

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/waybill-token/waybill/ishare"
)

// Framework is the version of the iSHARE framework that the registry speaks.
type Framework string

// The frameworks.
const (
	Framework3 Framework = "3.0"
	Framework2 Framework = "2"
)

// identifiers puts those of a party in the order in which the framework has them.
func (f Framework) identifiers(did, eori ishare.PartyID) (canonical, alias ishare.PartyID) {
	if f == Framework2 {
		return eori, did
	}
	return did, eori
}

// A dialect is how a version of the framework writes what a registry says. Each
// answer is the member of a JSON object that holds a token, and the payload of
// the token around an envelope.
type dialect struct {
	trustedListPath string
	search          func(url.Values) (search, error)
	party           func(entry) answer
	parties         func(page) answer
	trustedList     func([]trustedCA) answer
	capabilities    func(offer) answer
}

// An answer is what is to be signed, and under which name it is sent.
type answer struct {
	name    string
	payload func(envelope) any
}

// An envelope holds the claims of everything that a registry signs (iSHARE 3.0,
// iSHARE JWT).
type envelope struct {
	Issuer   ishare.PartyID `json:"iss"`
	Subject  ishare.PartyID `json:"sub"`
	Audience ishare.PartyID `json:"aud,omitempty"` // nobody: for everybody
	ID       string         `json:"jti"`
	IssuedAt int64          `json:"iat"`
	Expires  int64          `json:"exp"`
}

// An offer is what a registry says that it can do.
type offer struct {
	party      ishare.PartyID
	base       string // URL of the registry
	restricted bool   // the caller has a token and sees everything
}

// dialectOf is the dialect of a framework.
func dialectOf(f Framework) dialect {
	if f == Framework2 {
		return dialect2()
	}
	return dialect3()
}

// Pages of a search (iSHARE 3.0, parties).
const (
	defaultPerPage = 10
	maxPerPage     = 100
)

var errPage = errors.New("a page is a number from 1, with at most 100 parties on it")

func pageOf(q url.Values, pageKey, sizeKey string) (number, size int, err error) {
	if number, err = numberOf(q.Get(pageKey), 1); err != nil {
		return 0, 0, err
	}
	if size, err = numberOf(q.Get(sizeKey), defaultPerPage); err != nil {
		return 0, 0, err
	}
	if size > maxPerPage {
		return 0, 0, errPage
	}
	return number, size, nil
}

func numberOf(text string, fallback int) (int, error) {
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1_000_000 {
		return 0, errPage
	}
	return n, nil
}
