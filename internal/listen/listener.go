// Package listen takes the connections of a server and keeps within bounds what they
// cost, so that nobody can shut others out by opening many of them.
package listen

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	grace    = time.Second            // for the first request of a connection that came just before a stop
	minWait  = 100 * time.Millisecond // for a client, before its connection is closed for another
	credit   = 10 * time.Second       // of waiting, for a connection on which a client has proven who it is
	minPause = 5 * time.Millisecond
	maxPause = time.Second // after an error, before the next try
)

// Config says what a [Listener] bounds. All but TLS and Log must be set.
type Config struct {
	Name      string        // by which the log and [Listener.Problems] speak of it
	Limit     int           // connections open at once
	Idle      time.Duration // how long one may stay open before the first byte of its first request
	Handshake time.Duration // what a TLS handshake may take from its first byte on
	TLS       *tls.Config   // nil: plain
	Log       *slog.Logger  // nil: silent
}

// A Listener gives connections to an [http.Server] when their first request begins. One
// that was opened ahead, as pools and load balancers do, is thus no slow header, and costs
// little. The ConnState of the server must be [Listener.ConnState].
//
// At the limit, a new connection takes the place of the one whose client has kept the server
// waiting for longest: for a request or the rest of one, or until an answer is read. A client
// that has proven who it is may do so for ten seconds more, unless more than half of all are
// such. Those whose request the server is at work on are never cut, nor are those that [MarkAuthenticated] protects:
// when there are no others, the next waits.
//
// The ConnState and ConnContext of the server must be those of the Listener, and its handler
// within [Handler].
type Listener struct {
	net.Listener

	config   Config
	ready    chan net.Conn // those whose first request has begun
	closed   chan struct{} // no connection is given any more
	stopped  chan struct{} // no connection is accepted any more
	capacity chan struct{} // a connection has gone, or waits for its client and may be closed for another
	handling sync.WaitGroup

	mu                     sync.Mutex
	accepting              bool
	open, peak             int
	startedRequests        int // connections on which a request has begun, of which the handler does not know yet
	acceptFailing, atLimit condition

	// Of *conn: the server waits for the client, for longest first. On the authenticated ones a client has proven who it is.
	anonymous, authenticated list.List
}

// New bounds the connections of a listener.
func New(inner net.Listener, config Config) *Listener {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Listener{
		Listener: inner, config: config,
		ready: make(chan net.Conn), closed: make(chan struct{}), stopped: make(chan struct{}), capacity: make(chan struct{}, 1),
	}
}

// Accept returns the next connection whose first request has begun. Its only error is
// [net.ErrClosed].
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	if !l.accepting && !isClosed(l.stopped) {
		l.accepting = true
		l.handling.Go(l.acceptAll)
	}
	l.mu.Unlock()
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close gives no connection any more, and closes those that were not given.
func (l *Listener) Close() error {
	err := l.stopAccepting()
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.closed) {
		return net.ErrClosed
	}
	close(l.closed)
	for e := l.anonymous.Front(); e != nil; e = e.Next() {
		if c := connOf(e); c.awaitsFirst {
			_ = c.Conn.Close() // peek, which waits for its first byte, fails then, and deliver removes it
		}
	}
	return err
}

// StopAccepting accepts no more connections. Those that were just taken may still begin a request,
// which is given. StopAccepting returns when none of them can any more, and the handler has every
// request that has begun, or ctx is done: after that, [http.Server.Shutdown] drops none of them.
func (l *Listener) StopAccepting(ctx context.Context) error {
	err := l.stopAccepting()
	given := make(chan struct{})
	go func() {
		l.handling.Wait()
		close(given)
	}()
	select {
	case <-given:
	case <-ctx.Done():
	}
	ticker := time.NewTicker(minPause)
	defer ticker.Stop()
	for {
		l.mu.Lock()
		started := l.startedRequests
		l.mu.Unlock()
		if started == 0 || ctx.Err() != nil {
			return err
		}
		<-ticker.C
	}
}

// setStarted says whether a request has begun. The caller holds the lock.
func (l *Listener) setStarted(c *conn, started bool) {
	switch {
	case started == c.started:
	case started:
		l.startedRequests++
	default:
		l.startedRequests--
	}
	c.started = started
}

func (l *Listener) stopAccepting() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.stopped) {
		return nil
	}
	close(l.stopped)
	for e := l.anonymous.Front(); e != nil; e = e.Next() {
		if c := connOf(e); c.awaitsFirst {
			_ = c.SetReadDeadline(c.waitingSince.Add(grace))
		}
	}
	return l.Listener.Close()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// acceptAll accepts until the listener is stopped. Errors pass: without descriptors or memory
// there is nothing to do but to make room, and to try again.
func (l *Listener) acceptAll() {
	pause := minPause
	for {
		raw, err := l.Listener.Accept()
		switch {
		case err == nil:
			pause = minPause
			l.settle(&l.acceptFailing)
			c := &conn{Conn: raw, listener: l}
			l.admit(c)
			l.handling.Go(func() { l.deliver(c) })
		case isClosed(l.stopped) || errors.Is(err, net.ErrClosed):
			return
		default:
			l.raise(&l.acceptFailing, fmt.Errorf("connections cannot be taken: %w", err))
			l.mu.Lock()
			l.evict()
			l.mu.Unlock()
			l.pause(nil, pause)
			pause = min(2*pause, maxPause)
		}
	}
}

// pause returns after a time, or before when told to or when the listener is stopped.
func (l *Listener) pause(told <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-told:
	case <-timer.C:
	case <-l.stopped:
	}
}

// admit makes room for a connection, or waits for it.
func (l *Listener) admit(c *conn) {
	for {
		l.mu.Lock()
		full := l.open >= l.config.Limit
		var pause time.Duration
		if full && !isClosed(l.stopped) { // during a stop, one more is better than a refusal
			pause = l.evict()
		}
		busy := l.longestWaiting() == nil
		if pause == 0 {
			l.open++
			l.peak = max(l.peak, l.open)
			l.startWaiting(c, time.Now())
			c.idle.Store(true)
		}
		l.mu.Unlock()
		switch {
		case !full:
			l.settle(&l.atLimit)
		case pause > 0 && busy:
			l.raise(&l.atLimit, fmt.Errorf("%d connections have requests under way, which is the limit: new ones wait", l.config.Limit))
		default:
			l.raise(&l.atLimit, fmt.Errorf("%d connections are open, which is the limit: those whose clients let the server wait for longest are closed for new ones", l.config.Limit))
		}
		if pause == 0 {
			return
		}
		l.pause(l.capacity, pause)
	}
}

// longestWaiting is the connection that is next to be closed; nil: there is none. The caller holds the lock.
func (l *Listener) longestWaiting() *conn {
	anonymous, authenticated := connOf(l.anonymous.Front()), connOf(l.authenticated.Front())
	switch {
	case authenticated == nil:
		return anonymous
	case anonymous == nil:
		return authenticated
	}
	since := authenticated.waitingSince
	if l.authenticated.Len() <= l.config.Limit/2 { // or they would leave no room for others
		since = since.Add(credit)
	}
	if since.Before(anonymous.waitingSince) {
		return authenticated
	}
	return anonymous
}

// evict closes the connection whose client has kept the server waiting for longest. When there
// is none yet, it returns the time until the next try. The caller holds the lock.
func (l *Listener) evict() time.Duration {
	c := l.longestWaiting()
	if c == nil {
		return maxPause
	}
	if rest := minWait - time.Since(c.waitingSince); rest > 0 {
		return rest
	}
	l.remove(c)
	_ = c.Conn.Close() // reading from it fails, and the server closes it
	return 0
}

// remove takes a connection out of what is counted. The caller holds the lock.
func (l *Listener) remove(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	l.stopWaiting(c)
	l.setStarted(c, false)
	l.open--
	l.signalCapacity()
}

// startWaiting notes that the server waits for the client from now on. The caller holds the lock.
func (l *Listener) startWaiting(c *conn, now time.Time) {
	if c.gone || c.protected || c.requests > 0 {
		return
	}
	c.waitingSince = now
	if c.element != nil {
		l.waitingList(c).MoveToBack(c.element)
		return
	}
	c.element = l.waitingList(c).PushBack(c)
	l.signalCapacity()
}

// stopWaiting notes that the server does not wait for the client. The caller holds the lock.
func (l *Listener) stopWaiting(c *conn) {
	if c.element != nil {
		l.waitingList(c).Remove(c.element)
		c.element = nil
	}
}

func (l *Listener) waitingList(c *conn) *list.List {
	if c.authenticated {
		return &l.authenticated
	}
	return &l.anonymous
}

func (l *Listener) signalCapacity() {
	select {
	case l.capacity <- struct{}{}:
	default:
	}
}

// ConnState learns from the server when a request is over; see [http.Server].
func (l *Listener) ConnState(given net.Conn, state http.ConnState) {
	c := accepted(given)
	if c == nil || state != http.StateHijacked && state != http.StateIdle { // the others say nothing that is not known
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if state == http.StateHijacked {
		l.stopWaiting(c)
		c.protected, c.authenticated = true, true
		return
	}
	c.protected, c.answered = false, now
	c.idle.Store(true)
	l.setStarted(c, false)
	l.startWaiting(c, now)
}

// Open is how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Limit is how many connections may be open at once.
func (l *Listener) Limit() int { return l.config.Limit }

// firstInherited is the first descriptor that a service manager hands over: SD_LISTEN_FDS_START.
const firstInherited = 3

// Inherited gives the listening sockets that a service manager has opened for this process, by
// their names: see sd_listen_fds(3). None, when there is no word of any. The variables are
// for this process alone, and are taken away.
//
// It is an error when a socket does not have one of the names, or is none that listens for
// TCP: the server must not serve at other places than it seems to.
func Inherited(names ...string) (map[string]net.Listener, error) {
	pid, count, labels := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil //nolint:nilnil // they are another process's
	}
	found := strings.Split(labels, ":")
	if n, err := strconv.Atoi(count); err != nil || n != len(found) {
		return nil, fmt.Errorf("LISTEN_FDS is %q and LISTEN_FDNAMES is %q: want as many names as sockets (FileDescriptorName=)", count, labels)
	}
	sockets := make(map[string]net.Listener)
	for i, name := range found {
		if err := inherit(sockets, names, name, firstInherited+i); err != nil {
			return nil, fmt.Errorf("the socket that was handed over as %q: %w", name, err)
		}
	}
	return sockets, nil
}

func inherit(sockets map[string]net.Listener, names []string, name string, descriptor int) error {
	switch {
	case !slices.Contains(names, name):
		return fmt.Errorf("want one of the names %s (FileDescriptorName=)", strings.Join(names, ", "))
	case sockets[name] != nil:
		return errors.New("there are two of the name")
	}
	file := os.NewFile(uintptr(descriptor), name)
	listener, err := net.FileListener(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if _, ok := listener.(*net.TCPListener); !ok {
		return errors.Join(errors.New("want one that listens for TCP"), listener.Close())
	}
	sockets[name] = listener
	return nil
}
