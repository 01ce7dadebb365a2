package replay

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// slots is the number of seconds in which the pairs of a shard can end. A pair ends
// in the second after its last moment, hence the one more.
const slots = int64(MaxLife/time.Second) + 1

// A shard holds the pairs whose keys begin alike, under a lock of its own.
//
// Expiry costs the same for every pair however many there are: the keys that end in
// a second stand in a bucket of that second, and a bucket is emptied once.
type shard struct {
	mu     sync.Mutex
	closed bool
	used   map[Key]struct{}
	ends   [slots][]Key // the keys that end in second s, at s modulo slots
	swept  int64        // everything that ended up to this second is forgotten; not above the common floor
	spare  []Key        // an emptied bucket, for the next second that needs one
	peak   int          // the most that used has held since it was made
}

// use is the one step of [Store.Use]: under the lock, all of it.
func (s *shard) use(now time.Time, k Key, end int64, all *shared) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, ErrClosed
	}
	s.sweep(now.Unix(), all)
	if end <= s.swept {
		// The clock was set back, or another goroutine, in whatever shard, has just seen it
		// pass this pair's end. A new assertion ends late enough once the clock has made up
		// the difference.
		return false, Undecided("its like have been forgotten, by a clock that was later than now",
			now, now.Add(time.Duration(s.swept-end+1)*time.Second))
	}
	if _, used := s.used[k]; used {
		return false, nil
	}
	if all.held.Add(1) > all.limit {
		all.held.Add(-1)
		return false, ErrFull
	}
	s.put(k, end)
	return true, nil
}

// put remembers a key until the second end, which must lie in the slots after swept.
func (s *shard) put(k Key, end int64) {
	bucket := &s.ends[end%slots]
	if *bucket == nil {
		*bucket, s.spare = s.spare, nil
	}
	*bucket = append(*bucket, k)
	s.used[k] = struct{}{}
}

// sweep forgets what has ended by now, or by the floor, and counts it no more. Time that
// runs backwards changes nothing: what was forgotten stays refused.
func (s *shard) sweep(now int64, all *shared) {
	if now = all.raiseFloor(now); now <= s.swept {
		return
	}
	before := len(s.used)
	s.peak = max(s.peak, before)
	for second := max(s.swept, now-slots) + 1; second <= now; second++ {
		bucket := &s.ends[second%slots]
		for _, k := range *bucket {
			delete(s.used, k)
		}
		if cap(*bucket) > cap(s.spare) {
			s.spare = (*bucket)[:0]
		}
		*bucket = nil
	}
	s.swept = now
	if dropped := before - len(s.used); dropped > 0 {
		all.held.Add(-int64(dropped))
	}
	// Give back the memory that many pairs at once took: a map of Go never does by itself. At
	// most an eighth of them is copied, so the cost per pair stays what it was.
	if s.peak >= 1<<12 && len(s.used) <= s.peak/8 {
		used := make(map[Key]struct{}, len(s.used))
		maps.Copy(used, s.used)
		s.used, s.spare, s.peak = used, nil, len(used)
	}
}

// close refuses every later use. A pair that was accepted is in the shard by then.
func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// appendTo appends the keys that end after the second floor.
func (s *shard) appendTo(list records, floor int64) records {
	s.mu.Lock()
	defer s.mu.Unlock()
	for end := max(s.swept, floor) + 1; end <= s.swept+slots; end++ {
		for _, k := range s.ends[end%slots] {
			list = list.add(k, end)
		}
	}
	return list
}

// shared is what the shards have in common.
type shared struct {
	limit int64
	held  atomic.Int64 // pairs in all shards, which count against the limit

	// floor is the latest second that any shard was asked in. Pairs that ended up to it count as
	// forgotten in all of them, so that the answers after a clock was set back do not depend on
	// which shards were asked before.
	floor atomic.Int64
}

// raiseFloor returns the floor, which is not below now. A shard calls it under its lock: its
// floors never fall.
func (s *shared) raiseFloor(now int64) int64 {
	for {
		floor := s.floor.Load()
		if now <= floor {
			return floor
		}
		if s.floor.CompareAndSwap(floor, now) {
			return now
		}
	}
}
