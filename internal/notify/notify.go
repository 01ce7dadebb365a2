// Package notify tells the service manager that has started the process how it is: sd_notify(3) of systemd, which others
// speak too.
package notify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Manager is the service manager that wants to be told. Nil is none, and is told nothing.
//
// What it is told is for it alone: nothing fails because it cannot be told, and nobody waits for it for longer than a second.
type Manager struct {
	socket   *net.UnixConn
	watchdog time.Duration // it wants a sign of life at least so often; zero: none
}

// patience bounds how long a message may take: the manager has not read the ones before.
const patience = time.Second

// FromEnvironment gives the manager that NOTIFY_SOCKET names: the path of a socket, or behind an @ the name of an abstract
// one. Nil, when none is named. WATCHDOG_USEC counts when WATCHDOG_PID is this process, or absent. The variables are for
// this process alone, and are taken away.
func FromEnvironment() (*Manager, error) {
	name, interval, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, variable := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(variable); err != nil {
			return nil, err
		}
	}
	if name == "" {
		return nil, nil //nolint:nilnil // nobody wants to be told
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: want a path, or the name of an abstract socket behind an @", name)
	}
	m := &Manager{}
	if interval != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		microseconds, err := strconv.ParseInt(interval, 10, 64)
		if err != nil || microseconds <= 0 || microseconds > int64(24*time.Hour/time.Microsecond) {
			return nil, fmt.Errorf("WATCHDOG_USEC is %q: want a number of microseconds, at most those of a day", interval)
		}
		m.watchdog = time.Duration(microseconds) * time.Microsecond
	}
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	m.socket = socket
	return m, nil
}

// Ready says that the process serves, at its start or once a reload has ended, and what is to be shown of it.
func (m *Manager) Ready(status string) { m.tell("READY=1", statusLine(status)) }

// Reloading says that the configuration is being read again. [Manager.Ready] ends it, whatever has come of it.
func (m *Manager) Reloading() {
	m.tell("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonic().Microseconds(), 10), statusLine("reading the configuration again"))
}

// Stopping says that the process is about to end.
func (m *Manager) Stopping(status string) { m.tell("STOPPING=1", statusLine(status)) }

// Watch gives signs of life until ctx is done, twice as often as the manager wants them, for as long as alive finds no
// error. Alive is given half of that time. It returns at once when the manager wants none.
func (m *Manager) Watch(ctx context.Context, alive func(context.Context) error) {
	if m == nil || m.watchdog == 0 {
		return
	}
	tick := time.NewTicker(m.watchdog / 2)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, m.watchdog/4)
		err := alive(asked)
		cancel()
		if err == nil {
			m.tell("WATCHDOG=1")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends the telling.
func (m *Manager) Close() error {
	if m == nil {
		return nil
	}
	return m.socket.Close()
}

// statusLine is one line, whatever the text holds.
func statusLine(text string) string {
	return "STATUS=" + strings.Join(strings.Fields(text), " ")
}

// tell sends one message. The manager may be gone, or late: that is no reason for the process to be anything else.
func (m *Manager) tell(lines ...string) {
	if m == nil {
		return
	}
	if m.socket.SetWriteDeadline(time.Now().Add(patience)) == nil {
		_, _ = m.socket.Write([]byte(strings.Join(lines, "\n")))
	}
}
