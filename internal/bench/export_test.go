package bench

import (
	"context"
	"net"
	"time"
)

// Fire sends requests over connections that dial makes, the rate being zero in a closed loop. It waits by the timers of
// Go, which go by the clock of a testing/synctest bubble.
func Fire(ctx context.Context, dial func(context.Context) (net.Conn, error), requests [][]byte, connections int, rate float64) (*Result, error) {
	l := &load{
		dial: dial, requests: requests, connections: connections, rate: rate, expiry: time.Now().Add(maxAge),
		wait: func(d time.Duration) { <-time.After(d) },
	}
	return l.fire(ctx)
}

// ReadAnswer reads an answer from a connection, and says whether the connection is spent.
func ReadAnswer(c net.Conn) (status int, body []byte, spent bool, err error) {
	opened := newConn(c)
	status, err = opened.readAnswer()
	return status, opened.body.Bytes(), opened.spent, err
}
