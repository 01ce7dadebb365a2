package rule_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/rule"
)

// An audience is parsed once, and then judged by a table of checks.
func ExampleEvaluate() {
	type input struct{ audience, server string }
	checks := []rule.Check[input]{
		{Rule: rule.ClaimAud, Apply: func(in input) *rule.Rejection {
			if in.audience == in.server {
				return nil
			}
			return rule.ClaimAud.Because("aud is %s; this server is %s", rule.Quote(in.audience), in.server)
		}},
	}
	err := rule.Evaluate(nil, input{"did:ishare:EU.NL.NTRNL-10000009", "did:ishare:EU.NL.NTRNL-10000000"}, checks)

	rejection, _ := rule.Classify(err)
	fmt.Println(rejection.Rule.Status, rejection.Rule.Code)
	fmt.Println(rejection.Description())
	// Output:
	// 400 invalid_client
	// claim.aud: aud is 'did:ishare:EU.NL.NTRNL-10000009'; this server is did:ishare:EU.NL.NTRNL-10000000
}

// A refusal that rests on something out of reach is a guess, and so is none.
func ExampleClassify() {
	outage := &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: 5 * time.Second, Cause: errors.New("connection refused")}
	rejection, found := rule.Classify(errors.Join(rule.PartyUnknown.Reject(), outage))

	fmt.Println(rejection == nil, found.Rule.Status, found.RetryAfter)
	fmt.Println(found.Description()) // for the caller: without the cause
	// Output:
	// true 503 5s
	// unavailable.registry: the Participant Registry is out of reach
}
