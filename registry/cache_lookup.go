package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

var (
	errCacheClosed = errors.New("registry: the cache is closed")
	errNoRecord    = errors.New("registry: the source answered with no record")
	errSlowSource  = errors.New("registry: the source takes its time")
)

// A lookup is for a record that is younger than an age, under way among others of its kind.
type lookup struct {
	id    ishare.PartyID
	age   time.Duration
	among *lookups
}

// get returns such a record, or waits for one.
func (c *Cache) get(ctx context.Context, l lookup, may func() error) (*ishare.Party, error) {
	if party, known, err := c.recall(l); known {
		return party, err
	}
	party, err := l.among.DoIf(ctx, l.id, may, c.ask(l))
	return party, c.conclude(ctx, err)
}

// refresh is get, but the lookup goes on when the caller does not wait any longer.
func (c *Cache) refresh(ctx context.Context, l lookup) (*ishare.Party, error) {
	if party, known, err := c.recall(l); known {
		return party, err
	}
	f, err := c.start(l)
	if err != nil {
		return nil, err
	}
	return f.Wait(ctx)
}

// start has a record asked for in the background.
func (c *Cache) start(l lookup) (*flight.Flight[*ishare.Party], error) {
	return l.among.Start(l.id, c.ask(l))
}

// conclude gives the errors of a group of lookups their meaning.
func (c *Cache) conclude(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("registry: waiting for a party record: %w", ctx.Err())
	case errors.Is(err, flight.ErrClosed):
		return errCacheClosed
	case errors.Is(err, flight.ErrBusy):
		shed := c.shed.Add(1)
		c.trouble.Lasting(ctx, slog.LevelWarn, "too many parties are asked for at once, and more are turned away", nil,
			func() []slog.Attr { return []slog.Attr{slog.Uint64("turned_away", shed)} })
		return &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: retryAfter, Cause: fmt.Errorf("registry: looking up a party: %w", err)}
	}
	return err
}

// recall is what is known without asking.
func (c *Cache) recall(l lookup) (party *ishare.Party, known bool, err error) {
	now := time.Now()
	if record, ok := c.known.GetIfPresent(l.id); ok && record.age(now) < l.age {
		return record.value, true, nil
	}
	if none, ok := c.unknown.GetIfPresent(l.id); ok && none.age(now) < unknownMemory {
		return nil, true, ErrUnknown
	}
	if failure, ok := c.failed.GetIfPresent(l.id); ok && failure.age(now) < failureMemory {
		return nil, true, failure.value
	}
	return nil, false, nil
}

// ask returns what a lookup does when it is under way. Another one may have landed since the
// caller looked, so it looks again first.
func (c *Cache) ask(l lookup) func(ctx context.Context) (*ishare.Party, error) {
	return func(ctx context.Context) (*ishare.Party, error) {
		if party, known, err := c.recall(l); known {
			return party, err
		}
		c.asked.Add(1)
		began := momentOf(time.Now())
		party, err := c.source.Party(ctx, l.id)
		switch {
		case err == nil && party == nil:
			err = errNoRecord
		case rule.IsUnknownParty(err):
			err = ErrUnknown // whichever way the source says so
		}
		if err != nil && flight.GivenUp(ctx) {
			return nil, err // given up by us: that says nothing about the source
		}
		c.tell(ctx, l.id, err, c.remember(l.id, began, party, err))
		return party, err
	}
}

// remember reports whether the source answers again. A record is as old as the question: what
// the registry learnt after that may not be in it. What was asked before the last answer about the
// party is history.
func (c *Cache) remember(id ishare.PartyID, began moment, party *ishare.Party, err error) (relieved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if err != nil && !errors.Is(err, ErrUnknown) {
		c.failed.Set(id, memory[error]{err, momentOf(now)})
		c.failures.Add(1)
		c.health.failed(err, now)
		return false
	}
	c.failed.Invalidate(id)
	record, have := c.known.GetIfPresent(id)
	none, no := c.unknown.GetIfPresent(id)
	switch {
	case have && record.after(began), no && none.after(began):
	case err == nil:
		c.known.Set(id, memory[*ishare.Party]{party, began})
		c.unknown.Invalidate(id)
	default:
		c.noes.Add(1)
		c.unknown.Set(id, memory[struct{}]{moment: began})
		c.known.Invalidate(id)
	}
	return c.health.answered(now)
}

// tell tells the log how a lookup ended: of one cause once while it lasts.
func (c *Cache) tell(ctx context.Context, id ishare.PartyID, err error, relieved bool) {
	switch {
	case relieved:
		c.trouble.Some(ctx, slog.LevelInfo, "party records are received again", nil, func() []slog.Attr { return nil })
	case err != nil && !errors.Is(err, ErrUnknown):
		c.trouble.Lasting(ctx, slog.LevelWarn, "a party record was not received; an older one is used while it may be", logsum.Reason(err),
			func() []slog.Attr {
				return []slog.Attr{
					slog.String("party", string(id)), slog.Any("error", err),
					slog.Uint64("failures", c.failures.Load()), slog.Uint64("stale_uses", c.staleUses.Load()),
				}
			})
	}
}

// A RecallingSource is a [Source] that keeps its answers over a restart, as [Remote] does.
type RecallingSource interface {
	// RecallParty returns the record that it last answered with about a party, and since when that may be
	// out of date; nil if there is none to be believed. It asks nobody for the record.
	RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time)
}

// revive brings a record back to memory from the time before a restart. What the source has said since
// stands: it looks again if somebody was found not to exist meanwhile.
func (c *Cache) revive(ctx context.Context, id ishare.PartyID) (memory[*ishare.Party], bool) {
	source, ok := c.source.(RecallingSource)
	if none, no := c.unknown.GetIfPresent(id); no && none.age(time.Now()) < unknownMemory {
		ok = false
	}
	for ok {
		before := c.noes.Load()
		party, asOf := source.RecallParty(ctx, id)
		now := time.Now()
		age := now.Round(0).Sub(asOf.Round(0))
		if party == nil || age < 0 || !c.mayUse(age) {
			break
		}
		if record, done := c.settle(id, memory[*ishare.Party]{party, moment{steady: now.Add(-age), wall: asOf.Round(0)}}, before); done {
			return record, true
		}
	}
	return memory[*ishare.Party]{}, false
}

// settle reports whether nobody was found not to exist since before, and returns the record that is in
// memory then.
func (c *Cache) settle(id ishare.PartyID, revived memory[*ishare.Party], before uint64) (memory[*ishare.Party], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noes.Load() != before {
		return memory[*ishare.Party]{}, false
	}
	if record, have := c.known.GetIfPresent(id); have {
		return record, true
	}
	c.known.Set(id, revived)
	return revived, true
}
