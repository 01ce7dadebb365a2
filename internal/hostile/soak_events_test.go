package hostile

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// happen has one thing after the other happen to the servers until ctx is done, and tells how they grew while nothing was
// restarted.
func (s *soak) happen(ctx context.Context, t *testing.T) string {
	t.Helper()
	events := []func(context.Context, *testing.T){
		s.hangups, s.toggle, s.registryFails(refused), s.restart, s.statusFails("off"), s.toggle, s.registryFails(hanging), s.crash,
		s.statusFails("malformed"), s.restartInOutage(refused), s.toggle, s.registryFails(garbage), s.statusFails("error"), s.restartInOutage(hanging),
		s.toggle, s.registryFails(failing), s.statusFails("slow"), s.restartInOutage(garbage),
	}
	gentle := []func(context.Context, *testing.T){
		s.hangups, s.toggle, s.registryFails(refused), s.statusFails("malformed"), s.toggle, s.registryFails(hanging), s.statusFails("off"),
		s.toggle, s.registryFails(garbage), s.registryFails(failing), s.statusFails("error"),
	}
	for i := 0; time.Now().Before(s.calm) && ctx.Err() == nil; i++ {
		events[i%len(events)](ctx, t)
		pause(ctx, 2*time.Second)
	}
	var memory, descriptors [2][]int
	servers := [2]*server{s.living, s.filed}
	sample := func() {
		for i, server := range servers {
			f := server.measure(t)
			memory[i], descriptors[i] = append(memory[i], f.memory), append(descriptors[i], f.descriptors)
		}
	}
	for i := 0; ctx.Err() == nil; i++ {
		gentle[i%len(gentle)](ctx, t)
		for range 10 {
			sample()
			pause(ctx, 200*time.Millisecond)
		}
	}
	var said string
	for i := range servers {
		first, last := thirds(memory[i])
		fewer, more := thirds(descriptors[i])
		said += fmt.Sprintf("MiB %d, then %d, descriptors %d, then %d; ", first>>10, last>>10, fewer, more)
		if last > first*5/4+8<<10 || more > fewer+spare {
			t.Errorf("server %d grows: %d KiB and %d descriptors, then %d and %d", i+1, first, fewer, last, more)
		}
	}
	return said
}

// thirds are the medians of the first and the last third.
func thirds(values []int) (first, last int) {
	n := max(1, len(values)/3)
	a, b := slices.Sorted(slices.Values(values[:n])), slices.Sorted(slices.Values(values[len(values)-n:]))
	return a[len(a)/2], b[len(b)/2]
}

// both are the two servers.
func (s *soak) both(do func(*server)) {
	do(s.living)
	do(s.filed)
}

func (s *soak) hangups(ctx context.Context, _ *testing.T) {
	for range 20 {
		s.both((*server).hangup)
		pause(ctx, 50*time.Millisecond)
	}
}

// toggle changes a standing at the registry, for longer than it takes to be known.
func (s *soak) toggle(ctx context.Context, t *testing.T) {
	t.Helper()
	value := "suspended"
	if s.standings[len(s.standings)-1].value == value {
		value = "active"
	}
	s.stands(value) // before and behind: in between, both may be heard
	s.space.turn(t, "pending-consumer.standing", value)
	pause(ctx, 5*time.Second)
}

// registryFails has the registry out of reach for a while, with a reload in its midst.
func (s *soak) registryFails(mode string) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		t.Helper()
		over := s.open(registryOut)
		s.front.turn(t, mode)
		pause(ctx, 2*time.Second)
		s.both((*server).hangup)
		pause(ctx, 2*time.Second)
		s.front.turn(t, normal)
		over(s.recovery)
	}
}

// statusFails has OCSP and the lists out of reach for a while, with a reload in its midst.
func (s *soak) statusFails(choice string) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		t.Helper()
		over := s.open(statusOut)
		s.space.turn(t, "ocsp", choice)
		s.space.turn(t, "crl", choice)
		pause(ctx, 2*time.Second)
		s.both((*server).hangup)
		pause(ctx, 2*time.Second)
		s.space.turn(t, "ocsp", normal)
		s.space.turn(t, "crl", normal)
		over(s.recovery)
	}
}

// restart stops the servers as an operator does, and starts them.
func (s *soak) restart(_ context.Context, t *testing.T) {
	t.Helper()
	over := s.open(down)
	s.both(func(server *server) { server.stop(t) })
	s.both(func(server *server) { server.start(t) })
	over(0)
}

// restartInOutage restarts them while the registry and the status services are out of reach.
func (s *soak) restartInOutage(mode string) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		t.Helper()
		over, answered := s.open(registryOut), s.open(statusOut)
		s.front.turn(t, mode)
		s.space.turn(t, "ocsp", "error")
		s.space.turn(t, "crl", "off")
		pause(ctx, time.Second)
		s.restart(ctx, t)
		pause(ctx, 3*time.Second)
		s.front.turn(t, normal)
		s.space.turn(t, "ocsp", normal)
		s.space.turn(t, "crl", normal)
		over(s.recovery)
		answered(s.recovery)
	}
}

// crash kills the servers and starts them. They cannot vouch for the time before.
func (s *soak) crash(_ context.Context, t *testing.T) {
	t.Helper()
	over, guarded, remembered := s.open(down), s.open(crashed), s.open(remembering)
	s.both((*server).kill)
	s.both(func(server *server) { server.start(t) })
	over(0)
	guarded(4 * time.Second)
	remembered(young)
}
