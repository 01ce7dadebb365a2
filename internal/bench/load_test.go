package bench_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/bench"
)

const granted = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

// requests are so many that are all alike.
func requests(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = []byte("POST /connect/token HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
	}
	return all
}

// serving dials a server whose answer to each request is what the function returns; when that is empty, the server
// breaks the connection off.
func serving(answer func() string) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			for r := bufio.NewReader(theirs); ; {
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if _, err := r.Discard(int(request.ContentLength)); err != nil {
					return
				}
				text := answer()
				if _, err := theirs.Write([]byte(text)); err != nil || text == "" {
					return
				}
			}
		}()
		return ours, nil
	}
}

func fire(t *testing.T, dial func(context.Context) (net.Conn, error), n, connections int, rate float64) *bench.Result {
	t.Helper()
	r, err := bench.Fire(t.Context(), dial, requests(n), connections, rate)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// good reports whether every request that was due was answered with 200.
func good(r *bench.Result) bool { return int64(r.Statuses[http.StatusOK]) == r.Latency.Count() }

// Of three seconds, a server is silent in the second one. An open loop shows what a third of the clients saw of it; in a
// closed one the load generator waits as well, and asks it hardly at all.
func TestStall(t *testing.T) {
	t.Parallel()
	stalling := func() func(context.Context) (net.Conn, error) {
		start := time.Now()
		return serving(func() string {
			time.Sleep(10 * time.Millisecond)
			if at := time.Since(start); at >= time.Second && at < 2*time.Second {
				time.Sleep(2*time.Second - at)
			}
			return granted
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := fire(t, stalling(), 300, 4, 100)
		p50, p90, p99 := r.Latency.Quantile(0.5), r.Latency.Quantile(0.9), r.Latency.Quantile(0.99)
		if p50 > 11*time.Millisecond || p90 < 750*time.Millisecond || p99 < 950*time.Millisecond {
			t.Errorf("open loop: p50 %v, p90 %v, p99 %v", p50, p90, p99)
		}
		if r.Elapsed != 3*time.Second || !good(r) || r.Throughput() != 100 {
			t.Errorf("open loop: %v, %v, %v a second", r.Elapsed, r.Statuses, r.Throughput())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := fire(t, stalling(), 800, 4, 0)
		if p99, most := r.Latency.Quantile(0.99), r.Latency.Max(); p99 > 11*time.Millisecond || most < time.Second || r.Elapsed != 3*time.Second {
			t.Errorf("closed loop: p99 %v, max %v in %v", p99, most, r.Elapsed)
		}
	})
}

// A request that was due and could not be sent while its assertion was good is none of those that went well.
func TestUnsent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := serving(func() string {
			time.Sleep(40 * time.Second)
			return granted
		})
		r := fire(t, slow, 20, 1, 10)
		if r.Unsent != 19 || r.Statuses[200] != 1 || good(r) || r.Latency.Quantile(0.05) < 38*time.Second {
			t.Errorf("open loop: %d unsent, statuses %v, p5 %v", r.Unsent, r.Statuses, r.Latency.Quantile(0.05))
		}
		if r = fire(t, slow, 20, 1, 0); r.Unsent != 0 || r.Latency.Count() != 1 || !good(r) {
			t.Errorf("closed loop: %d unsent, %d sent", r.Unsent, r.Latency.Count())
		}
	})
}

func TestAnswersAreCounted(t *testing.T) {
	t.Parallel()
	refused := func(status int, body string) string {
		return fmt.Sprintf("HTTP/1.1 %d no\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	answers := []string{
		granted,
		refused(401, `{"error":"invalid_client","error_description":"jti.replayed: the assertion was used before"}`),
		refused(401, `{"error":"invalid_client","error_description":"jti.replayed: the assertion was used before"}`),
		refused(503, `{"error":"temporarily_unavailable","error_description":"unavailable.state: try again"}`),
		refused(400, `{"error":"invalid_client","error_description":"no.rule: of ours"}`),
		refused(502, `<html>Bad gateway</html>`),
		"", // breaks off, and another connection is made
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
		granted,
	}
	var n atomic.Int64
	r := fire(t, serving(func() string { return answers[n.Add(1)-1] }), len(answers), 1, 0)
	r.Latency, r.Elapsed = bench.Histogram{}, 0
	want := &bench.Result{
		Statuses: map[int]int{200: 3, 401: 2, 503: 1, 400: 1, 502: 1},
		Rules:    map[string]int{"jti.replayed": 2, "unavailable.state": 1, "none": 2},
		Failed:   1, Trouble: "Unauthorized jti.replayed: the assertion was used before; invalid_client",
		Sent: int64(len(answers) * len(requests(1)[0])),
	}
	for _, a := range answers {
		want.Received += int64(len(a))
	}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(bench.Histogram{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A server that goes away costs one failure a request, and ends.
func TestServerGoes(t *testing.T) {
	t.Parallel()
	var dialled atomic.Int64
	once := serving(func() string { return "" })
	r := fire(t, func(ctx context.Context) (net.Conn, error) {
		if dialled.Add(1) > 1 {
			return nil, errors.New("nobody is there")
		}
		return once(ctx)
	}, 5, 1, 0)
	if r.Failed != 5 || r.Latency.Count() != 5 || good(r) || r.Throughput() != 0 || r.Trouble != "EOF" && r.Trouble != "unexpected EOF" {
		t.Errorf("%d failed of %d, %v a second, %q", r.Failed, r.Latency.Count(), r.Throughput(), r.Trouble)
	}
	_, err := bench.Fire(t.Context(), func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }, requests(1), 1, 0)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("no server: %v", err)
	}
}

// An interrupt does not wait for a server that is silent.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			start := time.Now()
			silent := make(chan struct{})
			defer close(silent)
			_, err := bench.Fire(ctx, serving(func() string { <-silent; return "" }), requests(10), 2, rate)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 4*time.Second {
				t.Errorf("rate %v: %v after %v", rate, err, time.Since(start))
			}
		})
	}
}
