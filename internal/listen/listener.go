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
// such. Those whose request the server is at work on are never cut, nor are those to [Keep]:
// when there are no others, the next waits.
//
// The ConnState and ConnContext of the server must be those of the Listener, and its handler
// within [Handler].
type Listener struct {
	net.Listener

	config   Config
	begun    chan net.Conn
	closed   chan struct{} // no connection is given any more
	retired  chan struct{} // no connection is taken any more
	room     chan struct{} // a connection has gone, or waits for its client
	handling sync.WaitGroup

	mu              sync.Mutex
	started         bool
	open, peak      int
	beginning       int // connections on which a request has begun, of which the handler does not know yet
	failing, packed condition

	// Of *conn: the server waits for the client, for longest first.
	unproven, known list.List
}

// New bounds the connections of a listener.
func New(inner net.Listener, config Config) *Listener {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Listener{
		Listener: inner, config: config,
		begun: make(chan net.Conn), closed: make(chan struct{}), retired: make(chan struct{}), room: make(chan struct{}, 1),
	}
}

// Accept returns the next connection whose first request has begun. Its only error is
// [net.ErrClosed].
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	if !l.started && !ended(l.retired) {
		l.started = true
		l.handling.Go(l.take)
	}
	l.mu.Unlock()
	select {
	case c := <-l.begun:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close gives no connection any more, and closes those that were not given.
func (l *Listener) Close() error {
	err := l.retire()
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended(l.closed) {
		return net.ErrClosed
	}
	close(l.closed)
	for e := l.unproven.Front(); e != nil; e = e.Next() {
		if c := element(e); c.waiting {
			_ = c.Conn.Close() // whoever waits for its first byte sees to the rest
		}
	}
	return err
}

// Retire takes no more connections. Those that were just taken may still begin a request,
// which is given. Retire returns when none of them can any more, and the handler has every
// request that has begun, or ctx is done: after that, [http.Server.Shutdown] drops none of them.
func (l *Listener) Retire(ctx context.Context) error {
	err := l.retire()
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
	for l.begins() && ctx.Err() == nil {
		<-ticker.C
	}
	return err
}

func (l *Listener) begins() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beginning > 0
}

// mark says whether a request has begun. The caller holds the lock.
func (l *Listener) mark(c *conn, begins bool) {
	switch {
	case begins == c.begins:
	case begins:
		l.beginning++
	default:
		l.beginning--
	}
	c.begins = begins
}

func (l *Listener) retire() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended(l.retired) {
		return nil
	}
	close(l.retired)
	for e := l.unproven.Front(); e != nil; e = e.Next() {
		if c := element(e); c.waiting {
			_ = c.SetReadDeadline(c.since.Add(grace))
		}
	}
	return l.Listener.Close()
}

func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// take accepts until the listener retires. Errors pass: without descriptors or memory
// there is nothing to do but to make room, and to try again.
func (l *Listener) take() {
	pause := minPause
	for {
		raw, err := l.Listener.Accept()
		switch {
		case err == nil:
			pause = minPause
			l.end(&l.failing)
			c := &conn{Conn: raw, listener: l}
			l.admit(c)
			l.handling.Go(func() { l.deliver(c) })
		case ended(l.retired) || errors.Is(err, net.ErrClosed):
			return
		default:
			l.begin(&l.failing, fmt.Errorf("connections cannot be taken: %w", err))
			l.mu.Lock()
			l.evict()
			l.mu.Unlock()
			l.wait(nil, pause)
			pause = min(2*pause, maxPause)
		}
	}
}

// wait returns after a time, or before when told to or when the listener retires.
func (l *Listener) wait(told <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-told:
	case <-timer.C:
	case <-l.retired:
	}
}

// admit makes room for a connection, or waits for it.
func (l *Listener) admit(c *conn) {
	for {
		l.mu.Lock()
		full := l.open >= l.config.Limit
		var pause time.Duration
		if full && !ended(l.retired) { // at the end, one more is less bad than a refusal
			pause = l.evict()
		}
		busy := l.longest() == nil
		if pause == 0 {
			l.open++
			l.peak = max(l.peak, l.open)
			l.await(c)
			c.quiet.Store(true)
		}
		l.mu.Unlock()
		switch {
		case !full:
			l.end(&l.packed)
		case pause > 0 && busy:
			l.begin(&l.packed, fmt.Errorf("%d connections have requests under way, which is the limit: new ones wait", l.config.Limit))
		default:
			l.begin(&l.packed, fmt.Errorf("%d connections are open, which is the limit: those whose clients let the server wait for longest are closed for new ones", l.config.Limit))
		}
		if pause == 0 {
			return
		}
		l.wait(l.room, pause)
	}
}

// longest is the connection that is next to be closed; nil: there is none. The caller holds the lock.
func (l *Listener) longest() *conn {
	unproven, known := element(l.unproven.Front()), element(l.known.Front())
	switch {
	case known == nil:
		return unproven
	case unproven == nil:
		return known
	}
	since := known.since
	if l.known.Len() <= l.config.Limit/2 { // or they would leave no room for others
		since = since.Add(credit)
	}
	if since.Before(unproven.since) {
		return known
	}
	return unproven
}

// evict closes the connection whose client has kept the server waiting for longest. When there
// is none yet, it returns the time until the next try. The caller holds the lock.
func (l *Listener) evict() time.Duration {
	c := l.longest()
	if c == nil {
		return maxPause
	}
	if rest := minWait - time.Since(c.since); rest > 0 {
		return rest
	}
	l.forget(c)
	_ = c.Conn.Close() // its reader sees to the rest
	return 0
}

// forget counts a connection no more. The caller holds the lock.
func (l *Listener) forget(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	l.use(c)
	l.mark(c, false)
	l.open--
	l.tellRoom()
}

// await notes that the server waits for the client from now on. The caller holds the lock.
func (l *Listener) await(c *conn) {
	if c.gone || c.kept || c.requests > 0 {
		return
	}
	c.since = time.Now()
	if c.place != nil {
		l.queue(c).MoveToBack(c.place)
		return
	}
	c.place = l.queue(c).PushBack(c)
	l.tellRoom()
}

// use notes that the server does not wait for the client. The caller holds the lock.
func (l *Listener) use(c *conn) {
	if c.place != nil {
		l.queue(c).Remove(c.place)
		c.place = nil
	}
}

func (l *Listener) queue(c *conn) *list.List {
	if c.known {
		return &l.known
	}
	return &l.unproven
}

func (l *Listener) tellRoom() {
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// ConnState learns from the server when a request is over; see [http.Server].
func (l *Listener) ConnState(given net.Conn, state http.ConnState) {
	c := accepted(given)
	if c == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state { //nolint:exhaustive // the others say nothing that is not known
	case http.StateHijacked:
		l.keep(c)
	case http.StateIdle:
		c.kept, c.answered = false, time.Now()
		c.quiet.Store(true)
		l.mark(c, false)
		l.await(c)
	}
}

// Open is how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Limit is how many connections may be open at once.
func (l *Listener) Limit() int { return l.config.Limit }
