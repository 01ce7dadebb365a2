package notify

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock by which the manager tells messages apart: CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil { // which Linux always has
		return 0
	}
	return time.Duration(now.Nano())
}
