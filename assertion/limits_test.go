package assertion_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/internal/work"
	"github.com/waybill-token/waybill/rule"
)

// oneGate has one place, for which nobody waits, and tells how often it was taken.
type oneGate struct {
	taken bool
	times int
}

func (g *oneGate) Enter(context.Context) error {
	if g.taken {
		return work.ErrBusy
	}
	g.taken = true
	g.times++
	return nil
}

func (g *oneGate) Leave() { g.taken = false }

// Without a place nothing is judged. A place is given back before anybody is waited for, and whatever
// comes out.
func TestWorkIsBounded(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		gate := &oneGate{taken: true}
		w.config.Work = gate
		v, compact := w.verifier(t), newDraft().compact(t, w)
		_, _, err := v.Verify(t.Context(), client, compact)
		if outage := checkOutage(t, err, rule.UnavailableOverload); outage.RetryAfter != time.Second || w.asked() != (asked{}) {
			t.Errorf("again after %s, asked %+v", outage.RetryAfter, w.asked())
		}
		gate.taken = false
		forged := newDraft()
		forged.signer = w.newSeal(t, testca.SealRequest{}).Key
		checkRefused(t, v, forged.compact(t, w), rule.JWTSignature)
		if gate.taken || gate.times != 1 {
			t.Errorf("after a refusal: %+v", gate)
		}
		w.registry.delay = time.Second
		ended := make(chan error)
		go func() {
			_, _, err := v.Verify(t.Context(), client, compact)
			ended <- err
		}()
		synctest.Wait()
		if gate.taken || gate.times != 2 || w.registry.asked() != 1 {
			t.Errorf("while the registry is waited for: %+v, asked %d times", gate, w.registry.asked())
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Those whose chain is not known yet keep nobody out whose chain is, and the other way round.
func TestFirstWorkIsBoundedApart(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		known, first := &oneGate{}, &oneGate{}
		w.config.Work, w.config.FirstWork = known, first
		v := w.verifier(t)
		verify := func(d *draft) error {
			_, _, err := v.Verify(t.Context(), client, d.compact(t, w))
			return err
		}
		if err := verify(newDraft()); err != nil || first.times != 1 || known.times != 0 || first.taken {
			t.Errorf("the first time: %v, %+v, %+v", err, first, known)
		}
		first.taken = true
		if err := verify(newDraft()); err != nil || known.times != 1 {
			t.Errorf("beside those who come first: %v, %+v", err, known)
		}
		other := newDraft()
		other.own, other.unregistered = true, true
		checkOutage(t, verify(other), rule.UnavailableOverload)
		first.taken, known.taken = false, true
		checkOutage(t, verify(newDraft()), rule.UnavailableOverload)
		if first.times != 1 || first.taken {
			t.Errorf("at the end: %+v", first)
		}
	})
}

// What a seal may ask for is its own, and is counted when it is proven only.
func TestSealsAreLimited(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		seals, err := bucket.New[string](bucket.Rate{Events: 1, Period: time.Minute, Burst: 2})
		if err != nil {
			t.Fatal(err)
		}
		w.config.Seals = seals
		v := w.verifier(t)
		other := newDraft() // which another participant has signed
		other.own, other.unregistered = true, true
		stranger := other.compact(t, w)
		for range 9 {
			forged := newDraft()
			forged.signer = w.newSeal(t, testca.SealRequest{}).Key
			checkRefused(t, v, forged.compact(t, w), rule.JWTSignature)
		}
		checkRefused(t, v, stranger, rule.PartyCertificate)
		checkRefused(t, v, stranger, rule.PartyCertificate)
		before := w.registry.asked()
		_, _, err = v.Verify(t.Context(), client, stranger)
		if outage := checkOutage(t, err, rule.Limited); outage.RetryAfter != time.Minute || w.registry.asked() != before {
			t.Errorf("again after %s; the registry was asked %d times more", outage.RetryAfter, w.registry.asked()-before)
		}
		checkAccepted(t, v, newDraft().compact(t, w))
		checkAccepted(t, v, newDraft().compact(t, w))
		checkRefused(t, v, newDraft().compact(t, w), rule.Limited)
		time.Sleep(time.Minute)
		checkAccepted(t, v, newDraft().compact(t, w))
	})
}
