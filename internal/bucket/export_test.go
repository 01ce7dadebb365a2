package bucket

import "time"

// Missing is what [Set.Take] would return, and takes nothing.
func (s *Set[K]) Missing(key K) (wait time.Duration) {
	l, ok := s.limiters.GetIfPresent(key)
	if !ok {
		return 0
	}
	if now := time.Now(); l.TokensAt(now) < 1 {
		return s.missing(l, now)
	}
	return 0
}
