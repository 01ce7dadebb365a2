package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

const (
	// DefaultCacheSize is how many records a [Cache] keeps unless told otherwise. A record is about 10 KiB.
	DefaultCacheSize = 10_000

	// aheadNumerator and aheadDenominator say at which part of its fresh time a
	// record is asked for again in the background.
	aheadNumerator, aheadDenominator = 3, 4
	// unknownMemory is how long it is remembered that there is no such party.
	unknownMemory = 30 * time.Second
	// freshEnough is how old a record may be that [Cache.FreshParty] returns.
	freshEnough = 3 * time.Second
	// maxWait is how long a caller waits for a new record who has an older one to use.
	maxWait = 1500 * time.Millisecond
	// failureMemory is how long the same party is not asked for after a failure.
	failureMemory = 500 * time.Millisecond
	// failedLately is how long after a failure a caller with a record to use does
	// not wait for the next try. It is longer than a try takes.
	failedLately = 15 * time.Second
	// lookupLimit ends a try of a source that has no timeout of its own.
	lookupLimit = 12 * time.Second
)

// How many lookups are under way at once. Those of parties whose records are in memory are counted by themselves:
// neither do lookups of invented identifiers keep records from being refreshed, nor do many refreshes keep a new client
// out. Together they leave some of maxConnections to a registry free for the trusted list, for the access token, and
// for ten requests that try again what hangs.
const (
	maxUnknownLookups = 40
	maxKnownLookups   = 12
)

// CacheConfig is how a [Cache] works.
type CacheConfig struct {
	// Source is asked for what the cache does not have.
	Source Source
	// Fresh is how old a record may be while the source answers; 5 minutes is a good value. It bounds for how long a
	// party keeps its standing after the registry took it away. Zero: the source is asked each time.
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
// A record is returned without asking while it is fresh. In the last quarter of that time, whoever asks for the party
// has the record asked for again in the background, so that a busy client never waits. However many callers wait for a
// party, it is asked for once; that request belongs to none of them, and ends when all of them have given up.
//
// No more than 52 parties are asked for at once, 12 of them parties whose records are in memory, and 40 others. Beyond
// that the error is an [*rule.Outage], at once, or a record is used that is no longer fresh.
//
// That a party is unknown is remembered for 30 seconds, apart from the records: whoever
// asks for parties that do not exist pushes out nobody who does.
//
// When the source is out of reach, or its answer is no good, a record is used for MaxStale longer, which the log and
// [Cache.Stats] tell. Whoever has such a record to use waits for a newer one for a second and a half at most, and not
// at all when somebody just did so in vain. After a failure, the same party is not asked for again for half a second.
// That a party is unknown is an answer and no failure.
//
// A record that is not in memory is taken from a source that keeps its answers over a restart (a
// [PersistentSource]), if it is not too old to be used.
//
// It is safe for concurrent use. [Cache.Close] ends what goes on in the background.
type Cache struct {
	source          Source
	fresh, maxStale time.Duration
	ahead           time.Duration // age at which a record is asked for again
	log             *slog.Logger

	// These forget by number alone, so that they need no goroutine; what they hold knows how old it is.
	known   *otter.Cache[ishare.PartyID, aged[*ishare.Party]]
	unknown *otter.Cache[ishare.PartyID, aged[struct{}]]
	failed  *otter.Cache[ishare.PartyID, aged[error]]

	knownLookups   *flight.Group[ishare.PartyID, *ishare.Party] // of parties whose records are in memory
	unknownLookups *flight.Group[ishare.PartyID, *ishare.Party]

	mu    sync.Mutex // guards what follows, and the step from an answer to the caches
	stats CacheStats

	hits, misses atomic.Uint64
	noes         uint64 // how often the source said that there is no such party
	slowAt       moment // when a caller last waited in vain, with no answer since
	logs         *logsum.Log
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
	return &Cache{
		source: c.Source, fresh: c.Fresh, maxStale: c.MaxStale, log: c.Log,
		ahead:          c.Fresh / aheadDenominator * aheadNumerator,
		knownLookups:   flight.New[ishare.PartyID, *ishare.Party](maxKnownLookups, lookupLimit),
		unknownLookups: flight.New[ishare.PartyID, *ishare.Party](maxUnknownLookups, lookupLimit),
		logs:           logsum.New(c.Log),
		known:          otter.Must(&otter.Options[ishare.PartyID, aged[*ishare.Party]]{MaximumSize: c.Size}),
		unknown:        otter.Must(&otter.Options[ishare.PartyID, aged[struct{}]]{MaximumSize: c.Size}),
		failed:         otter.Must(&otter.Options[ishare.PartyID, aged[error]]{MaximumSize: c.Size}),
	}, nil
}

// An aged value was so at a moment.
type aged[T any] struct {
	value T
	moment
}

// A moment is a time by both clocks of a machine. The zero moment is long ago.
type moment struct {
	steady time.Time // by the monotonic clock, which stands still while a machine sleeps
	wall   time.Time // by the wall clock, which may be set back
}

func momentOf(now time.Time) moment { return moment{steady: now, wall: now.Round(0)} }

// age goes by the clock that says more.
func (m moment) age(now time.Time) time.Duration {
	return max(now.Sub(m.steady), now.Round(0).Sub(m.wall))
}

// after reports whether m is later than another moment, by the monotonic clock.
func (m moment) after(other moment) bool { return m.steady.After(other.steady) }

// A verifier finds by these that a cache can be asked for fresh records, and bounded in what it asks for.
var (
	_ assertion.FreshSource   = (*Cache)(nil)
	_ assertion.MeteredSource = (*Cache)(nil)
)

// Party returns the record of the party that goes by id. The record is shared by all callers and must not be changed.
//
// The error is [ErrUnknown] when the source knows that there is no such party, the context's when ctx ends, and
// otherwise why there is no record to use, as the source says.
func (c *Cache) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	return c.PartyIf(ctx, id, nil)
}

// PartyIf is [Cache.Party], but when the source has to be asked for a party of which there is no record in memory, may
// is called first, by the caller who would cause that. Its error is returned, and nobody is asked.
func (c *Cache) PartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error) {
	now := time.Now()
	record, have := c.known.GetIfPresent(id)
	if !have {
		record, have = c.revive(ctx, id)
	}
	if !have {
		c.misses.Add(1)
		return c.get(ctx, c.unknownLookups, id, c.fresh, may)
	}
	age := record.age(now)
	if age < c.fresh {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	switch {
	case age < c.ahead:
		return record.value, nil
	case age < c.fresh:
		_, _ = c.knownLookups.Start(id, nil, c.lookup(ctx, id, c.ahead))
		return record.value, nil
	case age < c.fresh+c.maxStale:
		return c.getOrUse(ctx, id, record)
	}
	return c.get(ctx, c.knownLookups, id, c.fresh, nil)
}

// getOrUse returns a fresh record, or else the one at hand: when a fresh one does not come in time, or
// just did not come. The lookup goes on when the caller does not wait any longer.
func (c *Cache) getOrUse(ctx context.Context, id ishare.PartyID, record aged[*ishare.Party]) (*ishare.Party, error) {
	now := time.Now()
	failure, failed := c.failed.GetIfPresent(id)
	c.mu.Lock()
	mayWait := (!failed || failure.age(now) >= failedLately) && c.slowAt.age(now) >= failedLately
	c.mu.Unlock()
	wait := time.Duration(0)
	if mayWait {
		wait = maxWait
	}
	bounded, cancel := context.WithTimeoutCause(ctx, wait, errSlowSource)
	defer cancel()
	party, known, err := c.fromMemory(id, c.fresh)
	if !known {
		var call *flight.Call[*ishare.Party]
		if call, err = c.knownLookups.Start(id, nil, c.lookup(ctx, id, c.fresh)); err == nil {
			party, err = call.Wait(bounded)
		}
	}
	now = time.Now()
	if err == nil || rule.IsUnknownParty(err) || ctx.Err() != nil || record.age(now) >= c.fresh+c.maxStale {
		return party, c.conclude(ctx, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, errSlowSource) && mayWait {
		c.slowAt = momentOf(now)
	}
	c.stats.StaleUses++
	if c.stats.StaleSince.IsZero() {
		c.stats.StaleSince = now
	}
	return record.value, nil
}

// FreshParty returns a record that is some three seconds old at most, for whoever is about to refuse a party by an
// older one. So a party is asked for once in three seconds, however often it is refused.
//
// The errors are those of [Cache.Party]; no stale record is used.
func (c *Cache) FreshParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	return c.FreshPartyIf(ctx, id, nil)
}

// FreshPartyIf is [Cache.FreshParty], but may is called first when the source has to be asked, as by
// [Cache.PartyIf]: whoever signs in the name of others has them all asked for.
func (c *Cache) FreshPartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error) {
	return c.get(ctx, c.unknownLookups, id, freshEnough, may)
}

// Close gives up what is being asked, and returns when no goroutine of the cache is left. From then on the cache answers
// with what it has, or an error.
func (c *Cache) Close() {
	c.knownLookups.Close()
	c.unknownLookups.Close()
	c.logs.Close()
}

// CacheStats tells how a [Cache] is doing, for health and metrics.
type CacheStats struct {
	Parties int // records in memory, about
	Unknown int // parties remembered as unknown, about

	Hits      uint64 // questions answered from memory, with a record that was fresh
	Misses    uint64 // others
	Asked     uint64 // questions put to the source
	Failures  uint64 // those of them that it did not answer, or not in a way to be believed
	StaleUses uint64 // answers with a record that was no longer fresh
	Shed      uint64 // callers who were turned away because too many parties were being asked for

	Answered time.Time // when the source last answered; zero: never
	Failed   time.Time // when it last failed; zero: never
	Err      error     // of the last question; nil when it was answered
	// StaleSince is since when records are used that are no longer fresh. It is zero
	// when the source has answered since.
	StaleSince time.Time
}

// Stats returns the present numbers.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	s := c.stats
	c.mu.Unlock()
	s.Hits, s.Misses = c.hits.Load(), c.misses.Load()
	s.Parties = c.known.EstimatedSize()
	s.Unknown = c.unknown.EstimatedSize()
	return s
}
