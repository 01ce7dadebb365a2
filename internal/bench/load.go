package bench

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/problem"
	"github.com/waybill-token/waybill/rule"
)

// patience is how long an answer is waited for after the last moment at which its request could be sent.
const patience = 30 * time.Second

// A Result is what became of the requests of a window, or of several.
type Result struct {
	Latency  Histogram     // of every request that was due, refused and failed ones too
	Elapsed  time.Duration // from the start to the last answer
	CPU      time.Duration // of the server; zero when it is not known
	Statuses map[int]int   // of the answers
	Rules    map[string]int
	Failed   int    // requests without an answer
	Unsent   int    // requests of an open loop that were due and could not be sent while their assertions were good
	Trouble  string // the first answer that was not 200, or the first error
	Sent     int64  // bytes
	Received int64  // bytes
}

// Throughput is how many answers came in a second.
func (r *Result) Throughput() float64 { return perUnit(float64(r.answers()), r.Elapsed.Seconds()) }

// CPUPerRequest is the processor time of the server for each answer.
func (r *Result) CPUPerRequest() time.Duration {
	return time.Duration(perUnit(float64(r.CPU), float64(r.answers())))
}

func (r *Result) answers() int { return int(r.Latency.Count()) - r.Failed - r.Unsent }

func perUnit(amount, units float64) float64 {
	if units == 0 {
		return 0
	}
	return amount / units
}

// Add adds what became of other requests, one after these.
func (r *Result) Add(other *Result) {
	r.Elapsed += other.Elapsed
	r.CPU += other.CPU
	r.merge(other)
}

// merge adds what became of other requests at the same time.
func (r *Result) merge(other *Result) {
	r.Latency.Add(&other.Latency)
	r.Statuses, r.Rules = sum(r.Statuses, other.Statuses), sum(r.Rules, other.Rules)
	r.Failed += other.Failed
	r.Unsent += other.Unsent
	r.Sent += other.Sent
	r.Received += other.Received
	if r.Trouble == "" {
		r.Trouble = other.Trouble
	}
}

func sum[K comparable](a, b map[K]int) map[K]int {
	total := make(map[K]int, len(a))
	for _, m := range []map[K]int{a, b} {
		for k, n := range m {
			total[k] += n
		}
	}
	return total
}

// A load is requests that are signed, and how they are to be sent.
type load struct {
	dial        func(context.Context) (net.Conn, error)
	requests    [][]byte
	connections int
	rate        float64       // requests a second, due at equal distances; zero: each when a connection is free
	limit       time.Duration // nothing is sent later than this after the start; zero: no limit
	expiry      time.Time     // nothing is sent later than this
	pid         int           // of the server; zero: not known
	wait        func(time.Duration)
}

// fire sends the requests over connections that it opens before, and waits for the answers.
func (l *load) fire(ctx context.Context) (*Result, error) {
	conns := make([]*conn, l.connections)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	for i := range conns {
		var err error
		if conns[i], err = l.open(ctx); err != nil {
			return nil, err
		}
	}
	runtime.GC() // so that the window has none
	before, _ := l.serverTime()
	start, due := time.Now(), make(chan int, len(l.requests))
	var parts sync.WaitGroup
	results := make([]Result, len(conns))
	for i := range conns {
		parts.Go(func() { conns[i] = l.send(ctx, conns[i], start, due, &results[i]) })
	}
	l.schedule(ctx, start, due)
	parts.Wait()
	whole := &Result{Elapsed: time.Since(start)}
	if after, err := l.serverTime(); err == nil {
		whole.CPU = after - before
	}
	for i := range results {
		whole.merge(&results[i])
	}
	return whole, ctx.Err()
}

func (l *load) serverTime() (time.Duration, error) {
	if l.pid == 0 {
		return 0, nil
	}
	return processTime(l.pid)
}

// open makes a connection, which breaks when ctx is done.
func (l *load) open(ctx context.Context) (*conn, error) {
	c, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	opened := newConn(c)
	opened.release = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return opened, c.SetDeadline(l.expiry.Add(patience))
}

// schedule says which request is due: all at once, or each at its time. An open loop lasts until the one behind the
// last would be due.
func (l *load) schedule(ctx context.Context, start time.Time, due chan<- int) {
	defer close(due)
	for i := range l.requests {
		l.await(ctx, start, i)
		if ctx.Err() != nil {
			return
		}
		due <- i
	}
	l.await(ctx, start, len(l.requests))
}

// await waits until a request of an open loop is due.
func (l *load) await(ctx context.Context, start time.Time, i int) {
	if l.rate == 0 {
		return
	}
	for early := time.Until(l.intended(start, i)); early > 0 && ctx.Err() == nil; early = time.Until(l.intended(start, i)) {
		l.wait(early)
	}
}

// intended is when a request of an open loop is due.
func (l *load) intended(start time.Time, i int) time.Time {
	return start.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))
}

// send sends requests that are due, one after the other, and returns the connection that it had last. In an open loop
// latency counts from the time at which a request was due, whether or not a connection was free: else a server that
// stalls would be asked less just then, and nobody would see it (coordinated omission).
func (l *load) send(ctx context.Context, c *conn, start time.Time, due <-chan int, r *Result) *conn {
	for i := range due {
		from := time.Now()
		late := from.After(l.expiry) || l.limit > 0 && from.Sub(start) >= l.limit || ctx.Err() != nil
		switch {
		case l.rate > 0:
			from = l.intended(start, i)
		case late:
			continue // it is not due before a connection is free
		}
		if late {
			r.Unsent++
			r.Latency.Record(time.Since(from))
			continue
		}
		if c == nil || c.spent {
			c = l.reopen(ctx, c, r)
		}
		if c == nil {
			r.Failed++
			r.Latency.Record(time.Since(from))
			continue
		}
		received := c.r.n
		status, body, err := c.exchange(l.requests[i])
		r.Latency.Record(time.Since(from))
		r.Sent += int64(len(l.requests[i]))
		r.Received += c.r.n - received
		r.count(status, body, err)
	}
	return c
}

// reopen makes another connection in place of one that is spent; nil when there is none to be had.
func (l *load) reopen(ctx context.Context, spent *conn, r *Result) *conn {
	if spent != nil {
		_ = spent.Close()
	}
	c, err := l.open(ctx)
	if err != nil {
		r.note(err.Error())
		return nil
	}
	return c
}

// count takes in one exchange.
func (r *Result) count(status int, body []byte, err error) {
	if err != nil {
		r.Failed++
		r.note(err.Error())
		return
	}
	if r.Statuses == nil {
		r.Statuses, r.Rules = make(map[int]int), make(map[string]int)
	}
	r.Statuses[status]++
	if status == http.StatusOK {
		return
	}
	r.Rules[ruleID(body)]++
	if r.Trouble == "" {
		r.note(strings.TrimSpace(http.StatusText(status) + " " + problem.Text(body)))
	}
}

func (r *Result) note(trouble string) {
	if r.Trouble == "" {
		r.Trouble = trouble
	}
}

// noRule stands for the reasons of answers that name no rule of the catalogue.
const noRule = "none"

// ruleID is the rule that an answer names in its error_description.
func ruleID(body []byte) string {
	var answer struct {
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return noRule
	}
	if named, _ := rule.Described(answer.Description); named != nil {
		return named.ID
	}
	return noRule
}
