package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/waybill-token/waybill/ishare"
)

const (
	// DefaultCacheSize is how many records a [Cache] keeps unless told otherwise.
	// A record is about 10 KiB.
	DefaultCacheSize = 10_000

	// aheadNumerator and aheadDenominator say at which part of its fresh time a
	// record is asked for again in the background.
	aheadNumerator, aheadDenominator = 3, 4
	// unknownMemory is how long it is remembered that there is no such party.
	unknownMemory = 30 * time.Second
	// freshEnough is how old a record may be that [Cache.Fresh] returns.
	freshEnough = 3 * time.Second
	// failureMemory is how long the same party is not asked for after a failure.
	failureMemory = 500 * time.Millisecond
	// failedLately is how long after a failure a caller with a record to use does
	// not wait for the next try. It is longer than a try takes.
	failedLately = 15 * time.Second
	// flightTimeout ends a try of a source that has no timeout of its own.
	flightTimeout = 12 * time.Second
	// logInterval keeps an outage from filling the log.
	logInterval = 10 * time.Second
)

// CacheConfig is how a [Cache] works.
type CacheConfig struct {
	// Source is asked for what the cache does not have.
	Source Source
	// Fresh is how old a record may be while the source answers; 5 minutes is a
	// good value. It bounds for how long a party keeps its standing after the registry
	// took it away. Zero: the source is asked each time.
	Fresh time.Duration
	// MaxStale is for how long beyond Fresh a record may be used while the source
	// is out of reach; 1 hour is a good value. Zero: not at all.
	MaxStale time.Duration
	// Size is how many records are kept: [DefaultCacheSize] unless set. As many
	// unknown parties are remembered besides, in a space of their own. Optional.
	Size int
	// Log is told when records cannot be refreshed. Optional.
	Log *slog.Logger
}

// A Cache is a [Source] that keeps the records of another one.
//
// A record is returned without asking while it is fresh. In the last quarter of
// that time, whoever asks for the party has the record asked for again in the
// background, so that a busy client never waits. However many callers wait for a
// party, it is asked for once; that request belongs to none of them, and goes on
// when one gives up.
//
// That a party is unknown is remembered for 30 seconds, apart from the records: whoever
// asks for parties that do not exist pushes out nobody who does.
//
// When the source is out of reach, or its answer is no good, a record is used for
// MaxStale longer, which the log and [Cache.Stats] tell. After a failure, the same party is
// not asked for again for half a second, and callers who have a record to use do not
// wait for the next try. That a party is unknown is an answer and no failure.
//
// It is safe for concurrent use. [Cache.Run] or [Cache.Close] ends what goes on in
// the background.
type Cache struct {
	source          Source
	fresh, maxStale time.Duration
	ahead           time.Duration // age at which a record is asked for again
	log             *slog.Logger

	known   *otter.Cache[ishare.PartyID, memory[*ishare.Party]]
	unknown *otter.Cache[ishare.PartyID, memory[struct{}]]
	failed  *otter.Cache[ishare.PartyID, memory[error]]

	background context.Context // which no caller's context ends
	cancel     context.CancelFunc

	mu      sync.Mutex // guards what follows, and the step from flights to the caches
	flights map[ishare.PartyID]*flight
	closed  bool
	running sync.WaitGroup

	asked, failures, staleUses atomic.Uint64
	health                     cacheHealth
	complaint, relief          rate.Sometimes // for the log
}

// NewCache checks the configuration and returns a cache that holds nothing.
func NewCache(c CacheConfig) (*Cache, error) {
	switch {
	case c.Source == nil:
		return nil, errors.New("registry: Source is not set")
	case c.Fresh < 0 || c.MaxStale < 0 || c.Size < 0:
		return nil, errors.New("registry: Fresh, MaxStale or Size is negative")
	}
	if c.Size == 0 {
		c.Size = DefaultCacheSize
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	cache := &Cache{
		source: c.Source, fresh: c.Fresh, maxStale: c.MaxStale, log: c.Log,
		ahead:     c.Fresh / aheadDenominator * aheadNumerator,
		flights:   map[ishare.PartyID]*flight{},
		complaint: rate.Sometimes{Interval: logInterval},
		relief:    rate.Sometimes{Interval: logInterval},
	}
	if err := cache.makeSpaces(c.Size); err != nil {
		return nil, fmt.Errorf("registry: cache: %w", err)
	}
	cache.background, cache.cancel = context.WithCancel(context.Background())
	return cache, nil
}

// makeSpaces: the spaces forget by number alone, so that they need no goroutine;
// what they hold knows how old it is.
func (c *Cache) makeSpaces(size int) (err error) {
	if c.known, err = newSpace[*ishare.Party](size); err != nil {
		return err
	}
	if c.unknown, err = newSpace[struct{}](size); err != nil {
		return err
	}
	c.failed, err = newSpace[error](size)
	return err
}

func newSpace[T any](size int) (*otter.Cache[ishare.PartyID, memory[T]], error) {
	return otter.New(&otter.Options[ishare.PartyID, memory[T]]{MaximumSize: size})
}

// A memory is something that was so at a moment.
type memory[T any] struct {
	value T
	moment
}

// Party returns the record of the party that goes by id. The record is shared by all
// callers and must not be changed.
//
// The error is [ErrUnknown] when the source knows that there is no such party, the
// context's when ctx ends, and otherwise why there is no record to use, as the
// source says.
func (c *Cache) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	now := time.Now()
	record, have := c.known.GetIfPresent(id)
	if !have {
		return c.get(ctx, id, c.fresh)
	}
	age := record.age(now)
	switch {
	case age < c.fresh:
		if age >= c.ahead {
			c.prompt(id, c.ahead)
		}
		return record.value, nil
	case c.mayUse(age) && c.hasFailedLately(id, now):
		c.prompt(id, c.fresh)
		return c.useStale(record.value, now), nil
	}
	party, err := c.get(ctx, id, c.fresh)
	if err == nil || ishare.IsUnknownParty(err) || ctx.Err() != nil || !c.mayUse(record.age(time.Now())) {
		return party, err
	}
	return c.useStale(record.value, time.Now()), nil
}

// Fresh returns a record that is some three seconds old at most, for whoever is about
// to refuse a party by an older one. So a party is asked for once in three
// seconds, however often it is refused.
//
// The errors are those of [Cache.Party]; no stale record is used.
func (c *Cache) Fresh(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	return c.get(ctx, id, freshEnough)
}

// mayUse reports whether a record of that age may be used without the source.
func (c *Cache) mayUse(age time.Duration) bool { return age < c.fresh+c.maxStale }

func (c *Cache) hasFailedLately(id ishare.PartyID, now time.Time) bool {
	failure, ok := c.failed.GetIfPresent(id)
	return ok && failure.age(now) < failedLately
}

// useStale counts. The log is told by the flight that failed.
func (c *Cache) useStale(party *ishare.Party, now time.Time) *ishare.Party {
	c.staleUses.Add(1)
	c.health.stale(now)
	return party
}

// Run keeps the cache until ctx is done, gives up what is being asked, and returns
// nil when no goroutine of the cache is left.
func (c *Cache) Run(ctx context.Context) error {
	<-ctx.Done()
	return c.Close()
}

// Close does what [Cache.Run] does at its end. From then on the cache answers with
// what it has, or an error.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	return nil
}
