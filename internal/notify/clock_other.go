//go:build !linux

package notify

import "time"

// monotonic is of no use here: systemd runs on Linux.
func monotonic() time.Duration { return 0 }
