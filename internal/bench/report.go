package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is what a run has measured, in the form in which it is printed as JSON. Fields may be added; those that are
// here keep their names, units and meaning.
type Report struct {
	// Load is what was asked for.
	Load Settings `json:"load"`
	// Servers are those that were measured, the first one being the one that matters.
	Servers []Summary `json:"servers"`
	// Ratios are those of the first server to each other one: medians over rounds.
	Ratios []Ratio `json:"ratios,omitempty"`
}

// Settings describe a load.
type Settings struct {
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate,omitzero"` // requests a second of an open loop; absent for a closed one
	Clients     int     `json:"clients"`
	Chains      string  `json:"chains"` // warm, cold-leaf or cold
	Spawned     bool    `json:"spawned"`
}

// A Summary is what was measured of one server.
type Summary struct {
	Name       string         `json:"name"`
	URL        string         `json:"url"`
	Requests   int            `json:"requests"` // that were due in the windows
	Seconds    float64        `json:"seconds"`  // all windows together
	Throughput float64        `json:"throughput"`
	Latency    Latency        `json:"latency_ms"`
	CPU        float64        `json:"cpu_us_per_request,omitzero"` // user and system; absent when it is not known
	Statuses   map[int]int    `json:"statuses"`
	Rules      map[string]int `json:"rules"` // of answers other than 200; none: the answer named no rule
	Failed     int            `json:"failed"`
	Unsent     int            `json:"unsent"`
	Cold       int            `json:"cold"`             // requests of the warm-up that were not answered with 200
	Trouble    string         `json:"trouble,omitzero"` // the first answer other than 200, or the first error
	Bytes      Bytes          `json:"bytes"`
	Histogram  []Count        `json:"histogram"`
	Rounds     []Round        `json:"rounds"`
}

// Latency is in milliseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Bytes went over the connections.
type Bytes struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

// A Count is how many requests took so long: more than the one before, at most To, in milliseconds.
type Count struct {
	To       float64 `json:"to_ms"`
	Requests int64   `json:"requests"`
}

// A Round is one window.
type Round struct {
	Requests   int     `json:"requests"`
	Throughput float64 `json:"throughput"`
	P99        float64 `json:"p99_ms"`
	CPU        float64 `json:"cpu_us_per_request,omitzero"`
}

// A Ratio is how the first server does beside another one.
type Ratio struct {
	Beside     string  `json:"beside"`
	Throughput float64 `json:"throughput"`
	CPU        float64 `json:"cpu_per_request,omitzero"`
	P99        float64 `json:"p99"`
}

// NewReport makes a report of what [Run] returns.
func NewReport(settings Settings, measured []*Measurement) *Report {
	report := &Report{Load: settings}
	for i, m := range measured {
		report.Servers = append(report.Servers, m.summary())
		if i > 0 {
			ratio := func(of func(*Result) float64) float64 { return medianRatio(measured[0].Windows, m.Windows, of) }
			report.Ratios = append(report.Ratios, Ratio{
				Beside:     m.Target.Name,
				Throughput: ratio((*Result).Throughput),
				CPU:        ratio(func(r *Result) float64 { return r.CPUPerRequest().Seconds() }),
				P99:        ratio(func(r *Result) float64 { return r.Latency.Quantile(0.99).Seconds() }),
			})
		}
	}
	return report
}

// Good reports whether all requests that were due to all servers were answered with 200, in the windows and before.
func (r *Report) Good() bool {
	return !slices.ContainsFunc(r.Servers, func(s Summary) bool { return s.Statuses[http.StatusOK] != s.Requests || s.Cold > 0 })
}

func (m *Measurement) summary() Summary {
	all := total(m.Windows)
	s := Summary{
		Name: m.Target.Name, URL: m.Target.URL.String(), Requests: int(all.Latency.Count()), Seconds: all.Elapsed.Seconds(),
		Throughput: all.Throughput(), CPU: micro(all.CPUPerRequest()), Statuses: all.Statuses, Rules: all.Rules,
		Latency: Latency{
			P50: milli(all.Latency.Quantile(0.5)), P90: milli(all.Latency.Quantile(0.9)), P99: milli(all.Latency.Quantile(0.99)),
			P999: milli(all.Latency.Quantile(0.999)), Max: milli(all.Latency.Max()),
		},
		Failed: all.Failed, Unsent: all.Unsent, Trouble: cmp.Or(m.WarmUp.Trouble, all.Trouble), Bytes: Bytes{all.Sent, all.Received},
		Cold: int(m.WarmUp.Latency.Count()) - m.WarmUp.Statuses[http.StatusOK],
	}
	for _, row := range all.Latency.Rows() {
		s.Histogram = append(s.Histogram, Count{milli(row.To), row.Count})
	}
	for _, r := range m.Windows {
		s.Rounds = append(s.Rounds, Round{int(r.Latency.Count()), r.Throughput(), milli(r.Latency.Quantile(0.99)), micro(r.CPUPerRequest())})
	}
	return s
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// medianRatio is the median of the ratios within each round; zero when none is known.
func medianRatio(a, b []*Result, of func(*Result) float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if divisor := of(b[i]); divisor != 0 {
			ratios = append(ratios, of(a[i])/divisor)
		}
	}
	if len(ratios) == 0 {
		return 0
	}
	slices.Sort(ratios)
	middle := len(ratios) / 2
	if len(ratios)%2 == 1 {
		return ratios[middle]
	}
	return (ratios[middle-1] + ratios[middle]) / 2
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	loop := "closed loop"
	if r.Load.Rate > 0 {
		loop = fmt.Sprintf("open loop of %g requests a second", r.Load.Rate)
	}
	fmt.Fprintf(table, "%s, connections: %d, clients: %d, chains: %s, rounds: %d\n",
		loop, r.Load.Connections, r.Load.Clients, r.Load.Chains, len(r.Servers[0].Rounds))
	for _, s := range r.Servers {
		s.write(table)
	}
	for _, ratio := range r.Ratios {
		fmt.Fprintf(table, "\n%s beside %s, median of the rounds\n", r.Servers[0].Name, ratio.Beside)
		fmt.Fprintf(table, "  throughput\t%.2f ×\n", ratio.Throughput)
		if ratio.CPU > 0 {
			fmt.Fprintf(table, "  CPU a request\t%.2f ×\n", ratio.CPU)
		}
		fmt.Fprintf(table, "  p99\t%.2f ×\n", ratio.P99)
	}
	return table.Flush()
}

func (s *Summary) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s\n", s.Name, s.URL)
	fmt.Fprintf(w, "  requests\t%d in %.2f s\n", s.Requests, s.Seconds)
	fmt.Fprintf(w, "  throughput\t%.0f a second\n", s.Throughput)
	fmt.Fprintf(w, "  latency\tp50 %.2f ms, p90 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n",
		s.Latency.P50, s.Latency.P90, s.Latency.P99, s.Latency.P999, s.Latency.Max)
	if s.CPU > 0 {
		fmt.Fprintf(w, "  CPU of the server\t%.1f µs a request\n", s.CPU)
	}
	fmt.Fprintf(w, "  statuses\t%s\n", counts(s.Statuses))
	if len(s.Rules) > 0 {
		fmt.Fprintf(w, "  refused by rule\t%s\n", counts(s.Rules))
	}
	if s.Failed > 0 {
		fmt.Fprintf(w, "  no answer\t%d\n", s.Failed)
	}
	if s.Unsent > 0 {
		fmt.Fprintf(w, "  due and not sent\t%d, because no connection was free before the assertion expired\n", s.Unsent)
	}
	if s.Cold > 0 {
		fmt.Fprintf(w, "  not warm\t%d requests before the first window were not answered with 200\n", s.Cold)
	}
	if s.Trouble != "" {
		fmt.Fprintf(w, "  first of these\t%s\n", s.Trouble)
	}
	fmt.Fprintf(w, "  bytes\t%d sent, %d received\n", s.Bytes.Sent, s.Bytes.Received)
	s.writeHistogram(w)
}

// writeHistogram draws the longest bar with barWidth characters.
func (s *Summary) writeHistogram(w io.Writer) {
	const barWidth = 50
	var most int64
	for _, c := range s.Histogram {
		most = max(most, c.Requests)
	}
	for _, c := range s.Histogram {
		fmt.Fprintf(w, "  up to %g ms\t%-*s %d\n", c.To, barWidth, strings.Repeat("#", int((c.Requests*barWidth+most-1)/most)), c.Requests)
	}
}

// counts lists how often each key came, in the order of the keys.
func counts[K interface{ int | string }](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%v: %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
