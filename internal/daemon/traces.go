package daemon

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/tracing"
)

// openTracer makes what sends spans, if the configuration wants any.
func (d *Daemon) openTracer(ctx context.Context, cfg *config.Config) (err error) {
	if cfg.Tracing == nil {
		return nil
	}
	d.tracer, err = tracing.New(ctx, tracing.Config{
		Endpoint: cfg.Tracing.Endpoint.URL, Sample: float64(cfg.Tracing.Sample), Version: d.options.Version, Log: d.options.Log,
		Trusted: func(a netip.Addr) bool {
			trusted := d.current.Load().config.Limits.TrustedProxies
			return slices.ContainsFunc(trusted, func(n config.Network) bool { return n.Contains(a) })
		},
	})
	if err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}

// traced makes a handler of which there are spans, of all requests or of those that are wanted. Without tracing it is the
// handler itself.
func (d *Daemon) traced(next http.Handler, want func(*http.Request) bool) http.Handler {
	if d.tracer == nil {
		return next
	}
	if want == nil {
		want = func(*http.Request) bool { return true }
	}
	return d.tracer.Handler(next, want)
}

// traces looks whether the collector answers. A server starts without it.
func (c *Preflight) traces() {
	if c.Config.Tracing == nil || c.Config.Tracing.Endpoint.Host == "" {
		return
	}
	if err := tracing.CheckEnvironment(); err != nil {
		c.add("tracing", err, "")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), collectorTimeout)
	defer cancel()
	if err := tracing.Probe(ctx, c.Config.Tracing.Endpoint.URL); err != nil {
		c.warn("tracing.endpoint", "the collector takes no spans: "+err.Error(), "Start it, or name the base address at which it takes OTLP over HTTP, such as http://127.0.0.1:4318.")
	}
}
