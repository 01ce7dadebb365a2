package tracing

import (
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"
)

// What stands in a variable that cannot be read is told to nobody: neither by us nor by the exporter, which has a log of its own.
func TestSecretsOfTheEnvironmentAreNotTold(t *testing.T) {
	endpoint, err := url.Parse("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		variable, value string
		good            bool
	}{
		{"OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer hunter2%20x, x-tenant=a=b,", true},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x!#$%&'*+-.^_`|~9=hunter2", true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector.example", true},
		{"OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer hunter2%zz", false},
		{"OTEL_EXPORTER_OTLP_HEADERS", "a=b,api-key:hunter2", false},
		{"OTEL_EXPORTER_OTLP_HEADERS", "Basic hunter2==", false},
		{"OTEL_EXPORTER_OTLP_HEADERS", "=hunter2", false},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "hunter2", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2%zz@collector.example", false},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:hunter2@[::1", false},
	} {
		t.Run(c.variable+" "+c.value, func(t *testing.T) {
			t.Setenv(c.variable, c.value)
			var tracer *Tracer
			var err error
			said := stderrOf(t, func() {
				tracer, err = New(t.Context(), Config{Endpoint: *endpoint, Log: slog.New(slog.DiscardHandler)})
			})
			if err == nil {
				tracer.Close(t.Context())
			} else {
				said += err.Error()
			}
			if (err == nil) != c.good || strings.Contains(said, "hunter2") || err != nil && !strings.Contains(said, c.variable) {
				t.Errorf("%v; standard error and error: %q", err, said)
			}
		})
	}
}

// stderrOf is what is written to standard error by whoever has not got it before.
func stderrOf(t *testing.T, do func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = write
	defer func() { os.Stderr = before }()
	do()
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}
