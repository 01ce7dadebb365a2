package flight

import (
	"fmt"
	"sync"
)

// Slots bound what is under way for each of those that are asked, so that one that is slow does
// not take all that there is, and what is under way in all.
type Slots[K comparable] struct {
	each, all int

	mu    sync.Mutex
	taken map[K]int
	total int
}

// NewSlots returns slots that are all free.
func NewSlots[K comparable](each, all int) *Slots[K] {
	return &Slots[K]{each: each, all: all, taken: map[K]int{}}
}

// Take takes a slot, to be given back with [Slots.Give], or returns an error that wraps [ErrBusy].
func (s *Slots[K]) Take(of K) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken[of] >= s.each:
		return fmt.Errorf("%w: %d of one kind", ErrBusy, s.taken[of])
	case s.total >= s.all:
		return fmt.Errorf("%w: %d", ErrBusy, s.total)
	}
	s.taken[of]++
	s.total++
	return nil
}

// Give gives a slot back.
func (s *Slots[K]) Give(of K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	s.taken[of]--
	if s.taken[of] == 0 {
		delete(s.taken, of)
	}
}

// Taken is how many slots are taken, and by how many of those that are asked.
func (s *Slots[K]) Taken() (slots, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, len(s.taken)
}
