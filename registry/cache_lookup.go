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

// get returns a record that is younger than maxAge, or waits for one among the lookups.
func (c *Cache) get(
	ctx context.Context, lookups *flight.Group[ishare.PartyID, *ishare.Party], id ishare.PartyID, maxAge time.Duration, may func() error,
) (*ishare.Party, error) {
	if party, known, err := c.fromMemory(id, maxAge); known {
		return party, err
	}
	party, err := lookups.Do(ctx, id, may, c.lookup(ctx, id, maxAge))
	return party, c.conclude(ctx, err)
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
		c.mu.Lock()
		c.stats.Shed++
		shed := c.stats.Shed
		c.mu.Unlock()
		c.logs.Lasting(ctx, slog.LevelWarn, "too many parties are asked for at once, and more are turned away", nil,
			func() []slog.Attr { return []slog.Attr{slog.Uint64("turned_away", shed)} })
		return &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: retryAfter, Cause: fmt.Errorf("registry: looking up a party: %w", err)}
	}
	return err
}

// fromMemory is what is known without asking.
func (c *Cache) fromMemory(id ishare.PartyID, maxAge time.Duration) (party *ishare.Party, known bool, err error) {
	now := time.Now()
	if record, ok := c.known.GetIfPresent(id); ok && record.age(now) < maxAge {
		return record.value, true, nil
	}
	if none, ok := c.unknown.GetIfPresent(id); ok && none.age(now) < unknownMemory {
		return nil, true, ErrUnknown
	}
	if failure, ok := c.failed.GetIfPresent(id); ok && failure.age(now) < failureMemory {
		return nil, true, failure.value
	}
	return nil, false, nil
}

// lookup returns what is done to look a party up. Another lookup may have ended since the
// caller looked into memory, so it looks again first.
func (c *Cache) lookup(caller context.Context, id ishare.PartyID, maxAge time.Duration) func(ctx context.Context) (*ishare.Party, error) {
	return func(ctx context.Context) (*ishare.Party, error) {
		ctx = flight.WithValues(ctx, caller)
		if party, known, err := c.fromMemory(id, maxAge); known {
			return party, err
		}
		c.mu.Lock()
		c.stats.Asked++
		c.mu.Unlock()
		began := momentOf(time.Now())
		party, err := c.source.Party(ctx, id)
		switch {
		case err == nil && party == nil:
			err = errNoRecord
		case rule.IsUnknownParty(err):
			err = ErrUnknown // whichever way the source says so
		}
		if err != nil && flight.GivenUp(ctx) {
			return nil, err // given up by us: that says nothing about the source
		}
		c.logOutcome(ctx, id, err, c.remember(id, began, party, err))
		return party, err
	}
}

// remember reports whether the source answers again, after it did not. A record is as old as the question: what the
// registry learnt after that may not be in it. What was asked before the last answer about the party is history.
func (c *Cache) remember(id ishare.PartyID, began moment, party *ishare.Party, err error) (recovered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if err != nil && !errors.Is(err, ErrUnknown) {
		c.failed.Set(id, aged[error]{err, momentOf(now)})
		c.stats.Failures++
		c.stats.Failed, c.stats.Err = now, err
		return false
	}
	c.failed.Invalidate(id)
	record, have := c.known.GetIfPresent(id)
	none, no := c.unknown.GetIfPresent(id)
	switch {
	case have && record.after(began), no && none.after(began):
	case err == nil:
		c.known.Set(id, aged[*ishare.Party]{party, began})
		c.unknown.Invalidate(id)
	default:
		c.noes++
		c.unknown.Set(id, aged[struct{}]{moment: began})
		c.known.Invalidate(id)
	}
	recovered = c.stats.Err != nil
	c.stats.Answered, c.stats.Err, c.stats.StaleSince = now, nil, time.Time{}
	c.slowAt = moment{}
	return recovered
}

// logOutcome logs how a lookup ended: of one cause once while it lasts.
func (c *Cache) logOutcome(ctx context.Context, id ishare.PartyID, err error, recovered bool) {
	switch {
	case recovered:
		c.logs.Some(ctx, slog.LevelInfo, "party records are received again", nil, func() []slog.Attr { return nil })
	case err != nil && !errors.Is(err, ErrUnknown):
		cause := err
		if _, outage := rule.Classify(err); outage != nil && outage.Cause != nil { // which does not unwrap to it
			cause = outage.Cause
		}
		c.logs.Lasting(ctx, slog.LevelWarn, "a party record was not received; an older one is used while it may be", logsum.Reason(cause),
			func() []slog.Attr {
				s := c.Stats()
				return []slog.Attr{
					slog.String("party", string(id)), slog.Any("error", err),
					slog.Uint64("failures", s.Failures), slog.Uint64("stale_uses", s.StaleUses),
				}
			})
	}
}

// revive brings a record back to memory from the time before a restart. What the source has said since
// stands: it looks again if somebody was found not to exist meanwhile.
func (c *Cache) revive(ctx context.Context, id ishare.PartyID) (aged[*ishare.Party], bool) {
	source, ok := c.source.(PersistentSource)
	if none, no := c.unknown.GetIfPresent(id); no && none.age(time.Now()) < unknownMemory {
		ok = false
	}
	for ok {
		c.mu.Lock()
		before := c.noes
		c.mu.Unlock()
		party, asOf := source.RecallParty(ctx, id)
		now := time.Now()
		age := now.Round(0).Sub(asOf.Round(0))
		if party == nil || age < 0 || age >= c.fresh+c.maxStale {
			break
		}
		c.mu.Lock()
		unchanged := c.noes == before // nobody was found not to exist meanwhile
		record, have := c.known.GetIfPresent(id)
		if unchanged && !have {
			record = aged[*ishare.Party]{party, moment{steady: now.Add(-age), wall: asOf.Round(0)}}
			c.known.Set(id, record)
		}
		c.mu.Unlock()
		if unchanged {
			return record, true
		}
	}
	return aged[*ishare.Party]{}, false
}
