// Package metrics counts what a server does, and shows it to Prometheus.
//
// What happens is counted as it happens ([Metrics.Events]); what stands at a moment is asked for when somebody looks
// ([Sources]). Labels are bounded: rules, stages and outcomes are those of the code, routes those of the configuration, and
// whatever a stranger sends is none. docs/metrics.md lists the metrics and the alerts, and deploy has rules and a dashboard of them.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Metrics are those of one process.
type Metrics struct {
	registry *prometheus.Registry

	requests  map[decision]prometheus.Counter
	durations map[tokenendpoint.Outcome]prometheus.Observer
	stages    map[string]prometheus.Observer
	guarded   *prometheus.CounterVec
	checked   map[string]prometheus.Counter
	upstreams *prometheus.CounterVec
	issued    prometheus.Counter
	revoked   *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	reloaded  prometheus.Gauge
	panics    prometheus.Counter
}

// A decision is what is counted of one. The rule is nil when a token was issued.
type decision struct {
	outcome tokenendpoint.Outcome
	rule    *rule.Rule
}

// New returns metrics of a program of that version, in a registry of their own.
func New(version, goVersion string) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		requests:  map[decision]prometheus.Counter{},
		durations: map[tokenendpoint.Outcome]prometheus.Observer{},
		stages:    map[string]prometheus.Observer{},
		guarded:   counters("guarded_requests_total", "Requests by the route that they came to and whether their access token let them in.", "route", "outcome"),
		checked:   map[string]prometheus.Counter{},
		upstreams: counters("upstream_failures_total", "Requests that were let in and that the program behind the route did not answer.", "route"),
		revoked:   counters("revocations_total", "Revocations of access tokens that were made here, by what they hit.", "what"),
		reloads:   counters("reloads_total", "Reloads of the configuration, or of files that it names.", "result"),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "last_reload_successful", Help: "1 when the last reload was done, or there was none yet.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "panics_total", Help: "Requests that ended in a panic, an error of the program.",
		}),
	}
	m.reloaded.Set(1)
	m.countRequests()
	m.timeStages()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "The version that runs. The value is always 1.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(version, goVersion).Set(1)
	checked := counters("access_tokens_checked_total", "Access tokens that were looked at, for a request or for introspection.", "result")
	for _, result := range results() {
		m.checked[result] = checked.WithLabelValues(result)
	}
	for _, what := range []string{"token", "party", "certificate"} {
		m.revoked.WithLabelValues(what)
	}
	for _, result := range []string{"done", "failed"} {
		m.reloads.WithLabelValues(result)
	}
	m.registry.MustRegister(m.guarded, checked, m.upstreams, m.revoked, m.reloads, m.reloaded, m.panics, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

const namespace = "waybill"

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// countRequests makes a counter for each decision that there can be, so that a rate is known from the first one on.
func (m *Metrics) countRequests() {
	requests := counters("token_requests_total", "Token requests by what became of them, and by the rule that said no.", "outcome", "rule")
	add := func(outcome tokenendpoint.Outcome, r *rule.Rule) {
		id := ""
		if r != nil {
			id = r.ID
		}
		m.requests[decision{outcome, r}] = requests.WithLabelValues(string(outcome), id)
	}
	add(tokenendpoint.Issued, nil)
	for _, r := range rule.All() {
		add(tokenendpoint.Refused, r)
	}
	for _, r := range rule.Outages() {
		if r == rule.Internal {
			add(tokenendpoint.Failed, r)
			continue
		}
		add(tokenendpoint.Unavailable, r)
		add(tokenendpoint.Abandoned, r)
	}
	m.issued = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "access_tokens_issued_total", Help: "Access tokens that were given.",
	})
	m.registry.MustRegister(requests, m.issued)
}

// timeStages makes the histograms: of a whole request, and of each of its stages, which begins at ten microseconds.
func (m *Metrics) timeStages() {
	whole := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "token_request_duration_seconds", Help: "How long a token request took until it was decided.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"outcome"})
	for _, outcome := range tokenendpoint.Outcomes() {
		m.durations[outcome] = whole.WithLabelValues(string(outcome))
	}
	stages := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "token_stage_duration_seconds", Help: "How long a stage of a token request took, whatever its end.",
		Buckets: []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .01, .05, .25, 1, 5},
	}, []string{"stage"})
	for _, stage := range tokenendpoint.Stages() {
		m.stages[stage] = stages.WithLabelValues(stage)
	}
	m.registry.MustRegister(whole, stages)
}

// Events count what a provider does.
func (m *Metrics) Events() provider.Events {
	return provider.Events{
		Stage: func(_ context.Context, stage string, began time.Time, _ error) {
			if o := m.stages[stage]; o != nil {
				o.Observe(time.Since(began).Seconds())
			}
		},
		Decided: func(_ context.Context, d *tokenendpoint.Decision) {
			if c := m.requests[decision{d.Outcome, d.Rule}]; c != nil {
				c.Inc()
			}
			m.durations[d.Outcome].Observe(d.Duration.Seconds())
			if d.Granted != nil {
				m.issued.Inc()
			}
		},
		Guarded:        func(_ *http.Request, d guard.Decision) { m.guarded.WithLabelValues(d.Route, d.Outcome).Inc() },
		Checked:        func(err error) { m.checked[result(err)].Inc() },
		UpstreamFailed: func(route string) { m.upstreams.WithLabelValues(route).Inc() },
		Revoked: func(what accesstoken.TokenRevocation) {
			switch {
			case what.TokenID != "":
				m.revoked.WithLabelValues("token").Inc()
			case what.Party != "":
				m.revoked.WithLabelValues("party").Inc()
			default:
				m.revoked.WithLabelValues("certificate").Inc()
			}
		},
	}
}

// results are what a check of a token comes to.
func results() []string { return []string{"good", "expired", "revoked", "invalid", "unavailable"} }

func result(err error) string {
	switch {
	case err == nil:
		return "good"
	case errors.Is(err, accesstoken.ErrExpired):
		return "expired"
	case errors.Is(err, accesstoken.ErrRevoked):
		return "revoked"
	case errors.Is(err, accesstoken.ErrInvalid):
		return "invalid"
	}
	return "unavailable"
}

// Routes has a route counted from the beginning, before the first request comes to it.
func (m *Metrics) Routes(paths ...string) {
	for _, path := range paths {
		for _, outcome := range guard.Outcomes() {
			m.guarded.WithLabelValues(path, outcome)
		}
		m.upstreams.WithLabelValues(path)
	}
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(err error) {
	if err != nil {
		m.reloads.WithLabelValues("failed").Inc()
		m.reloaded.Set(0)
		return
	}
	m.reloads.WithLabelValues("done").Inc()
	m.reloaded.Set(1)
}

// Panicked counts a request that ended in a panic.
func (m *Metrics) Panicked() { m.panics.Inc() }

// maxScrapes bounds how many look at once: each takes memory for all of the metrics.
const maxScrapes = 4

// Handler shows the metrics. It belongs on the internal listener.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true})
}
