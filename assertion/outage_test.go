package assertion_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/rule"
)

var errGone = errors.New("connection refused")

// What cannot be found out is neither a yes nor a no, and the assertion is not used
// up by it.
func TestOutages(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(w *world)
		rule  *rule.Rule
		asked asked
	}{
		{"registry", func(w *world) { w.registry.err = errGone }, rule.UnavailableRegistry, asked{1, 0, 0}},
		{"registry without an answer", func(w *world) { w.registry.empty, w.registry.records = true, nil }, rule.UnavailableRegistry, asked{1, 0, 0}},
		{"registry that was itself refused", func(w *world) { w.registry.err = fmt.Errorf("registry: %w", rule.ClaimExp.Reject()) }, rule.UnavailableRegistry, asked{1, 0, 0}},
		{"registry that does not know, through an outage", func(w *world) {
			w.registry.err = errors.Join(ishare.ErrUnknownParty, &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: time.Second, Cause: errGone})
		}, rule.UnavailableRegistry, asked{1, 0, 0}},
		{"revocation by another rule", func(w *world) { w.revocation.err = fmt.Errorf("OCSP: %w", rule.ChainUntrusted.Reject()) }, rule.UnavailableRevocation, asked{1, 1, 0}},
		{"revocation, half of it", func(w *world) {
			w.revocation.err = errors.Join(rule.CertificateRevoked.Reject(), &rule.Outage{Rule: rule.UnavailableRevocation, RetryAfter: time.Second, Cause: errGone})
		}, rule.UnavailableRevocation, asked{1, 1, 0}},
		{"replay that was itself refused", func(w *world) { w.memory.err = fmt.Errorf("store: %w", rule.ClaimExp.Reject()) }, rule.UnavailableState, asked{1, 1, 1}},
		{"revocation", func(w *world) { w.revocation.err = errGone }, rule.UnavailableRevocation, asked{1, 1, 0}},
		{"replay", func(w *world) { w.memory.err = errGone }, rule.UnavailableState, asked{1, 1, 1}},
		{"replay is full", func(w *world) { w.memory.err = replay.ErrFull }, rule.UnavailableState, asked{1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				v, compact := w.verifier(t), newDraft().compact(t, w)
				records := w.registry.records
				test.spoil(w)
				c, _, err := v.Verify(t.Context(), client, compact)
				outage := checkOutage(t, err, test.rule)
				if c != nil || outage.RetryAfter < time.Second {
					t.Errorf("client %v, retry after %s", c, outage.RetryAfter)
				}
				if got := w.asked(); got != test.asked {
					t.Errorf("asked %+v, want %+v", got, test.asked)
				}
				if cause := errors.Join(w.registry.err, w.revocation.err, w.memory.err); cause != nil && !strings.Contains(outage.Error(), cause.Error()) && !errors.Is(outage.Cause, errGone) {
					t.Errorf("%v does not tell the cause", outage)
				}
				if strings.Contains(outage.Description(), "refused") {
					t.Errorf("%q shows the cause to the caller", outage.Description())
				}
				r := v.Explain(t.Context(), compact, time.Now())
				if test.rule != rule.UnavailableState {
					if r.Accepted || r.Rejection != nil {
						t.Errorf("explained as accepted %t, %v", r.Accepted, r.Rejection)
					}
					checkOutage(t, r.Outage, test.rule)
				} else if !r.Accepted || r.Outage != nil {
					t.Errorf("explained as %v, and replay is not judged", r.Outage)
				}
				w.registry.err, w.registry.empty, w.registry.records, w.revocation.err, w.memory.err = nil, false, records, nil, nil
				checkAccepted(t, v, compact)
			})
		})
	}
}

// A party that is refused by an old record gets the benefit of a fresh one, which
// then decides; when none is to be had, nobody knows.
func TestFreshRecord(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(old *world, fresh *registry)
		rule  *rule.Rule // nil: accepted
		fresh int        // how often a fresh record is asked for
	}{
		{"good as it is", func(_ *world, fresh *registry) { fresh.err = errGone }, nil, 0},
		{"renewed", func(old *world, _ *registry) { old.claim(ishare.ClaimX509Certificate).Status = "inactive" }, nil, 1},
		{"ended", func(old *world, fresh *registry) {
			old.claim(ishare.ClaimX509Certificate).Status = "inactive"
			*fresh = registry{records: old.registry.records}
			old.claim(ishare.ClaimFrameworkCompliance).Status = "revoked"
		}, rule.PartyNotActive, 1},
		{"gone", func(old *world, fresh *registry) {
			old.claim(ishare.ClaimX509Certificate).Status, fresh.records = "inactive", nil
		}, rule.PartyUnknown, 1},
		{"out of reach", func(old *world, fresh *registry) {
			old.claim(ishare.ClaimX509Certificate).Status, fresh.err = "inactive", errGone
		}, rule.UnavailableRegistry, 1},
		{"out of reach, and refused itself", func(old *world, fresh *registry) {
			old.claim(ishare.ClaimFrameworkCompliance).Status, fresh.err = "revoked", rule.PartyNotActive.Reject()
		}, rule.UnavailableRegistry, 1},
		{"without an answer", func(old *world, fresh *registry) {
			old.claim(ishare.ClaimX509Certificate).Status, fresh.empty, fresh.records = "inactive", true, nil
		}, rule.UnavailableRegistry, 1},
		{"unknown before", func(old *world, _ *registry) { old.registry.records = nil }, rule.PartyUnknown, 0},
	} {
		within(t, func(t *testing.T, w *world) {
			source := &remembering{registry: w.registry}
			source.fresh.records = maps.Clone(w.registry.records)
			w.register(w.seal) // makes records of its own
			w.config.Parties = source
			test.spoil(w, &source.fresh)
			_, _, err := w.verifier(t).Verify(t.Context(), client, newDraft().compact(t, w))
			if ruleOf(err) != test.rule || (err == nil) != (test.rule == nil) {
				t.Errorf("%s: %v", test.name, err)
			}
			if got := source.fresh.asked(); got != test.fresh {
				t.Errorf("%s: a fresh record was asked for %d times, want %d", test.name, got, test.fresh)
			}
			if test.rule != nil && w.memory.asked() != 0 {
				t.Errorf("%s: the jti was burnt", test.name)
			}
		})
	}
}

// What an outage says of itself is passed on.
func TestOutageOfTheSourceIsKept(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		own := &rule.Outage{Rule: rule.Limited, RetryAfter: 42 * time.Second, Cause: errGone}
		w.registry.err = fmt.Errorf("registry: %w", own)
		_, _, err := v.Verify(t.Context(), client, newDraft().compact(t, w))
		if got := checkOutage(t, err, rule.Limited); got != own {
			t.Errorf("%v", err)
		}
		w.registry.err = nil
		w.memory.err = fmt.Errorf("replay: %w", &replay.UndecidedError{RetryAfter: 7 * time.Second})
		_, _, err = v.Verify(t.Context(), client, newDraft().compact(t, w))
		if got := checkOutage(t, err, rule.UnavailableState); got.RetryAfter != 7*time.Second {
			t.Errorf("retry after %s, want 7 s", got.RetryAfter)
		}
	})
}

// A definite answer is none of the server's troubles, however it is wrapped.
func TestDefiniteAnswersAreNoOutages(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		w.registry.err = fmt.Errorf("registry: HTTP 404: %w", ishare.ErrUnknownParty)
		checkRefused(t, v, newDraft().compact(t, w), rule.PartyUnknown)
		w.registry.err = nil
		w.revocation.err = fmt.Errorf("OCSP: %w", rule.CertificateRevoked.Because("x5c[1] is revoked"))
		checkRefused(t, v, newDraft().compact(t, w), rule.CertificateRevoked)
	})
}

// An assertion that ends while the server waits has expired, whatever it waited for, and
// is not to be tried again. Refusals that have other reasons stand.
func TestEndedWhileWaiting(t *testing.T) {
	const life = 30*time.Second + leeway
	for _, test := range []struct {
		name  string
		spoil func(w *world)
		delay time.Duration
		rule  *rule.Rule // nil: accepted
		asked asked
	}{
		{"registry out of reach, in time", func(w *world) { w.registry.err = errGone }, life - 1, rule.UnavailableRegistry, asked{1, 0, 0}},
		{"registry out of reach, too late", func(w *world) { w.registry.err = errGone }, life, rule.ClaimExp, asked{1, 0, 0}},
		{"revocation out of reach, in time", func(w *world) { w.revocation.err = errGone }, life - 1, rule.UnavailableRevocation, asked{1, 1, 0}},
		{"revocation out of reach, too late", func(w *world) { w.revocation.err = errGone }, life, rule.ClaimExp, asked{1, 1, 0}},
		{"store out of reach, in time", func(w *world) { w.memory.err = errGone }, life - 1, rule.UnavailableState, asked{1, 1, 1}},
		{"store out of reach, too late", func(w *world) { w.memory.err = errGone }, life, rule.ClaimExp, asked{1, 1, 1}},
		{"all in reach, in time", func(*world) {}, life - 1, nil, asked{1, 1, 1}},
		{"all in reach, too late", func(*world) {}, life, rule.ClaimExp, asked{1, 1, 1}},
		{"a store that says yes to what is over", func(w *world) { w.config.Replay = yes{} }, life, rule.ClaimExp, asked{1, 1, 0}},
		{"unknown, too late", func(w *world) { w.registry.records = nil }, life, rule.PartyUnknown, asked{1, 0, 0}},
		{"revoked, too late", func(w *world) { w.revocation.err = rule.CertificateRevoked.Reject() }, life, rule.CertificateRevoked, asked{1, 1, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				test.spoil(w)
				w.registry.delay = test.delay
				c, _, err := w.verifier(t).Verify(t.Context(), client, newDraft().compact(t, w))
				if ruleOf(err) != test.rule || (c == nil) != (test.rule != nil) {
					t.Errorf("%v, %v", c, err)
				}
				if rejection, outage := rule.Classify(err); test.rule == rule.ClaimExp && (rejection == nil || outage != nil) {
					t.Errorf("%v is no rejection", err)
				}
				if got := w.asked(); got != test.asked {
					t.Errorf("asked %+v, want %+v", got, test.asked)
				}
			})
		})
	}
}

// yes is a store that looks at nothing.
type yes struct{}

func (yes) Use(context.Context, replay.Pair) (bool, error) { return true, nil }

func (yes) Leeway() time.Duration { return leeway }

func TestCallerWhoGaveUp(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v, compact := w.verifier(t), newDraft().compact(t, w)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := v.Verify(ctx, client, compact)
		if outage := checkOutage(t, err, rule.UnavailableRegistry); !errors.Is(outage.Cause, context.Canceled) {
			t.Errorf("%v does not tell that the caller gave up", err)
		}
		checkAccepted(t, v, compact)
	})
}

// A store that starts after a crash lets nobody in whose assertion it might have
// seen before, and says when to come again.
func TestAfterACrash(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		store, err := replay.Open(replay.Config{Leeway: leeway})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		w.memory.store = store
		v := w.verifier(t)
		_, _, err = v.Verify(t.Context(), client, newDraft().compact(t, w))
		outage := checkOutage(t, err, rule.UnavailableState)
		time.Sleep(outage.RetryAfter)
		checkAccepted(t, v, newDraft().compact(t, w))
	})
}
