// Package accesstokentest is the conformance suite of [accesstoken.TokenRevocations]: what every
// store must do, whatever keeps its revocations.
package accesstokentest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/ishare"
)

// Run tests the stores that open makes, one for each case. They must have room for a
// thousand revocations. They may hold others, and may be one and the same: every case
// uses tokens, parties and certificates that nobody used before.
func Run(t *testing.T, open func(t *testing.T) accesstoken.TokenRevocations) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(&subject{TokenRevocations: open(t), ctx: t.Context()}); err != nil {
				t.Error(err)
			}
		})
	}
}

// RunShared tests stores that have the same revocations, as several servers have them: what one has revoked, the others
// refuse within [accesstoken.MaxTokenRevocationAge], or they refuse to say. Open returns two or more.
func RunShared(t *testing.T, open func(t *testing.T) []accesstoken.TokenRevocations) {
	t.Helper()
	stores := open(t)
	for i := range stores {
		if err := shared(t.Context(), stores[i], stores); err != nil {
			t.Errorf("revoked at store %d: %v", i, err)
		}
	}
}

func shared(ctx context.Context, at accesstoken.TokenRevocations, stores []accesstoken.TokenRevocations) error {
	one, all, other := fresh(), fresh(), fresh()
	for _, r := range []accesstoken.TokenRevocation{{TokenID: one.ID, Expires: one.Expires}, {Party: all.Party}} {
		if err := at.Revoke(ctx, r); err != nil {
			return err
		}
	}
	revoked := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i, s := range stores {
		for _, c := range []*accesstoken.Claims{one, all} {
			for known := false; !known; <-tick.C {
				asked := time.Now()
				is, err := s.Revoked(ctx, c)
				if known = is && err == nil; !known && err == nil && asked.Sub(revoked) > accesstoken.MaxTokenRevocationAge {
					return fmt.Errorf("store %d lets in %s, and it was revoked %v before", i, c.ID, asked.Sub(revoked))
				}
				if err := ctx.Err(); err != nil {
					return err
				}
			}
		}
		if is, err := s.Revoked(ctx, other); is || err != nil {
			return fmt.Errorf("store %d, a token that nobody has revoked: %v, %w", i, is, orNil(err))
		}
	}
	return nil
}

// A testCase returns what is wrong with the store, so that the suite can be tested
// with stores that are.
type testCase struct {
	name  string
	check func(*subject) error
}

func cases() []testCase {
	return []testCase{
		{"nothing is revoked at first", func(s *subject) error { return s.want(false, fresh(), "a token") }},
		{"one token", func(s *subject) error {
			c := fresh()
			ahead := *c
			ahead.Issued = c.Issued.Add(20 * time.Minute)
			return errors.Join(
				s.Revoke(s.ctx, accesstoken.TokenRevocation{TokenID: c.ID, Expires: c.Expires}),
				s.want(true, c, "the token"),
				s.want(true, &ahead, "the token, issued by a clock that runs ahead"),
				s.want(false, sibling(c, 0), "another token of the party"),
			)
		}},
		{"one token whose expiry nobody knows", func(s *subject) error {
			c := fresh()
			return errors.Join(s.Revoke(s.ctx, accesstoken.TokenRevocation{TokenID: c.ID}), s.want(true, c, "the token"))
		}},
		{"a token that has expired", func(s *subject) error { // it need not be remembered, and is no error
			return s.Revoke(s.ctx, accesstoken.TokenRevocation{TokenID: fresh().ID, Expires: time.Now().Add(-48 * time.Hour)})
		}},
		{"a party", func(s *subject) error {
			c := fresh()
			return s.issuedBefore(accesstoken.TokenRevocation{Party: c.Party}, c)
		}},
		{"a party by the identifier that it used", func(s *subject) error {
			c := fresh()
			return s.issuedBefore(accesstoken.TokenRevocation{Party: c.Client}, c)
		}},
		{"a certificate", func(s *subject) error {
			c := fresh()
			return s.issuedBefore(accesstoken.TokenRevocation{Thumbprint: c.Thumbprint}, c)
		}},
		{"kinds are not mixed up", func(s *subject) error { // one text is a token id and a thumbprint
			c, other := fresh(), fresh()
			other.ID = c.Thumbprint
			return errors.Join(
				s.Revoke(s.ctx, accesstoken.TokenRevocation{Thumbprint: c.Thumbprint}),
				s.want(false, other, "a token whose id is a thumbprint"),
				s.Revoke(s.ctx, accesstoken.TokenRevocation{TokenID: other.ID}),
				s.want(true, other, "the same, revoked"),
				s.want(false, sibling(other, 0), "another token of that party"),
			)
		}},
		{"again", func(s *subject) error {
			c := fresh()
			r := accesstoken.TokenRevocation{Party: c.Party}
			return errors.Join(s.Revoke(s.ctx, r), s.Revoke(s.ctx, r), s.want(true, c, "a token"))
		}},
		{"many at once", many},
		{"what cannot be revoked", unusable},
		{"cancelled", func(s *subject) error {
			ctx, cancel := context.WithCancel(s.ctx)
			cancel()
			if err := s.Revoke(ctx, accesstoken.TokenRevocation{Party: fresh().Party}); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("a cancelled revocation: %w, want context.Canceled", orNil(err))
			}
			return nil
		}},
	}
}

// subject is a store under test.
type subject struct {
	accesstoken.TokenRevocations
	ctx context.Context
}

// fresh makes the claims of a token issued a while ago, of a party of its own.
func fresh() *accesstoken.Claims {
	now := time.Now().Truncate(time.Second)
	return &accesstoken.Claims{
		ID: rand.Text(), Issuer: "did:ishare:EU.NL.NTRNL-10000000",
		Party: ishare.PartyID("urn:party:" + rand.Text()), Client: ishare.PartyID("urn:client:" + rand.Text()), Scope: ishare.Scope{ishare.ScopeISHARE},
		Thumbprint: ishare.Thumbprint([]byte(rand.Text())),
		Issued:     now.Add(-10 * time.Minute), Expires: now.Add(50 * time.Minute),
	}
}

// sibling is a token that the same party gets at another time.
func sibling(c *accesstoken.Claims, later time.Duration) *accesstoken.Claims {
	s := *c
	s.ID = rand.Text()
	s.Issued, s.Expires = c.Issued.Add(later), c.Expires.Add(later)
	return &s
}

// want asks about a token and compares the answer.
func (s *subject) want(revoked bool, c *accesstoken.Claims, what string) error {
	got, err := s.Revoked(s.ctx, c)
	switch {
	case err != nil:
		return fmt.Errorf("%s: Revoked: %w", what, err)
	case got != revoked:
		return fmt.Errorf("%s: Revoked = %v, want %v", what, got, revoked)
	}
	return nil
}

// issuedBefore is what the revocation of all tokens that were issued before it means.
func (s *subject) issuedBefore(r accesstoken.TokenRevocation, c *accesstoken.Claims) error {
	return errors.Join(
		s.want(false, c, "before it"),
		s.Revoke(s.ctx, r),
		s.want(true, c, "a token from before"),
		s.want(true, sibling(c, -23*time.Hour), "a token from long before"),
		s.want(false, sibling(c, 11*time.Minute), "a token from after"),
		s.want(false, fresh(), "a token of somebody else"),
	)
}

func many(s *subject) error {
	const n = 200
	tokens := make([]*accesstoken.Claims, n)
	atOnce := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		tokens[i] = fresh()
		group.Go(func() {
			err := s.Revoke(s.ctx, accesstoken.TokenRevocation{TokenID: tokens[i].ID, Expires: tokens[i].Expires})
			atOnce[i] = errors.Join(err, s.want(true, tokens[i], "a token as soon as it is revoked"))
		})
	}
	group.Wait()
	errs := []error{errors.Join(atOnce...)}
	for i := range n {
		errs = append(errs, s.want(true, tokens[i], "a token when all are revoked"), s.want(false, sibling(tokens[i], 0), "its sibling"))
	}
	return errors.Join(errs...)
}

func unusable(s *subject) error {
	var errs []error
	for name, r := range map[string]accesstoken.TokenRevocation{
		"nothing":                 {},
		"only an expiry":          {Expires: time.Now()},
		"two of them":             {TokenID: "A", Party: "urn:a"},
		"all of them":             {TokenID: "A", Party: "urn:a", Thumbprint: ishare.Thumbprint(nil)},
		"a party with an expiry":  {Party: "urn:a", Expires: time.Now()},
		"no party":                {Party: "a b"},
		"a party of two lines":    {Party: "urn:a\nparty urn:b"},
		"no thumbprint":           {Thumbprint: "ab"},
		"a thumbprint in capital": {Thumbprint: strings.ToUpper(ishare.Thumbprint(nil))},
		"a thumbprint with colon": {Thumbprint: strings.Repeat("ab:", 32)},
		"a token id with a blank": {TokenID: "a b"},
		"a token id too long":     {TokenID: strings.Repeat("a", 1000)},
		"a token id in two lines": {TokenID: "a\nb"},
	} {
		if err := s.Revoke(s.ctx, r); !errors.Is(err, accesstoken.ErrTokenRevocation) {
			errs = append(errs, fmt.Errorf("%s: %w, want ErrTokenRevocation", name, orNil(err)))
		}
	}
	return errors.Join(errs...)
}

// orNil makes nil an error that can be shown.
func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
