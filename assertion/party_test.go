package assertion_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// metered is a registry behind a memory that holds some parties.
type metered struct {
	*registry

	remembered map[ishare.PartyID]*ishare.Party
}

func (m *metered) PartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error) {
	if party, ok := m.remembered[id]; ok {
		return party, nil
	}
	return m.FreshPartyIf(ctx, id, may)
}

func (m *metered) FreshPartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error) {
	if err := may(); err != nil {
		return nil, err
	}
	return m.Party(ctx, id)
}

func metering(w *world) *metered {
	m := &metered{registry: w.registry, remembered: map[ishare.PartyID]*ishare.Party{}}
	w.config.Parties = m
	return m
}

// naming signs for a client with a seal.
func naming(t *testing.T, w *world, seal *testca.Identity, id ishare.PartyID) string {
	t.Helper()
	d := newDraft()
	d.payload["iss"], d.payload["sub"] = id, id
	d.header["x5c"], d.signer = encodeChain(seal.Chain), seal.Key
	return d.compact(t, w)
}

func invented(i int) ishare.PartyID {
	return ishare.PartyID(fmt.Sprintf("did:ishare:EU.NL.NTRNL-5%07d", i))
}

func ruleFor(t *testing.T, w *world, v *assertion.Verifier, seal *testca.Identity, id ishare.PartyID) *rule.Rule {
	t.Helper()
	_, _, err := v.Verify(t.Context(), id, naming(t, w, seal, id))
	return ruleOf(err)
}

// One seal with invented clients gets its share of the lookups, at once and in the course of time, and costs
// nobody else anything.
func TestShareOfASeal(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		m := metering(w)
		v, other := w.verifier(t), w.newSeal(t, testca.SealRequest{})
		const flood = 1500
		var callers sync.WaitGroup
		rules := make([]*rule.Rule, flood)
		for i := range flood {
			compact := naming(t, w, other, invented(i))
			callers.Go(func() {
				_, _, err := v.Verify(t.Context(), invented(i), compact)
				rules[i] = ruleOf(err)
				if rules[i] == rule.Limited {
					if outage := checkOutage(t, err, rule.Limited); outage.RetryAfter != assertion.LookupInterval {
						t.Errorf("retry after %s", outage.RetryAfter)
					}
				}
			})
		}
		callers.Wait()
		count := map[*rule.Rule]int{}
		for _, rule := range rules {
			count[rule]++
		}
		if count[rule.PartyUnknown] != assertion.LookupBurst || count[rule.Limited] != flood-assertion.LookupBurst || m.asked() != assertion.LookupBurst {
			t.Errorf("%d unknown, %d limited, the registry was asked %d times", count[rule.PartyUnknown], count[rule.Limited], m.asked())
		}
		if rule := ruleFor(t, w, v, w.seal, client); rule != nil {
			t.Errorf("a new client with its own seal: %s", rule.ID)
		}
		m.remembered[client] = w.registry.records[client]
		if rule := ruleFor(t, w, v, w.seal, client); rule != nil {
			t.Errorf("a known client: %s", rule.ID)
		}
		before := m.asked()
		for i := range 10 {
			time.Sleep(assertion.LookupInterval)
			for range 3 {
				ruleFor(t, w, v, other, invented(i))
			}
		}
		if n := m.asked() - before; n != 10 {
			t.Errorf("%d lookups in 10 intervals", n)
		}
	})
}

// What a lookup costs the seal that signed, by what comes of it.
func TestWhatCostsAShare(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(w *world, m *metered)
		id      ishare.PartyID
		want    *rule.Rule
		charged bool
	}{
		"the client itself":     {nil, client, nil, false},
		"the client, suspended": {func(w *world, _ *metered) { w.claim(ishare.ClaimFrameworkCompliance).Status = "suspended" }, client, rule.PartyNotActive, false},
		"another client, who exists": {func(w *world, _ *metered) {
			w.claim(ishare.ClaimX509Certificate).X5T = "another"
		}, client, rule.PartyCertificate, true},
		"another client, who is in memory": {func(w *world, m *metered) {
			w.claim(ishare.ClaimX509Certificate).X5T = "another"
			m.remembered[client] = w.registry.records[client]
		}, client, rule.PartyCertificate, true}, // for the fresh record
		"nobody":            {nil, nobody, rule.PartyUnknown, true},
		"out of reach":      {func(w *world, _ *metered) { w.registry.err = errGone }, client, rule.UnavailableRegistry, true},
		"without an answer": {func(w *world, _ *metered) { w.registry.empty, w.registry.records = true, nil }, client, rule.UnavailableRegistry, true},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				m := metering(w)
				v := w.verifier(t)
				if c.spoil != nil {
					c.spoil(w, m)
				}
				for i := range 3 * assertion.LookupBurst {
					switch reason := ruleFor(t, w, v, w.seal, c.id); {
					case reason == c.want:
					case reason != rule.Limited:
						t.Fatalf("assertion %d: %v", i, reason)
					case !c.charged:
						t.Fatalf("assertion %d is limited", i)
					case i < assertion.LookupBurst/2:
						t.Fatalf("assertion %d is limited already", i)
					default:
						return
					}
				}
				if c.charged {
					t.Error("it costs nothing")
				}
			})
		})
	}
}

// Whoever explains an assertion asks on the server's own account.
func TestExplainCostsNoShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := metering(w)
		v := w.verifier(t)
		for i := range 2 * assertion.LookupBurst {
			if r := v.Explain(t.Context(), naming(t, w, w.seal, invented(i)), time.Now()); ruleOf(r.Rejection) != rule.PartyUnknown {
				t.Fatalf("%v, %v", r.Rejection, r.Outage)
			}
		}
		for i := range assertion.LookupBurst {
			if reason := ruleFor(t, w, v, w.seal, invented(i)); reason != rule.PartyUnknown {
				t.Errorf("afterwards: %v", reason)
			}
		}
		m.remembered = nil
		if r := v.Explain(t.Context(), naming(t, w, w.seal, client), time.Now()); !r.Accepted {
			t.Errorf("with the share used up: %v, %v", r.Rejection, r.Outage)
		}
	})
}
