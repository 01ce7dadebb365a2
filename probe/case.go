package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/rule"
)

// A Weight says how much a case counts.
type Weight string

// The weights. A server that does otherwise than a must fails; otherwise than the others, it gets a warning.
const (
	Must   Weight = "must"   // the specification asks for it, or a server that does otherwise can be deceived
	Should Weight = "should" // the specification recommends it, or asks it of the client alone
	Ours   Weight = "ours"   // the specification is silent, and this is what we found best
)

// What a case needs besides a seal that the server accepts.
const (
	NeedsServer   = "the server's base URL"
	NeedsTestCA   = "a test CA that the server trusts"
	NeedsSecured  = "the URL of a secured endpoint"
	NeedsRevoked  = "a revoked seal"
	NeedsInactive = "the seal of a participant that is not active"
)

// A Case is one thing to try, and what must come of it.
type Case struct {
	// Name is unique, such as claim.aud/array-of-one. What stands before the stroke is the id of the rule that the
	// case is about, or one of right, answer, metadata, capabilities and secured.
	Name string `json:"name"`
	// Official is the name of the case in iSHARE's conformance test, if it is there.
	Official string `json:"official,omitempty"`
	// Rules are the ids of the rules that the case is about; see [rule.All].
	Rules []string `json:"rules,omitempty"`
	// Sends says in a sentence what is sent.
	Sends string `json:"sends"`
	// Wants says what must come of it.
	Wants string `json:"wants"`
	// Weight says how much it counts.
	Weight Weight `json:"weight"`
	// Spec is what the specification says, and where.
	Spec string `json:"spec"`
	// Needs is what must be configured for it besides the seal, or empty.
	Needs string `json:"needs,omitempty"`

	alone    bool                         // can be judged although not even the right request gets a token
	statuses []int                        // of a refusal, besides 400 and 401
	change   func(*draft)                 // makes the request of a right one
	judge    func(Case, *answer) finding  // of the answer to it
	steps    func(Case, *runner) *finding // in place of both: several requests, or none
}

// Group is what stands before the stroke in the name.
func (c Case) Group() string {
	group, _, _ := strings.Cut(c.Name, "/")
	return group
}

// matches says whether the case is meant by what somebody asked for: a name, its beginning, an official name, the id of a
// rule, or the word official.
func (c Case) matches(wanted string) bool {
	return wanted != "" && (strings.HasPrefix(c.Name, wanted) || c.Official == wanted || slices.Contains(c.Rules, wanted) ||
		wanted == "official" && c.Official != "")
}

// miss is the verdict of a server that does otherwise than the case wants.
func (c Case) miss() Verdict {
	if c.Weight == Must {
		return Fail
	}
	return Warn
}

// RightCase is the name of the case on which nearly all others rest: a right request gets a token.
const RightCase = "right/plain"

// Cases is the table: the official cases first, then ours, each in the order in which a server applies its rules.
// [RightCase] is the first, and the last is an official one that waits.
func Cases() []Case {
	all := slices.Concat(
		rightCases(), requestCases(), parameterCases(), compactCases(), headerCases(), headerParameterCases(), x5cCases(), payloadCases(),
		claimCases(), timeCases(), chainCases(), certificateCases(), signatureCases(), partyCases(), replayCases(),
		answerCases(), errorCases(), serverCases(), securedCases(),
	)
	slices.SortStableFunc(all, func(a, b Case) int {
		switch {
		case (a.Official == "") == (b.Official == ""):
			return 0
		case a.Official != "":
			return -1
		}
		return 1
	})
	return append(all, expiryCase())
}

// Select returns the cases that are meant: by name, the beginning of names, an official name, the id of a rule, or the
// word official. Without a wish all are meant. The error is an [UnknownCaseError] when one of the wishes means none.
func Select(wishes ...string) ([]Case, error) {
	all := Cases()
	if len(wishes) == 0 {
		return all, nil
	}
	for _, wish := range wishes {
		if !slices.ContainsFunc(all, func(c Case) bool { return c.matches(wish) }) {
			return nil, UnknownCaseError(wish)
		}
	}
	return slices.DeleteFunc(all, func(c Case) bool {
		return !slices.ContainsFunc(wishes, c.matches)
	}), nil
}

// An UnknownCaseError is the text that means no case.
type UnknownCaseError string

func (e UnknownCaseError) Error() string {
	return fmt.Sprintf("%q: no case is called so, nor begins so, nor is about a rule of this id", string(e))
}

// refused completes cases in which a request must be refused because of a rule.
func refused(reason *rule.Rule, cases []Case) []Case {
	for i := range cases {
		c := &cases[i]
		c.Name = reason.ID + "/" + c.Name
		c.Rules = []string{reason.ID}
		c.complete("a refusal", reason.Spec)
		if c.judge == nil {
			c.judge = mustRefuse
		}
		c.statuses = append(c.statuses, reason.Status)
	}
	return cases
}

// accepted completes cases in which a request must get a token.
func accepted(cases []Case) []Case {
	for i := range cases {
		c := &cases[i]
		c.Name = "right/" + c.Name
		c.complete("a token", "")
		c.judge = mustAccept
	}
	return cases
}

// grouped completes cases that are no token requests.
func grouped(group, needs string, cases []Case) []Case {
	for i := range cases {
		c := &cases[i]
		c.Name, c.Needs = group+"/"+c.Name, needs
		c.complete("", "")
	}
	return cases
}

func (c *Case) complete(wants, spec string) {
	if c.Weight == "" {
		c.Weight = Must
	}
	if c.Wants == "" {
		c.Wants = wants
	}
	if c.Spec == "" {
		c.Spec = spec
	}
}
