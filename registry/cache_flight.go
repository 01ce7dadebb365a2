package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

var (
	errCacheClosed = errors.New("registry: the cache is closed")
	errNoRecord    = errors.New("registry: the source answered with no record")
)

// A flight is one question to the source that any number of callers wait for. Its
// fields may be read once it is done.
type flight struct {
	done  chan struct{}
	party *ishare.Party
	err   error
}

func (f *flight) wait(ctx context.Context) (*ishare.Party, error) {
	select {
	case <-f.done:
		return f.party, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("registry: waiting for a party record: %w", ctx.Err())
	}
}

// get returns a record that is younger than an age, or waits for one.
func (c *Cache) get(ctx context.Context, id ishare.PartyID, age time.Duration) (*ishare.Party, error) {
	f, party, err := c.join(id, age)
	if f != nil {
		return f.wait(ctx)
	}
	return party, err
}

// prompt has a record asked for in the background that is not younger than an age.
func (c *Cache) prompt(id ishare.PartyID, age time.Duration) { _, _, _ = c.join(id, age) }

// join returns what is known without asking, or else the flight to wait for, which
// it starts if there is none. What the caller saw before may have changed
// meanwhile, so it looks again where nobody else can land.
func (c *Cache) join(id ishare.PartyID, age time.Duration) (*flight, *ishare.Party, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if record, ok := c.known.GetIfPresent(id); ok && record.age(now) < age {
		return nil, record.value, nil
	}
	if none, ok := c.unknown.GetIfPresent(id); ok && none.age(now) < unknownMemory {
		return nil, nil, ErrUnknown
	}
	if f := c.flights[id]; f != nil {
		return f, nil, nil
	}
	if failure, ok := c.failed.GetIfPresent(id); ok && failure.age(now) < failureMemory {
		return nil, nil, failure.value
	}
	if c.closed {
		return nil, nil, errCacheClosed
	}
	return c.start(id), nil, nil
}

func (c *Cache) start(id ishare.PartyID) *flight {
	f := &flight{done: make(chan struct{})}
	c.flights[id] = f
	c.asked.Add(1)
	c.inBackground(func(ctx context.Context) { c.fly(ctx, id, f) })
	return f
}

// inBackground runs f in a goroutine that Close waits for.
func (c *Cache) inBackground(f func(ctx context.Context)) {
	c.running.Go(func() { f(c.background) })
}

func (c *Cache) fly(ctx context.Context, id ishare.PartyID, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout)
	defer cancel()
	began := time.Now()
	f.party, f.err = c.source.Party(ctx, id)
	if f.err == nil && f.party == nil {
		f.err = errNoRecord
	}
	c.land(id, f, began)
}

// land remembers what the flight found, and then tells those who wait and the log.
func (c *Cache) land(id ishare.PartyID, f *flight, began time.Time) {
	relieved, failed := c.remember(id, f, began)
	close(f.done)
	switch {
	case relieved:
		c.relief.Do(func() { c.log.Info("party records are received again") })
	case failed:
		c.complaint.Do(func() {
			c.log.Warn("a party record was not received; an older one is used while it may be",
				slog.String("party", string(id)), slog.Any("error", f.err),
				slog.Uint64("failures", c.failures.Load()), slog.Uint64("stale_uses", c.staleUses.Load()))
		})
	}
}

// remember reports whether the source answers again, and whether it failed. A record
// is as old as the question: what the registry learnt after that may not be in it.
func (c *Cache) remember(id ishare.PartyID, f *flight, began time.Time) (relieved, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, id)
	now := time.Now()
	switch {
	case f.err == nil:
		c.known.Set(id, memory[*ishare.Party]{f.party, momentOf(began)})
		c.unknown.Invalidate(id)
	case ishare.IsUnknownParty(f.err):
		f.err = ErrUnknown // whichever way the source says so
		c.unknown.Set(id, memory[struct{}]{moment: momentOf(began)})
		c.known.Invalidate(id)
	case c.closed:
		f.err = errCacheClosed // given up by us
		return false, false
	default:
		c.failed.Set(id, memory[error]{f.err, momentOf(now)})
		c.failures.Add(1)
		c.health.failed(f.err, now)
		return false, true
	}
	c.failed.Invalidate(id)
	return c.health.answered(now), false
}
