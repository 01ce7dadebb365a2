package bench

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processTime is the processor time, user and system, that a process has used up.
func processTime(pid int) (time.Duration, error) {
	const schedule = 2 // CPUCLOCK_SCHED, of which clock_getcpuclockid(3) makes the clock of a whole process
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedule), &used); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// endWithParent ends a child also when this process is killed.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGTERM }

// An alarm waits to some tens of microseconds. The timers of Go are up to a millisecond late, because the poller
// that waits for them counts in milliseconds, and that would count as latency.
type alarm struct{ file *os.File }

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timer")}, nil
}

// wait waits for so long, or until the alarm is closed.
func (a *alarm) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	raw, err := a.file.SyscallConn()
	if err != nil {
		return
	}
	set := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if raw.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &set, nil) }) == nil && err == nil {
		var expirations [8]byte
		_, _ = a.file.Read(expirations[:]) // in either case there is nothing more to wait for
	}
}

func (a *alarm) close() { _ = a.file.Close() }
