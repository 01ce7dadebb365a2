// Package bucket holds token buckets for many keys in bounded memory: how often each key may do
// something.
package bucket

import (
	"fmt"
	"math"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// maxKeys bounds the memory of a [Set], to some 15 MB. Beyond it the keys that are used least are forgotten,
// and begin with a full bucket when they come again: who has many keys can have those of others forgotten,
// which is to the advantage of these.
const maxKeys = 1 << 16

// A Rate is how fast a bucket fills, and how much it holds.
type Rate struct {
	Events int           // that may happen in each period
	Period time.Duration // over zero
	Burst  int           // that may happen at once, when nothing did before
}

// A Set is a token bucket for each key. It is safe for concurrent use.
type Set[K comparable] struct {
	rate     Rate
	limit    rate.Limit // rate as tokens for each second
	limiters *otter.Cache[K, *rate.Limiter]
}

// New returns a set whose buckets are full.
func New[K comparable](r Rate) (*Set[K], error) {
	if r.Events <= 0 || r.Period <= 0 || r.Burst <= 0 {
		return nil, fmt.Errorf("bucket: %+v lets nothing happen", r)
	}
	limiters := otter.Must(&otter.Options[K, *rate.Limiter]{MaximumSize: maxKeys})
	return &Set[K]{r, rate.Limit(float64(r.Events) / r.Period.Seconds()), limiters}, nil
}

// Rate is what the set was made with.
func (s *Set[K]) Rate() Rate { return s.rate }

// Take takes one from the bucket of a key. When it is empty, nothing is taken, and wait is the time until
// there is one again; otherwise it is zero.
func (s *Set[K]) Take(key K) (wait time.Duration) {
	l := s.limiter(key)
	if now := time.Now(); !l.AllowN(now, 1) {
		return s.missing(l, now)
	}
	return 0
}

// Give gives back one that was taken. A bucket never holds more than its burst.
func (s *Set[K]) Give(key K) { s.limiter(key).AllowN(time.Now(), -1) }

func (s *Set[K]) limiter(key K) *rate.Limiter {
	l, _ := s.limiters.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(s.limit, s.rate.Burst), false
	})
	return l
}

// missing is never zero: a token that is there by now was not taken.
func (s *Set[K]) missing(l *rate.Limiter, now time.Time) time.Duration {
	seconds := (1 - l.TokensAt(now)) / float64(s.limit)
	return max(time.Nanosecond, time.Duration(math.Ceil(seconds*float64(time.Second))))
}
