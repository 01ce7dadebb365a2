package tracing

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// CheckEnvironment finds variables that the exporter of OpenTelemetry cannot read. It would write what they hold to standard
// error as it is, and that may be a secret; so nothing of it is in this error either.
func CheckEnvironment() error {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		for field := range strings.SplitSeq(os.Getenv(name), ",") {
			if !isHeader(strings.TrimSpace(field)) {
				return fmt.Errorf("%s cannot be read: want name=value, several with commas between them, and in a value %%25 for %%, %%2C for a comma", name)
			}
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if _, err := url.Parse(strings.TrimSpace(os.Getenv(name))); err != nil {
			return fmt.Errorf("%s is no URL; leave it out, as tracing.endpoint says where the collector is", name)
		}
	}
	return nil
}

// isHeader reports whether the exporter takes a header, or passes over nothing.
func isHeader(field string) bool {
	if field == "" {
		return true
	}
	name, value, _ := strings.Cut(field, "=")
	_, err := url.PathUnescape(value)
	return err == nil && strings.Contains(field, "=") && isToken(strings.TrimSpace(name))
}

// isToken is about the name of a header (RFC 9110 section 5.6.2).
func isToken(name string) bool {
	const others = "!#$%&'*+-.^_`|~"
	isOther := func(r rune) bool {
		alphanumeric := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !alphanumeric && !strings.ContainsRune(others, r)
	}
	return name != "" && !strings.ContainsFunc(name, isOther)
}
