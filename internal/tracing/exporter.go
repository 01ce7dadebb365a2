package tracing

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-token/waybill/internal/logsum"
)

// maxText bounds the value of an attribute, in characters.
const maxText = 128

// maxReasons bounds how many causes of one outage are logged.
const maxReasons = 8

// An exporter sends what may leave, and logs an outage of the collector once for each cause. It has no errors: those would
// go to a handler of the whole process, which writes a line for each batch.
type exporter struct {
	sdktrace.SpanExporter

	client   *http.Client
	endpoint string
	log      *slog.Logger

	mu      sync.Mutex // guards what follows
	reasons []string   // of the outage that goes on
	lost    int        // spans
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	clean := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		clean[i] = cleanSpan{s}
	}
	err := e.SpanExporter.ExportSpans(ctx, clean)
	e.mu.Lock()
	defer e.mu.Unlock()
	at := slog.String("collector", e.endpoint)
	if err == nil {
		if len(e.reasons) > 0 {
			e.log.InfoContext(ctx, "spans reach the collector again", at, slog.Int("lost", e.lost))
		}
		e.reasons, e.lost = nil, 0
		return nil
	}
	e.lost += len(spans)
	reason := logsum.Reason(err)
	if text := reason[0].Value.String(); len(e.reasons) < maxReasons && !slices.Contains(e.reasons, text) {
		e.reasons = append(e.reasons, text)
		e.log.LogAttrs(ctx, slog.LevelWarn, "spans do not reach the collector, and are lost", append(reason, at)...)
	}
	return nil // it is logged
}

// mayLeave are the attributes that a span is sent with. What else the instrumentation of HTTP knows is the word of a stranger
// who may have put a token there: path, query, user agent, methods that there are not.
func mayLeave() []attribute.Key {
	return []attribute.Key{
		outcomeKey, ruleKey, correlationKey, partyKey, routeKey,
		"http.request.method", "http.response.status_code", "url.scheme", "network.protocol.version", "error.type",
	}
}

// whomWeCall may leave with the spans of our own calls: on those of a request it is the Host that a stranger has sent.
func whomWeCall() []attribute.Key { return []attribute.Key{"server.address", "server.port"} }

// A cleanSpan is a span without what may be secret. Descriptions and events quote errors, in which there may be what a server
// said, and what a trace carries of its vendors is as long as a stranger likes.
type cleanSpan struct{ sdktrace.ReadOnlySpan }

// Attributes implements [sdktrace.ReadOnlySpan].
func (s cleanSpan) Attributes() []attribute.KeyValue {
	allowed := mayLeave()
	if s.SpanKind() == trace.SpanKindClient {
		allowed = append(allowed, whomWeCall()...)
	}
	return slices.DeleteFunc(slices.Clone(s.ReadOnlySpan.Attributes()), func(a attribute.KeyValue) bool { return !slices.Contains(allowed, a.Key) })
}

// Status implements [sdktrace.ReadOnlySpan].
func (s cleanSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}

// Events implements [sdktrace.ReadOnlySpan].
func (s cleanSpan) Events() []sdktrace.Event { return nil }

// Links implements [sdktrace.ReadOnlySpan].
func (s cleanSpan) Links() []sdktrace.Link {
	links := slices.Clone(s.ReadOnlySpan.Links())
	for i := range links {
		links[i] = sdktrace.Link{SpanContext: links[i].SpanContext.WithTraceState(trace.TraceState{})}
	}
	return links
}

// SpanContext implements [sdktrace.ReadOnlySpan].
func (s cleanSpan) SpanContext() trace.SpanContext {
	return s.ReadOnlySpan.SpanContext().WithTraceState(trace.TraceState{})
}
