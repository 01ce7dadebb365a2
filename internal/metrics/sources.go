package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waybill-token/waybill/internal/audit"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
)

// Sources are asked when somebody looks at the metrics.
type Sources struct {
	Provider  *provider.Provider
	Listeners map[string]*listen.Listener // by name
	Readiness func() provider.Readiness
	Config    func() (c *config.Config, loaded time.Time) // that is in use, and since when
	TLS       func() time.Time                            // when the certificate ends; zero: there is none
	Trail     *audit.Trail                                // nil: none is kept
	Dropped   func() uint64                               // lines of the log
}

// Add adds what the sources tell.
func (m *Metrics) Add(s Sources) { m.registry.MustRegister(s) }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

var (
	ready       = describe("ready", "1 when /readyz says yes.")
	problem     = describe("problem", "1 for each part of the configuration about which /readyz names a problem.", "key")
	partiesHeld = describe("parties", "Party records at hand.")

	calls      = describe("dependency_calls_total", "Calls to those that the server depends on, by how they ended.", "dependency", "result")
	lastAnswer = describe("dependency_last_answer_timestamp_seconds", "When a dependency last gave an answer that could be used; absent: it never did.", "dependency")
	up         = describe("dependency_up", "1 when what was last asked of a dependency was answered, or nothing was asked yet.", "dependency")
	open       = describe("dependency_open_circuits", "Addresses that are left alone for a moment because they failed.", "dependency")

	cacheHits    = describe("cache_hits_total", "Questions that were answered from memory.", "cache")
	cacheMisses  = describe("cache_misses_total", "Questions that were not answered from memory.", "cache")
	cacheEntries = describe("cache_entries", "Entries of a cache, about.", "cache")
	staleUses    = describe("party_records_stale_uses_total", "Answers with a party record that was no longer fresh.")
	shed         = describe("party_lookups_shed_total", "Lookups that were turned away because too many parties were asked for.")
	softFailed   = describe("revocation_soft_failures_total", "Checks that passed although nobody told whether a certificate is revoked (revocation: prefer).")
	undecided    = describe("revocation_undecided_total", "Checks that ended without a decision.")
	revokedSeals = describe("revocation_refusals_total", "Checks refused because a certificate is revoked.")
	authorities  = describe("trusted_list_authorities", "Authorities on the trusted list that is in force.")
	staleSince   = describe("party_records_stale_since_timestamp_seconds", "Since when party records are used that are no longer fresh; absent: none is.")
	listStale    = describe("trusted_list_stale", "1 when the trusted list in force should have been refreshed by now, and could not be.")
	listBytes    = describe("revocation_list_bytes", "Memory that revocation lists take, about.")
	listInForce  = describe("trusted_list_in_force", "1 when what the registry grants is known.")
	clockOffset  = describe("registry_clock_offset_seconds", "How far the registry's clock is ahead of ours.")

	usedAssertions = describe("used_assertions", "Assertions that are remembered as used.")
	revokedTokens  = describe("revoked_tokens", "Revocations that still hit some access token.")
	tokensFrom     = describe("tokens_from_timestamp_seconds", "From when on tokens are given, after a start; absent: they are.")
	expiry         = describe("certificate_expiry_timestamp_seconds", "When a certificate of our own ends.", "certificate")

	connections      = describe("connections", "Open connections.", "listener")
	connectionsLimit = describe("connections_limit", "Connections that may be open.", "listener")

	auditEntries  = describe("audit_entries_total", "Entries written to the audit trail.")
	auditFailures = describe("audit_failures_total", "Entries that the audit trail does not have.")
	auditLast     = describe("audit_last_entry_timestamp_seconds", "When the last entry was written.")
	auditUp       = describe("audit_up", "1 while the audit trail can be written.")
	logDropped    = describe("log_lines_dropped_total", "Lines that the output of the log did not take in time.")

	configInfo    = describe("config_info", "Settings of the configuration in use. The value is always 1.", "party", "participants", "revocation", "state", "format", "tls", "audit")
	configLoaded  = describe("config_loaded_timestamp_seconds", "Since when the configuration is in use.")
	configSeconds = describe("config_seconds", "Durations of the configuration in use.", "key")
	configNumber  = describe("config_number", "Numbers of the configuration in use; of lists, how many stand there.", "key")
)

// Describe implements [prometheus.Collector]. It says nothing, as what there is depends on the configuration.
func (Sources) Describe(chan<- *prometheus.Desc) {}

// A sink takes metrics.
type sink chan<- prometheus.Metric

func (to sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (to sink) counter(d *prometheus.Desc, value uint64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

// moment leaves out one that has not been.
func (to sink) moment(d *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		to.gauge(d, float64(at.UnixMilli())/1000, labels...)
	}
}

func (to sink) is(d *prometheus.Desc, yes bool, labels ...string) {
	value := 0.0
	if yes {
		value = 1
	}
	to.gauge(d, value, labels...)
}

// Collect implements [prometheus.Collector].
func (s Sources) Collect(metrics chan<- prometheus.Metric) {
	to := sink(metrics)
	s.health(to)
	stats := s.Provider.Stats()
	dependencies(to, &stats)
	caches(to, &stats)
	if stats.UsedAssertions >= 0 {
		to.gauge(usedAssertions, float64(stats.UsedAssertions))
	}
	to.gauge(revokedTokens, float64(stats.RevokedTokens))
	to.moment(expiry, stats.Seal, "seal")
	to.moment(expiry, s.TLS(), "tls")
	for name, l := range s.Listeners {
		to.gauge(connections, float64(l.Open()), name)
		to.gauge(connectionsLimit, float64(l.Limit()), name)
	}
	to.counter(logDropped, s.Dropped())
	s.audit(to)
	s.configuration(to)
}

func (s Sources) health(to sink) {
	r := s.Readiness()
	to.is(ready, r.Ready)
	to.gauge(partiesHeld, float64(r.Parties))
	to.moment(tokensFrom, r.TokensFrom)
	told := map[string]bool{}
	for _, text := range r.Problems {
		key, _, _ := strings.Cut(text, ": ")
		if !told[key] {
			told[key] = true
			to.gauge(problem, 1, key)
		}
	}
}

func dependencies(to sink, s *provider.Stats) {
	count := func(name string, c revocation.Calls) {
		to.counter(calls, c.Answered, name, "answered")
		to.counter(calls, c.Failed, name, "failed")
		to.moment(lastAnswer, c.Last, name)
	}
	if r := s.Registry; r != nil {
		count("registry", revocation.Calls{Answered: r.Answers, Failed: r.Failures, Last: r.Answered})
		to.is(up, r.Err == nil, "registry")
		to.is(open, r.Open, "registry")
		to.gauge(clockOffset, r.ClockOffset.Seconds())
	}
	if l := s.TrustedList; l != nil {
		to.moment(lastAnswer, l.Fetched, "trusted_list")
		to.is(up, l.Err == nil, "trusted_list")
		to.is(listInForce, l.InForce)
		to.is(listStale, l.Stale)
		to.gauge(authorities, float64(l.Granted))
	}
	if f := s.File; f != nil {
		to.moment(lastAnswer, f.Loaded, "participants_file")
		to.is(up, f.Err == nil, "participants_file")
	}
	if r := s.Revocation; r != nil {
		count("ocsp", r.OCSP)
		count("crl", r.Fetch)
		to.gauge(open, float64(r.OpenCircuits), "ocsp_and_crl")
	}
	if c := s.State; c != nil {
		count("state", c.Calls)
		to.is(up, c.Err == nil, "state")
	}
}

func caches(to sink, s *provider.Stats) {
	cache := func(name string, hits, misses uint64, entries int) {
		to.counter(cacheHits, hits, name)
		to.counter(cacheMisses, misses, name)
		to.gauge(cacheEntries, float64(entries), name)
	}
	cache("known_clients", s.Assertions.Known, s.Assertions.First, s.Assertions.Headers)
	if c := s.Records; c != nil {
		cache("party_records", c.Hits, c.Misses, c.Parties)
		to.counter(staleUses, c.StaleUses)
		to.counter(shed, c.Shed)
		to.moment(staleSince, c.StaleSince)
	}
	if r := s.Revocation; r != nil {
		cache("revocation", r.Remembered, r.Asked, r.KnownCertificates)
		to.gauge(cacheEntries, float64(r.KnownLists), "revocation_lists")
		to.gauge(listBytes, float64(r.ListBytes))
		to.counter(softFailed, r.SoftFailed)
		to.counter(undecided, r.Undecided)
		to.counter(revokedSeals, r.Revoked)
	}
}

func (s Sources) audit(to sink) {
	if s.Trail == nil {
		return
	}
	stats := s.Trail.Stats()
	to.counter(auditEntries, stats.Entries)
	to.counter(auditFailures, stats.Failures)
	to.moment(auditLast, stats.Written)
	to.is(auditUp, stats.Err == nil)
}

func (s Sources) configuration(to sink) {
	c, loaded := s.Config()
	to.moment(configLoaded, loaded)
	participants, tls, trail, state := "file", "no", "no", "memory"
	switch {
	case c.State.Memory():
	case c.State.URL.IsPostgres():
		state = "postgres"
	default:
		state = "redis"
	}
	if c.Participants.Registry != nil {
		participants = "registry"
	}
	if c.Listen.TLS != nil {
		tls = "yes"
	}
	if c.Audit != nil {
		trail = "yes"
		if c.Audit.Required {
			trail = "required"
		}
	}
	to.gauge(configInfo, 1, string(c.Party.ID), participants, c.Trust.Revocation.String(), state, c.Tokens.Format.String(), tls, trail)
	for key, d := range map[string]time.Duration{
		"tokens.lifetime": c.Tokens.Lifetime, "policy.leeway": c.Policy.Leeway, "participants.cache": c.Participants.Cache,
		"participants.max_stale": c.Participants.MaxStale, "trust.refresh": c.Trust.Refresh,
		"listen.shutdown_delay": c.Listen.ShutdownDelay, "listen.drain": c.Listen.Drain,
	} {
		to.gauge(configSeconds, d.Seconds(), key)
	}
	for key, n := range map[string]int{
		"limits.in_work": c.Limits.InWork, "limits.known_clients": c.Limits.KnownClients, "state_wait_replicas": c.StateWaitReplicas,
		"trust.anchors": len(c.Trust.Anchors), "routes": len(c.Routes), "scopes": len(c.Scopes),
	} {
		to.gauge(configNumber, float64(n), key)
	}
}
