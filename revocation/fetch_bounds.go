package revocation

import (
	"fmt"
	"sync"

	"github.com/waybill-token/waybill/internal/flight"
)

// slots bound what is under way for one of those that are asked, so that one who is slow does not
// take all that there are, and what is under way in all.
type slots[K comparable] struct {
	each, all int

	mu    sync.Mutex
	taken map[K]int
	total int
}

func newSlots[K comparable](each, all int) *slots[K] {
	return &slots[K]{each: each, all: all, taken: map[K]int{}}
}

// take takes a slot, to be given back, or returns an error that wraps [flight.ErrBusy].
func (s *slots[K]) take(of K) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken[of] >= s.each:
		return fmt.Errorf("%w: %d of one kind", flight.ErrBusy, s.taken[of])
	case s.total >= s.all:
		return fmt.Errorf("%w: %d", flight.ErrBusy, s.total)
	}
	s.taken[of]++
	s.total++
	return nil
}

func (s *slots[K]) give(of K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	s.taken[of]--
	if s.taken[of] == 0 {
		delete(s.taken, of)
	}
}
