package registry

import (
	"sync"
	"time"
)

// CacheStats tells how a [Cache] is doing, for health and metrics.
type CacheStats struct {
	Parties int // records in memory, about
	Unknown int // parties remembered as unknown, about

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
	s := c.health.stats()
	s.Parties = c.known.EstimatedSize()
	s.Unknown = c.unknown.EstimatedSize()
	s.Asked = c.asked.Load()
	s.Failures = c.failures.Load()
	s.StaleUses = c.staleUses.Load()
	s.Shed = c.shed.Load()
	return s
}

// cacheHealth is how the last questions went.
type cacheHealth struct {
	mu     sync.Mutex
	state  CacheStats // the counters are elsewhere
	slowAt moment     // when a caller last waited in vain, with no answer since
}

// answered reports whether that ended a time without answers.
func (h *cacheHealth) answered(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	after := h.state.Err != nil
	h.state.Answered, h.state.Err, h.state.StaleSince = now, nil, time.Time{}
	h.slowAt = moment{}
	return after
}

// slow says that somebody did not wait any longer.
func (h *cacheHealth) slow(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slowAt = momentOf(now)
}

func (h *cacheHealth) slowLately(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.slowAt.age(now) < failedLately
}

func (h *cacheHealth) failed(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state.Failed, h.state.Err = now, err
}

func (h *cacheHealth) stale(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.StaleSince.IsZero() {
		h.state.StaleSince = now
	}
}

func (h *cacheHealth) stats() CacheStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}
