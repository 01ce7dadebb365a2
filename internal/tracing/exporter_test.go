package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-token/waybill/internal/logtest"
)

// A sink takes spans, or has an error.
type sink struct {
	*tracetest.InMemoryExporter

	err error
}

func (s *sink) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if s.err != nil {
		return s.err
	}
	return s.InMemoryExporter.ExportSpans(ctx, spans)
}

// A collector that is gone for hours is a line in the log for each cause, and one when it is back.
func TestOutageIsLoggedOnce(t *testing.T) {
	var written logtest.Buffer
	collector := &sink{InMemoryExporter: tracetest.NewInMemoryExporter()}
	e := &exporter{SpanExporter: collector, log: slog.New(slog.NewTextHandler(&written, nil)), endpoint: "collector.example:4318"}
	export := func() {
		if err := e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 2)); err != nil {
			t.Errorf("the process is told: %v", err)
		}
	}
	refused, reset := errors.New("connection refused"), errors.New("connection reset by peer")
	for i := range 1000 {
		collector.err = fmt.Errorf("port %d: %w", i, refused)
		export()
		collector.err = fmt.Errorf("port %d: %w", i, reset)
		export()
	}
	if text := written.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "refused") || !strings.Contains(text, "collector.example:4318") {
		t.Errorf("an outage:\n%s", text)
	}
	for i := range 100 { // in ever new words
		collector.err = fmt.Errorf("error %d", i)
		export()
	}
	if n := strings.Count(written.String(), "\n"); n != maxReasons {
		t.Errorf("%d lines for an outage in other words each time", n)
	}
	collector.err = nil
	for range 3 {
		if err := e.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if text := written.String(); strings.Count(text, "\n") != maxReasons+1 || !strings.Contains(text, "lost=4200") {
		t.Errorf("its end:\n%s", text)
	}
}

// What a stranger or a server may have put into a span stays here.
func TestSpansAreClean(t *testing.T) {
	state, err := trace.ParseTraceState("vendor=secret")
	if err != nil {
		t.Fatal(err)
	}
	context := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceState: state})
	for kind, want := range map[trace.SpanKind]string{
		trace.SpanKindServer: "http.request.method=GET waybill.outcome=issued",
		trace.SpanKindClient: "http.request.method=GET waybill.outcome=issued server.address=secret",
	} {
		collector := &sink{InMemoryExporter: tracetest.NewInMemoryExporter()}
		e := &exporter{SpanExporter: collector}
		span := tracetest.SpanStub{
			Name: "name", SpanContext: context, SpanKind: kind,
			Attributes: []attribute.KeyValue{
				attribute.String("http.request.method", "GET"), attribute.String("url.path", "/secret"), attribute.String("url.full", "secret"),
				attribute.String("user_agent.original", "secret"), attribute.String("http.request.method_original", "SECRET"),
				attribute.String("waybill.outcome", "issued"), attribute.String("server.address", "secret"), attribute.String("client.address", "secret"),
			},
			Status: sdktrace.Status{Description: "secret"},
			Events: []sdktrace.Event{{Name: "exception", Attributes: []attribute.KeyValue{attribute.String("exception.message", "secret")}}},
			Links:  []sdktrace.Link{{SpanContext: context, Attributes: []attribute.KeyValue{attribute.String("a", "secret")}}},
		}
		if err := e.ExportSpans(t.Context(), []sdktrace.ReadOnlySpan{span.Snapshot()}); err != nil {
			t.Fatal(err)
		}
		got := collector.GetSpans()[0]
		var attrs []string
		for _, a := range got.Attributes {
			attrs = append(attrs, string(a.Key)+"="+a.Value.AsString())
		}
		if text := strings.Join(attrs, " "); text != want {
			t.Errorf("kind %s: %s", kind, text)
		}
		if got.Status.Description != "" || len(got.Events) > 0 || got.SpanContext.TraceState().Len() > 0 || len(got.Links) != 1 ||
			len(got.Links[0].Attributes) > 0 || got.Links[0].SpanContext.TraceState().Len() > 0 || got.SpanContext.TraceID() != context.TraceID() {
			t.Errorf("kind %s: %+v", kind, got)
		}
	}
}
