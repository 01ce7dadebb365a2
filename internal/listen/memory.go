package listen

import (
	"context"
	"time"
)

const (
	interval = 5 * time.Second
	seldom   = time.Minute
	many     = 256 // connections, whose memory is worth a garbage collection
)

// GiveBack calls free some seconds after at least half of many connections have gone, at
// most once a minute, until ctx is done. What they held is garbage then, which the runtime
// would collect minutes later, and keep for longer.
func (l *Listener) GiveBack(ctx context.Context, free func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	peak, fallen := 0, false
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		open, recent := l.sincePeak()
		peak = max(peak, recent)
		before := fallen
		fallen = peak-open >= many && open <= peak/2
		if before && fallen && time.Since(last) >= seldom {
			free()
			peak, fallen, last = open, false, time.Now()
		}
	}
}

// sincePeak gives how many connections are open, and how many were since the last call.
func (l *Listener) sincePeak() (open, peak int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	open, peak = l.open, l.peak
	l.peak = open
	return open, peak
}
