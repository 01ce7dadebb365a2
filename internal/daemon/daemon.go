// Package daemon is a provider as a process: it is made of the configuration file, listens, reloads, and stops
// without losing anything.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/audit"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/metrics"
	"github.com/waybill-token/waybill/internal/tracing"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/replay"
)

// Options are what a daemon is given besides its configuration.
type Options struct {
	Log *slog.Logger
	// Secured are handlers by pattern that the public listener serves to
	// bearers of an access token only.
	Secured map[string]http.Handler
	// NoHistory says that the party came into being with this start, so that no
	// assertion to it can have been used before: see [replay.Config] and [FirstStart].
	NoHistory bool
	// Sockets are taken instead of the addresses of the configuration: see [SocketPublic].
	Sockets map[string]net.Listener
	// Version is that of the program, for metrics and traces.
	Version string
	// Dropped is how many lines of the log were dropped, for metrics. Optional.
	Dropped func() uint64
	// SetLog is told how to log, at the start and when a reload has said otherwise. Optional.
	SetLog func(config.Log)
	// Observe wraps what the public listener serves, for who looks on. Optional.
	Observe func(public http.Handler) http.Handler
}

// The names of sockets that a service manager hands over.
const (
	SocketPublic   = "public"
	SocketInternal = "internal"
)

// A Daemon is a server that listens. Requests are answered while [Daemon.Run] runs.
type Daemon struct {
	options  Options
	provider *provider.Provider
	current  atomic.Pointer[settings]
	public   *listen.Listener
	internal *listen.Listener
	draining atomic.Bool
	panics   *logsum.Log
	trail    *audit.Trail     // nil: none is kept
	metrics  *metrics.Metrics // nil: nothing is counted
	tracer   *tracing.Tracer  // nil: there are no traces

	reloading sync.Mutex       // one at a time, and guards
	exposed   []config.Problem // what others may do, as it was logged

	files     fileWatch
	changes   chan *Change
	lookEvery time.Duration // zero: lookInterval

	cut  chan struct{} // closed: a stop waits for nothing more
	once sync.Once     // closes cut
}

// Open reads everything that the configuration names, takes the addresses, and
// refuses to start when anything is wrong.
func Open(ctx context.Context, cfg *config.Config, options Options) (_ *Daemon, err error) {
	if options.SetLog == nil {
		options.SetLog = func(config.Log) {}
	}
	options.SetLog(cfg.Log)
	d := &Daemon{options: options, panics: logsum.New(options.Log), cut: make(chan struct{}), changes: make(chan *Change)}
	defer func() { //nolint:contextcheck // what is sent at the end has a bound of its own
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.refuseExposed(ctx, cfg); err != nil {
		return nil, err
	}
	if err := d.listen(ctx, cfg); err != nil {
		if f := folder(cfg); f.InUse() { // another server has the addresses, and more than these
			err = fmt.Errorf("data: replay store: %s: %w; stop that one, or name another folder", f.Replay(), replay.ErrInUse)
		}
		return nil, err
	}
	if err := d.openOperations(cfg); err != nil {
		return nil, err
	}
	if err := d.openTracer(ctx, cfg); err != nil {
		return nil, err
	}
	s, err := d.readSettings(cfg) //nolint:contextcheck // what passes requests on goes by their own contexts
	if err != nil {
		return nil, err
	}
	s.provider.NoHistory = d.options.NoHistory
	if d.provider, err = provider.New(s.provider); err != nil { //nolint:contextcheck // what passes requests on goes by their own contexts
		return nil, located(cfg, err)
	}
	d.current.Store(s)
	d.addSources()
	logRisks(ctx, d.options.Log, risks(cfg), nil)
	d.options.Log.InfoContext(ctx, "used assertions", slog.String("state", cfg.State.String()), slog.String("guarantee", guarantee(cfg)))
	return d, nil
}

// listen takes the addresses, and shares the descriptors of the process out.
func (d *Daemon) listen(ctx context.Context, cfg *config.Config) (err error) {
	share := listen.NewShare(listen.Descriptors(), cfg.Limits.Connections, len(cfg.Routes) > 0)
	if share.Lowered {
		d.options.Log.WarnContext(ctx, "limits.connections is lowered to what the limit on open files allows", slog.Int("connections", share.Public))
	}
	if d.public, err = d.bind(ctx, SocketPublic, cfg.Listen.Public, share.Public, d.secure(cfg)); err != nil {
		return err
	}
	d.internal, err = d.bind(ctx, SocketInternal, cfg.Listen.Internal, share.Internal, nil)
	return err
}

func (d *Daemon) bind(ctx context.Context, name string, address config.Address, limit int, secure *tls.Config) (*listen.Listener, error) {
	key, inner := "listen."+name, d.options.Sockets[name]
	if inner == nil {
		var err error
		if inner, err = new(net.ListenConfig).Listen(ctx, "tcp", string(address)); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	} else if !isAt(inner.Addr(), string(address)) {
		d.options.Log.WarnContext(ctx, "the socket that was handed over has another address than the configuration says, and is used", slog.String("key", key),
			slog.String("configured", string(address)), slog.String("socket", inner.Addr().String()))
	}
	return listen.New(inner, listen.Config{
		Name: key, Limit: limit, Idle: idleTimeout, Handshake: headerTimeout, TLS: secure, Log: d.options.Log,
	}), nil
}

// isAt reports whether a socket is where the configuration would have put it.
func isAt(socket net.Addr, configured string) bool {
	at, _ := socket.(*net.TCPAddr)
	want, err := net.ResolveTCPAddr("tcp", configured)
	if err != nil || at == nil || at.Port != want.Port {
		return false
	}
	return at.IP.Equal(want.IP) || at.IP.IsUnspecified() && (want.IP == nil || want.IP.IsUnspecified())
}

// secure is how the public listener speaks TLS; nil: it does not.
func (d *Daemon) secure(cfg *config.Config) *tls.Config {
	if cfg.Listen.TLS == nil {
		return nil
	}
	protocols := []string{"http/1.1"}
	if cfg.Listen.HTTP2 {
		protocols = []string{"h2", "http/1.1"}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return d.current.Load().certificate, nil
		},
	}
}

// PublicAddr is the address on which the token endpoint is served.
func (d *Daemon) PublicAddr() net.Addr { return d.public.Addr() }

// InternalAddr is the address on which health, forward-auth, introspection and revocation are served.
func (d *Daemon) InternalAddr() net.Addr { return d.internal.Addr() }

// Explain is [provider.Provider.Explain].
func (d *Daemon) Explain(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error) {
	return d.provider.Explain(ctx, request, at)
}

// Connections is how many connections the public listener takes at once.
func (d *Daemon) Connections() int { return d.public.Limit() }

// Run answers requests until ctx is done. Then it goes on for listen.shutdown_delay, while
// /readyz says no, lets the requests under way finish for listen.drain, hands the
// replay memory over, and returns nil, or [ErrCut]. It must be called once.
func (d *Daemon) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	// What requests need lasts until they are answered.
	needed, end := context.WithCancel(context.WithoutCancel(ctx))
	listeners := []*listen.Listener{d.public, d.internal}
	public := d.provider.Public()
	if d.options.Observe != nil {
		public = d.options.Observe(public)
	}
	servers := []*http.Server{d.server(d.traced(public, nil), d.public), d.server(d.traced(d.internalHandler(), provider.IsForwardAuth), d.internal)}
	setProtocols(servers[0], d.current.Load().config.Listen.HTTP2)
	setProtocols(servers[1], false)
	for i, server := range servers {
		group.Go(func() error {
			if err := server.Serve(listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	var closed error
	group.Go(func() error {
		err := d.provider.Run(needed)
		if needed.Err() != nil { // the end of a stop, which may have had an error before
			closed, err = err, nil
		}
		return err
	})
	if d.trail != nil {
		d.act(audit.Started, string(d.current.Load().config.Party.ID), nil)
		group.Go(func() error {
			d.watchKeys(running)
			return nil
		})
	}
	group.Go(func() error {
		d.public.ReleaseMemory(needed, func() { // collects twice, as a sync.Pool keeps what it holds through the first time
			runtime.GC()
			debug.FreeOSMemory()
		})
		return nil
	})
	group.Go(func() error {
		d.watchFiles(running)
		return nil
	})
	group.Go(func() error {
		defer end()
		<-running.Done()
		return d.drain(context.WithoutCancel(running), servers)
	})
	err := group.Wait()
	d.act(audit.Stopped, "", errors.Join(err, closed))
	return errors.Join(err, closed, d.close()) //nolint:contextcheck // what is sent at the end has a bound of its own
}

// close gives back what Open took besides the provider, which does that at the end of its Run.
func (d *Daemon) close() error {
	var errs []error
	for _, l := range []*listen.Listener{d.public, d.internal} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if d.trail != nil {
		errs = append(errs, d.trail.Close())
	}
	d.panics.Close()
	if d.tracer != nil {
		d.tracer.Close(context.Background())
	}
	return errors.Join(errs...)
}

// Reload exchanges everything but the addresses, whether they speak TLS, the data
// folder and the leeway, for which a restart is needed: see [provider.Provider.Reload]. Run must be running.
func (d *Daemon) Reload(ctx context.Context, cfg *config.Config) error {
	return d.ReloadFrom(ctx, func() (*config.Config, error) { return cfg, nil })
}

// ReloadFrom is [Daemon.Reload] with the configuration that load gives. One that cannot be loaded is a reload that failed, which
// metrics and audit trail are told too.
func (d *Daemon) ReloadFrom(ctx context.Context, load func() (*config.Config, error)) error {
	cfg, err := load()
	if err == nil {
		err = d.reload(ctx, cfg)
	}
	if d.metrics != nil {
		d.metrics.Reloaded(err)
	}
	d.act(audit.Reloaded, "", err)
	return err
}

func (d *Daemon) reload(ctx context.Context, cfg *config.Config) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	old := d.current.Load().config
	if keys := restartNeeded(old, cfg); len(keys) > 0 {
		return fmt.Errorf("a restart is needed to change %s", strings.Join(keys, ", "))
	}
	if err := d.refuseExposed(ctx, cfg); err != nil {
		return err
	}
	s, err := d.readSettings(cfg) //nolint:contextcheck // what passes requests on goes by their own contexts
	if err != nil {
		return err
	}
	if err := d.provider.Reload(ctx, s.provider); err != nil {
		return located(cfg, err)
	}
	d.current.Store(s)
	d.options.SetLog(cfg.Log)
	logRisks(ctx, d.options.Log, risks(cfg), risks(old))
	return nil
}

// restartNeeded names the keys that differ and that Reload cannot exchange.
func restartNeeded(old, now *config.Config) []string {
	var keys []string
	for _, k := range []struct {
		name    string
		differs bool
	}{
		{"listen.public", old.Listen.Public != now.Listen.Public},
		{"listen.internal", old.Listen.Internal != now.Listen.Internal},
		{"limits.connections", old.Limits.Connections != now.Limits.Connections},
		{"listen.http2", old.Listen.HTTP2 != now.Listen.HTTP2},
		{"listen.tls", (old.Listen.TLS == nil) != (now.Listen.TLS == nil)},
		{"data", old.Data != now.Data},
		{"audit", differ(old.Audit, now.Audit)},
		{"metrics", old.Metrics != now.Metrics},
		{"profiling", old.Profiling != now.Profiling},
		{"state", old.State != now.State},
		{"state_wait_replicas", old.StateWaitReplicas != now.StateWaitReplicas},
		{"tracing", !reflect.DeepEqual(old.Tracing, now.Tracing)},
		{"party.id", !now.State.Memory() && old.Party.ID != now.Party.ID}, // a shared store keeps parties apart by it
		{"policy.leeway", old.Policy.Leeway != now.Policy.Leeway},         // the replay memory forgets by it
	} {
		if k.differs {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// differ reports whether two optional sections do.
func differ[T comparable](old, now *T) bool {
	return (old == nil) != (now == nil) || old != nil && *old != *now
}

// ErrCut says that a stop was cut short.
var ErrCut = errors.New("stopped at once, without waiting for the requests under way")

// Cut ends a stop that goes on, or the next one, at once. The state is handed over all the same.
func (d *Daemon) Cut() { d.once.Do(func() { close(d.cut) }) }

// drain says that no more requests should come, goes on for a while, stops taking connections,
// waits for the requests under way, and cuts off what takes too long: a stream through a
// route can be without end.
func (d *Daemon) drain(ctx context.Context, servers []*http.Server) error {
	d.draining.Store(true)
	settings := d.current.Load().config.Listen
	delay := time.NewTimer(settings.ShutdownDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-d.cut:
	}
	ctx, cancel := context.WithTimeout(ctx, settings.Drain)
	defer cancel()
	go func() {
		select {
		case <-d.cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	for i, listener := range []*listen.Listener{d.public, d.internal} {
		err := errors.Join(listener.StopAccepting(ctx), servers[i].Shutdown(ctx))
		if err != nil {
			d.options.Log.WarnContext(ctx, "requests under way were cut off", slog.Any("error", errors.Join(err, servers[i].Close())))
		}
	}
	select {
	case <-d.cut:
		return ErrCut
	default:
		return nil
	}
}

// internalHandler adds to what the provider serves what the daemon knows.
func (d *Daemon) internalHandler() http.Handler {
	own := d.provider.Internal()
	cfg := d.current.Load().config
	var shown http.Handler
	if d.metrics != nil {
		shown = d.metrics.Handler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch path := r.URL.Path; {
		case path == provider.ReadyPath && reads:
			d.readiness().Answer(w)
		case path == metricsPath && reads && shown != nil:
			shown.ServeHTTP(w, r)
		case strings.HasPrefix(path, profilingPath) && cfg.Profiling:
			profile(w, r)
		default:
			own.ServeHTTP(w, r)
		}
	})
}

// readiness is that of the provider, with what the daemon knows.
func (d *Daemon) readiness() provider.Readiness {
	state := d.provider.Readiness()
	if d.draining.Load() {
		state.Ready = false
		state.Problems = append([]string{"listen.shutdown_delay: the server is stopping"}, state.Problems...)
	}
	if d.trail != nil {
		if err := d.trail.Stats().Err; err != nil {
			state.Ready = state.Ready && !d.trail.Required()
			state.Problems = append(state.Problems, "audit.file: "+err.Error())
		}
	}
	state.Problems = slices.Concat(state.Problems, d.public.Problems(), d.internal.Problems(), d.fileProblems())
	return state
}
