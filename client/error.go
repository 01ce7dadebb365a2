package client

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/waybill-token/waybill/internal/problem"
	"github.com/waybill-token/waybill/rule"
)

// An Error is an answer that holds no token. None of its fields quotes a token or an assertion.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the error code of RFC 6749 section 5.2, such as invalid_client. It
	// is empty when the answer was none that a token endpoint gives.
	Code string
	// Description is the server's error_description, cut at 500 characters. When
	// Code is empty, it says in our words what is wrong with the answer.
	Description string
	// Said is what the server said in another form than that of RFC 6749, such as
	// HTML or a JSON of its own, cut at 500 characters. It is empty when Code is not.
	Said string
	// RuleID is the rule that failed, when the server names one as Waybill does: see [rule.All].
	RuleID string
	// Hint says what to do about it, as far as is known.
	Hint string
	// RetryAfter is how long the server asks to wait, at most a day, or zero.
	RetryAfter time.Duration
	// ClockOffset is how far the server's clock is ahead of ours, to the second, or zero when it is within two seconds
	// or so, or the server does not tell. It is negative when ours is ahead.
	ClockOffset time.Duration
	// ClockKnown tells that the answer has a Date, so that a ClockOffset of zero means that the clocks agree.
	ClockKnown bool
}

// Error tells status, code, description and what else the server said.
func (e *Error) Error() string {
	s := fmt.Sprintf("client: the token endpoint answered %d", e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Said != "" {
		s += "; it says: " + e.Said
	}
	return s
}

// namedRule takes the rule from "<rule id>: <sentence>", and its hint where it is known here. Words of another server before a
// colon are not taken for a rule.
func namedRule(description string) (id, hint string) {
	id, _, ok := strings.Cut(description, ": ")
	if !ok {
		return "", ""
	}
	if known, _ := rule.Described(description); known != nil {
		return id, known.Hint
	}
	if group, name, _ := strings.Cut(id, "."); isRuleWord(group) && isRuleWord(name) {
		return id, ""
	}
	return "", ""
}

func isRuleWord(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-0123456789") == ""
}

// clean makes a server's text fit for a terminal and a log: of limited length,
// printable, and without the assertion that it may quote.
func clean(s, compact string, limit int) string {
	s = s[:min(len(s), 8*limit)] // bounds the work; an assertion that is cut here is found by its beginning
	s = problem.Without(s, compact)
	s = strings.ToValidUTF8(s, "?")
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s))
	if len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return string(runes)
}
