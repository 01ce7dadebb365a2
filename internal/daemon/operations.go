package daemon

import (
	"context"
	"crypto/x509"
	"maps"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/audit"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/metrics"
	"github.com/waybill-token/waybill/provider"
)

// Paths of the internal listener besides those of the provider.
const (
	metricsPath   = "/metrics"
	profilingPath = "/debug/pprof/"
)

// openOperations opens what those see who run the server: the audit trail and the metrics.
func (d *Daemon) openOperations(cfg *config.Config) (err error) {
	if a := cfg.Audit; a != nil {
		c := audit.Config{File: string(a.File), Required: a.Required, Log: d.options.Log}
		if a.File == config.AuditStdout {
			c.Stdout = os.Stdout
		}
		if d.trail, err = audit.Open(c); err != nil {
			return &config.Error{Problems: []config.Problem{cfg.Problem("audit.file", err.Error(), "")}}
		}
	}
	if cfg.Metrics {
		d.metrics = metrics.New(d.options.Version, runtime.Version())
	}
	return nil
}

// tell has a provider tell metrics and audit trail of what it does.
func (d *Daemon) tell(c *provider.Config) {
	if d.trail != nil {
		c.Trail = d.trail
	}
	if d.metrics == nil {
		return
	}
	c.Events = d.metrics.Events()
	paths := []string{"/auth", "/capabilities"}
	for _, route := range c.Routes {
		paths = append(paths, route.Path)
	}
	paths = slices.AppendSeq(paths, maps.Keys(d.options.Secured))
	d.metrics.Routes(paths...)
}

// addSources lets the metrics ask the daemon, once it is complete.
func (d *Daemon) addSources() {
	if d.metrics == nil {
		return
	}
	dropped := d.options.Dropped
	if dropped == nil {
		dropped = func() uint64 { return 0 }
	}
	d.metrics.Add(metrics.Sources{
		Provider: d.provider, Readiness: d.readiness, Trail: d.trail, Dropped: dropped,
		Listeners: map[string]*listen.Listener{SocketPublic: d.public, SocketInternal: d.internal},
		Config: func() (*config.Config, time.Time) {
			s := d.current.Load()
			return s.config, s.loaded
		},
		TLS: func() time.Time { return d.current.Load().certificateEnds() },
	})
}

// certificateEnds is when the certificate of the public listener does; zero: it has none.
func (s *settings) certificateEnds() time.Time {
	if s.certificate == nil {
		return time.Time{}
	}
	leaf := s.certificate.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(s.certificate.Certificate[0]); err != nil {
			return time.Time{}
		}
	}
	return leaf.NotAfter
}

// countPanic counts a request that ended in a panic.
func (d *Daemon) countPanic() {
	if d.metrics != nil {
		d.metrics.Panicked()
	}
}

// act enters in the audit trail what is done to the server.
func (d *Daemon) act(event audit.Event, detail string, problem error) {
	if d.trail != nil {
		d.trail.Act(event, detail, problem)
	}
}

// Reopen opens the audit trail at its path, from which the file before was moved away.
func (d *Daemon) Reopen() error {
	if d.trail == nil {
		return nil
	}
	return d.trail.Reopen()
}

// keysInterval is how often is looked whether the keys of access tokens are others.
const keysInterval = time.Minute

// watchKeys enters in the audit trail which keys of access tokens there are, and when they are others.
func (d *Daemon) watchKeys(ctx context.Context) {
	ticker := time.NewTicker(keysInterval)
	defer ticker.Stop()
	for before := ""; ; {
		if now := strings.Join(d.provider.TokenKeys(), " "); now != before {
			before = now
			d.act(audit.Keys, now, nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// profile serves profiles of the process (net/http/pprof), which has them on the default mux otherwise.
func profile(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, profilingPath) {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}
