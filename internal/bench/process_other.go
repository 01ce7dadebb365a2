//go:build !linux

package bench

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// processTime is not known here.
func processTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

func endWithParent(*syscall.SysProcAttr) {}

// An alarm waits, as exactly as the timers of Go do here.
type alarm struct {
	closed chan struct{}
	close  func()
}

func newAlarm() (*alarm, error) {
	closed := make(chan struct{})
	return &alarm{closed, sync.OnceFunc(func() { close(closed) })}, nil
}

// wait waits for so long, or until the alarm is closed.
func (a *alarm) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-a.closed:
	}
}
