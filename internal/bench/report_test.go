package bench_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/bench"
)

// window is one in which so many requests each took as long.
func window(n int, each, elapsed, cpu time.Duration) *bench.Result {
	r := &bench.Result{Elapsed: elapsed, CPU: cpu, Statuses: map[int]int{200: n}, Rules: map[string]int{}, Sent: int64(10 * n), Received: int64(n)}
	for range n {
		r.Latency.Record(each)
	}
	return r
}

// measured is what was measured of a server and of the floor, whose warm-up was one good request.
func measured(windows ...[]*bench.Result) []*bench.Measurement {
	u := &url.URL{Scheme: "http", Host: "127.0.0.1:8080", Path: "/connect/token"}
	var all []*bench.Measurement
	for i, w := range windows {
		t := &bench.Target{Name: []string{"waybill serve", "floor"}[i], URL: u}
		all = append(all, &bench.Measurement{Target: t, WarmUp: window(1, 0, 0, 0), Windows: w})
	}
	return all
}

// Ratios are taken within a round: one that hit both servers changes nothing.
func TestRatios(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	server := []*bench.Result{window(100, 2*ms, time.Second, 10*ms), window(100, 60*ms, 10*time.Second, 100*ms), window(100, ms, time.Second, 10*ms)}
	floor := []*bench.Result{window(200, ms, time.Second, 40*ms), window(200, 30*ms, 10*time.Second, 400*ms), window(100, ms, time.Second, 10*ms)}
	report := bench.NewReport(bench.Settings{}, measured(server, floor))
	want := []bench.Ratio{{Beside: "floor", Throughput: 0.5, CPU: 0.5, P99: 2}}
	if diff := cmp.Diff(want, report.Ratios); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Of an even number the median is between the middle ones; where nothing is known there is no ratio.
	report = bench.NewReport(bench.Settings{}, measured(
		[]*bench.Result{window(100, ms, time.Second, 0), window(100, 3*ms, time.Second, 0)},
		[]*bench.Result{window(200, ms, time.Second, 0), window(100, ms, time.Second, 0)},
	))
	want = []bench.Ratio{{Beside: "floor", Throughput: 0.75, P99: 2}}
	if diff := cmp.Diff(want, report.Ratios); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const wantReport = `{
  "load": {
    "connections": 4,
    "rate": 100,
    "clients": 3,
    "chains": "warm",
    "spawned": true
  },
  "servers": [
    {
      "name": "waybill serve",
      "url": "http://127.0.0.1:8080/connect/token",
      "requests": 3,
      "seconds": 3,
      "throughput": 0.6666666666666666,
      "latency_ms": {
        "p50": 1.9,
        "p90": 1000,
        "p99": 1000,
        "p99_9": 1000,
        "max": 1000
      },
      "cpu_us_per_request": 1000,
      "statuses": {
        "200": 1,
        "401": 1
      },
      "rules": {
        "jti.replayed": 1
      },
      "failed": 1,
      "unsent": 0,
      "cold": 0,
      "trouble": "Unauthorized jti.replayed: used",
      "bytes": {
        "sent": 30,
        "received": 2
      },
      "histogram": [
        {
          "to_ms": 2,
          "requests": 2
        },
        {
          "to_ms": 5,
          "requests": 0
        },
        {
          "to_ms": 10,
          "requests": 0
        },
        {
          "to_ms": 20,
          "requests": 0
        },
        {
          "to_ms": 50,
          "requests": 0
        },
        {
          "to_ms": 100,
          "requests": 0
        },
        {
          "to_ms": 200,
          "requests": 0
        },
        {
          "to_ms": 500,
          "requests": 0
        },
        {
          "to_ms": 1000,
          "requests": 1
        }
      ],
      "rounds": [
        {
          "requests": 3,
          "throughput": 0.6666666666666666,
          "p99_ms": 1000,
          "cpu_us_per_request": 1000
        }
      ]
    }
  ]
}`

const wantText = `open loop of 100 requests a second, connections: 4, clients: 3, chains: warm, rounds: 1

waybill serve, http://127.0.0.1:8080/connect/token
  requests           3 in 3.00 s
  throughput         1 a second
  latency            p50 1.90 ms, p90 1000.00 ms, p99 1000.00 ms, p99.9 1000.00 ms, max 1000.00 ms
  CPU of the server  1000.0 µs a request
  statuses           200: 1, 401: 1
  refused by rule    jti.replayed: 1
  no answer          1
  first of these     Unauthorized jti.replayed: used
  bytes              30 sent, 2 received
  up to 2 ms         ################################################## 2
  up to 5 ms                                                            0
`

// The shape of the report is one that other programs read.
func TestReport(t *testing.T) {
	t.Parallel()
	r := &bench.Result{
		Elapsed: 3 * time.Second, CPU: 2 * time.Millisecond, Statuses: map[int]int{200: 1, 401: 1}, Rules: map[string]int{"jti.replayed": 1},
		Failed: 1, Trouble: "Unauthorized jti.replayed: used", Sent: 30, Received: 2,
	}
	for _, d := range []time.Duration{1900 * time.Microsecond, 1900 * time.Microsecond, time.Second} {
		r.Latency.Record(d)
	}
	// The end of a bucket is told for a quantile that is not the longest.
	settings := bench.Settings{Connections: 4, Rate: 100, Clients: 3, Chains: "warm", Spawned: true}
	report := bench.NewReport(settings, measured([]*bench.Result{r}))
	if report.Good() {
		t.Error("a report with refusals is good")
	}
	p50 := &report.Servers[0].Latency.P50
	if *p50 < 1.9 || *p50 > 1.9*(1+1.0/128) {
		t.Errorf("p50 is %v", *p50)
	}
	*p50 = 1.9
	got, err := json.Marshal(report, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantReport, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text.String(), wantText) {
		t.Errorf("text:\n%s\nwant:\n%s", &text, wantText)
	}
}

// A server that has refused to get warm is not measured warm.
func TestColdReport(t *testing.T) {
	t.Parallel()
	good := measured([]*bench.Result{window(1, 0, time.Second, 0)})
	if !bench.NewReport(bench.Settings{}, good).Good() {
		t.Error("a report without refusals is not good")
	}
	good[0].WarmUp.Latency.Record(0)
	good[0].WarmUp.Trouble = "no"
	report := bench.NewReport(bench.Settings{}, good)
	if report.Good() || report.Servers[0].Cold != 1 || report.Servers[0].Trouble != "no" {
		t.Errorf("good: %v, %+v", report.Good(), report.Servers[0])
	}
}
