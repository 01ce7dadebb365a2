package listen

import (
	"context"
	"log/slog"
	"time"
)

const (
	maxPublic   = 4096 // connections of the public listener, unless the configuration says otherwise
	maxInternal = 256  // of the internal listener
	maxOther    = 256  // descriptors for files, and for calls to registries and status services
	minOther    = 40   // files and sockets that a server has open besides connections, and some calls
	minPublic   = 16   // as limits.connections has it
	unlimited   = 1 << 20
)

// A Share says how many connections each listener may have open, so that the descriptors of
// the process are never used up.
type Share struct {
	Public, Internal int
	Lowered          bool // Public is less than what was wanted
}

// NewShare divides as many descriptors as [Descriptors] gives. Wanted is the limit of the
// public listener; 0 takes what there is, up to 4,096. The internal listener and what the
// server itself opens have their parts first, below 64 descriptors the server itself. Where
// requests are passed on, each may need a second descriptor.
func NewShare(descriptors, wanted int, passedOn bool) Share {
	s := Share{Internal: min(maxInternal, descriptors/8)}
	s.Public = descriptors - s.Internal - max(minOther, min(maxOther, descriptors/4))
	if passedOn {
		s.Public /= 2
	}
	s.Public = max(1, s.Public)
	if wanted == 0 {
		wanted = max(minPublic, min(maxPublic, s.Public))
	}
	s.Lowered = wanted > s.Public
	s.Public = min(wanted, s.Public)
	return s
}

// quietPeriod is how long nothing must happen for a condition to be over.
const quietPeriod = 10 * time.Second

// A condition is logged when it begins and when it is over, however often it shows between.
type condition struct {
	err  error
	last time.Time
}

func (t *condition) over() bool { return t.err == nil || time.Since(t.last) > quietPeriod }

// raise notes a condition.
func (l *Listener) raise(t *condition, err error) {
	l.mu.Lock()
	first := t.over()
	t.err, t.last = err, time.Now()
	l.mu.Unlock()
	if first {
		l.config.Log.WarnContext(context.Background(), "connections are in trouble", slog.String("listener", l.config.Name), slog.Any("error", err))
	}
}

// settle notes that there is none at present, and logs when it has been over for long enough.
func (l *Listener) settle(t *condition) {
	l.mu.Lock()
	over := t.err != nil && t.over()
	if over {
		t.err = nil
	}
	l.mu.Unlock()
	if over {
		l.config.Log.InfoContext(context.Background(), "connections are taken as always again", slog.String("listener", l.config.Name))
	}
}

// Problems are what an operator should see to: connections that cannot be taken, or are at
// their limit. They end some seconds after the last of it.
func (l *Listener) Problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []string
	for _, t := range []*condition{&l.acceptFailing, &l.atLimit} {
		if !t.over() {
			problems = append(problems, l.config.Name+": "+t.err.Error())
		}
	}
	return problems
}

const (
	checkEvery = 5 * time.Second
	freeEvery  = time.Minute
	manyConns  = 256 // connections, whose memory is worth a garbage collection
)

// ReleaseMemory calls free some seconds after at least half of many connections have gone, at
// most once a minute, until ctx is done. What they held is garbage then, which the runtime
// would collect minutes later, and keep for longer.
func (l *Listener) ReleaseMemory(ctx context.Context, free func()) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	peak, fallen := 0, false
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.mu.Lock()
		open := l.open
		peak = max(peak, l.peak)
		l.peak = open
		l.mu.Unlock()
		before := fallen
		fallen = peak-open >= manyConns && open <= peak/2
		if before && fallen && time.Since(last) >= freeEvery {
			free()
			peak, fallen, last = open, false, time.Now()
		}
	}
}
