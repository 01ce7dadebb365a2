// Package tracing sends spans of requests to a collector by OTLP over HTTP (OpenTelemetry): of each request, of each stage of a
// token request, and of each call to others.
//
// Nothing is registered for the whole process, so that what a program that embeds ours does with OpenTelemetry stays its own.
package tracing

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Bounds on what a collector that is slow or gone can cost. Nobody waits for it: what does not fit into the queue is lost.
const (
	queued        = 2048 // spans
	batch         = 512
	batchDelay    = 5 * time.Second
	exportTimeout = 10 * time.Second
	stopTimeout   = 5 * time.Second
	maxAnswer     = 64 << 10
)

// Config is what [New] works with.
type Config struct {
	// Endpoint is the base address of a collector; spans go to v1/traces below it.
	Endpoint url.URL
	// Sample is the share of requests that are traced, from 0 to 1, unless a trusted proxy has decided.
	Sample float64
	// Trusted reports whether an address is a proxy's that is believed when it says in which trace a request is, and whether
	// that is recorded.
	Trusted func(netip.Addr) bool
	// Version is that of the program.
	Version string
	// Log is told when the collector takes no spans.
	Log *slog.Logger
}

// A Tracer makes spans, and sends them in the background. Close it.
type Tracer struct {
	config   Config
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	exporter *exporter
}

// Baggage is not propagated: it is free text of whoever calls, which parsers have choked on more than once, and which nobody
// here needs.
func propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// New asks nobody yet. Of the variables of OpenTelemetry, those of the exporter for headers (OTEL_EXPORTER_OTLP_HEADERS,
// which may hold a secret) and of the resource (OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME) count.
func New(ctx context.Context, c Config) (*Tracer, error) {
	if err := CheckEnvironment(); err != nil {
		return nil, err
	}
	client := newClient()
	sender, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(target(c.Endpoint)), otlptracehttp.WithHTTPClient(client), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithMaxResponseSize(maxAnswer),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}), // the next batch is soon enough
	)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "waybill"), attribute.String("service.version", c.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t := &Tracer{config: c, exporter: &exporter{SpanExporter: sender, log: c.Log, client: client, endpoint: c.Endpoint.Host}}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Sample))),
		sdktrace.WithBatcher(t.exporter, sdktrace.WithMaxQueueSize(queued), sdktrace.WithMaxExportBatchSize(batch),
			sdktrace.WithBatchTimeout(batchDelay), sdktrace.WithExportTimeout(exportTimeout)),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeValueLengthLimit: maxText, AttributeCountLimit: 64, EventCountLimit: 1, LinkCountLimit: 1,
			AttributePerEventCountLimit: 1, AttributePerLinkCountLimit: 1,
		}),
	)
	t.tracer = t.provider.Tracer("github.com/waybill-token/waybill")
	return t, nil
}

// newClient takes no proxy of the environment and follows no redirect: headers for the collector may hold a secret.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{IdleConnTimeout: time.Minute, TLSHandshakeTimeout: exportTimeout, MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       exportTimeout,
	}
}

func target(endpoint url.URL) string { return endpoint.JoinPath("v1/traces").String() }

// Probe sends no spans to the collector, and returns why it would not take any.
func Probe(ctx context.Context, endpoint url.URL) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target(endpoint), bytes.NewReader(nil))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	client := newClient()
	defer client.CloseIdleConnections()
	answer, err := outbound.Do(client, r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // the status says it
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden: // which the header of the environment is for
		return nil
	case status >= http.StatusMultipleChoices:
		return fmt.Errorf("%s answers with status %d", target(endpoint), status)
	}
	return nil
}

// Close sends what waits, for which a few seconds are left.
func (t *Tracer) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.config.Log.WarnContext(ctx, "the last spans may be lost", slog.Any("error", err))
	}
	t.exporter.client.CloseIdleConnections()
}

// Handler makes a span of each request for which want holds. Its name is where the request has come to, once that is known.
func (t *Tracer) Handler(next http.Handler, want func(*http.Request) bool) http.Handler {
	return otelhttp.NewMiddleware("HTTP request",
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()), otelhttp.WithPropagators(propagator()),
		otelhttp.WithSpanNameFormatter(func(operation string, r *http.Request) string { return cmp.Or(r.Pattern, operation) }),
		otelhttp.WithPublicEndpointFn(t.isStranger), otelhttp.WithFilter(want),
	)(next)
}

// isStranger reports whether a request comes from where nobody is believed. Its trace is only linked to then: with a header, a
// stranger would have each of its requests recorded otherwise, or put them into somebody else's trace.
func (t *Tracer) isStranger(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err != nil || !t.config.Trusted(peer.Addr().Unmap())
}

// Transport makes a span of each call. The registry and upstreams are told in which trace they are called; addresses that
// certificates name are not, as they are nobody's that we know.
func (t *Tracer) Transport(to provider.Dependency, base http.RoundTripper) http.RoundTripper {
	tell := propagation.NewCompositeTextMapPropagator()
	if to != provider.ToRevocation {
		tell = propagator()
	}
	return withoutTrace{otelhttp.NewTransport(base,
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()), otelhttp.WithPropagators(tell),
		otelhttp.WithSpanNameFormatter(func(string, *http.Request) string { return string(to) }),
	)}
}

// A withoutTrace takes from a request what a client has said of its trace: an upstream is told of ours.
type withoutTrace struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t withoutTrace) RoundTrip(r *http.Request) (*http.Response, error) {
	own := r.WithContext(r.Context())
	own.Header = r.Header.Clone()
	for _, name := range propagator().Fields() {
		own.Header.Del(name)
	}
	return t.RoundTripper.RoundTrip(own)
}

// Events make spans of stages, and say of requests what became of them.
func (t *Tracer) Events() provider.Events {
	return provider.Events{Stage: t.stage, Decided: decided, Guarded: guarded}
}

// Keys of attributes.
const (
	outcomeKey     = attribute.Key("waybill.outcome")
	ruleKey        = attribute.Key("waybill.rule")
	correlationKey = attribute.Key("waybill.correlation")
	partyKey       = attribute.Key("waybill.party")
	routeKey       = attribute.Key("http.route")
)

// stage makes the span of a stage when that has ended.
func (t *Tracer) stage(ctx context.Context, stage string, began time.Time, err error) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	outcome, broken := "passed", ""
	if rejection, outage := rule.Classify(err); outage != nil {
		outcome, broken = string(tokenendpoint.Unavailable), outage.Rule.ID
	} else if rejection != nil {
		outcome, broken = string(tokenendpoint.Refused), rejection.Rule.ID
	} else if err != nil {
		outcome, broken = string(tokenendpoint.Failed), rule.Internal.ID
	}
	attrs := []attribute.KeyValue{outcomeKey.String(outcome)}
	if broken != "" {
		attrs = append(attrs, ruleKey.String(broken))
	}
	_, span := t.tracer.Start(ctx, stage, trace.WithTimestamp(began), trace.WithAttributes(attrs...))
	span.End()
}

func decided(ctx context.Context, d *tokenendpoint.Decision) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(ishare.TokenPath)
	span.SetAttributes(routeKey.String(ishare.TokenPath), outcomeKey.String(string(d.Outcome)), correlationKey.String(d.Correlation))
	if d.Rule != nil {
		span.SetAttributes(ruleKey.String(d.Rule.ID))
	}
	if d.Granted != nil { // who has proven who it is
		span.SetAttributes(partyKey.String(string(d.Granted.Party)))
	}
}

func guarded(r *http.Request, d guard.Decision) {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return
	}
	route := d.Route
	if _, path, ok := strings.Cut(route, " "); ok { // a pattern with a method
		route = path
	}
	span.SetName(d.Route)
	span.SetAttributes(routeKey.String(route), outcomeKey.String(d.Outcome), correlationKey.String(d.Correlation()))
	if d.Claims != nil {
		span.SetAttributes(partyKey.String(string(d.Claims.Party)))
	}
}
