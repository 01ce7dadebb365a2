// Package daemon is the running server: it wires the packages together as the
// configuration says, listens, reloads, and stops without losing anything.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/internal/authority"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// Bounds on what a connection may cost. A token request takes milliseconds; a
// client that needs longer than these is broken or hostile.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	closeTimeout   = 5 * time.Second
)

// Options are what a daemon is given besides its configuration.
type Options struct {
	Log *slog.Logger
	// Secured are handlers by pattern that the public listener serves to
	// bearers of an access token only.
	Secured map[string]http.Handler
	// Newborn says that the party came into being with this start, so that no
	// assertion to it can have been used before: see [replay.Config] and [FirstStart].
	NoHistory bool
	// Sockets are taken instead of the addresses of the configuration: see [SocketPublic].
	Sockets map[string]net.Listener
}

// The names of sockets that a service manager hands over.
const (
	SocketPublic   = "public"
	SocketInternal = "internal"
)

// A Daemon is a server that listens. Requests are answered while [Daemon.Run] runs.
type Daemon struct {
	options  Options
	memory   *memory
	parts    *parts
	watches  watches
	current  atomic.Pointer[service]
	public   *listen.Listener
	internal *listen.Listener
	reloads  chan exchange
	retiring chan struct{} // holds one for each earlier service
	draining atomic.Bool
	panics   *logsum.Log

	reloading sync.Mutex // one at a time

	cut  chan struct{} // closed: a stop waits for nothing more
	once sync.Once     // closes cut
}

// Open reads everything that the configuration names, takes the addresses, and
// refuses to start when anything is wrong.
func Open(ctx context.Context, cfg *config.Config, options Options) (*Daemon, error) {
	d := &Daemon{
		options: options, parts: newParts(), panics: logsum.New(options.Log),
		reloads: make(chan exchange), cut: make(chan struct{}), retiring: make(chan struct{}, maxRetiring),
	}
	d.parts.keep = true
	if err := d.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *Daemon) open(ctx context.Context, cfg *config.Config) (err error) {
	if err := refuseExposed(ctx, cfg, d.options.Log); err != nil {
		return err
	}
	if d.memory, err = openMemory(cfg, d.options.NoHistory); err != nil {
		return err
	}
	d.watches = newWatches(d.memory, d.options.Log)
	if err := d.listen(ctx, cfg); err != nil {
		return err
	}
	s, err := d.newService(cfg) //nolint:contextcheck // what passes requests on goes by their own contexts
	if err != nil {
		return err
	}
	if list := s.from.clients.list; list != nil {
		list.Recall(ctx)
	}
	d.current.Store(s)
	d.memory.tellDoubts(ctx, d.options.Log)
	tellRisks(ctx, d.options.Log, risks(cfg), nil)
	return nil
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
	servers := []*http.Server{d.server(http.HandlerFunc(d.answer), d.public), d.server(d.internals(), d.internal)}
	speak(servers[0], d.current.Load().config.Listen.HTTP2)
	speak(servers[1], false)
	for i, server := range servers {
		group.Go(func() error {
			if err := server.Serve(listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error { return d.background(needed) })
	group.Go(func() error { d.public.GiveBack(needed, giveBack); return nil })
	group.Go(func() error { return d.watch(needed) })
	group.Go(func() error {
		defer end()
		<-running.Done()
		return d.drain(context.WithoutCancel(running), servers)
	})
	return errors.Join(group.Wait(), d.close())
}

// giveBack collects twice, as a [sync.Pool] keeps what it holds through the first time.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// answer has the current service answer a request of the public listener.
func (d *Daemon) answer(w http.ResponseWriter, r *http.Request) {
	if suspicion := authority.Check(r); suspicion != "" {
		respond.Error(w, http.StatusBadRequest, rule.CodeInvalidRequest, suspicion)
		return
	}
	d.current.Load().public.ServeHTTP(w, r)
}

func (d *Daemon) server(handler http.Handler, listener *listen.Listener) *http.Server {
	return &http.Server{
		Handler:           listen.Handler(uncached(d.closing(unambiguous(survive(d.options.Log, d.panics, handler))))),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         listener.ConnState,
		ConnContext:       listener.ConnContext,
		ErrorLog:          slog.NewLogLogger(d.options.Log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true, // which answers without the header fields of ours
	}
}

// close gives back what open took, the memory last: until it is closed, a pair that
// was answered with yes is in the hand-over.
func (d *Daemon) close() error {
	var errs []error
	if s := d.current.Load(); s != nil {
		errs = append(errs, soon(s.close))
	}
	for _, l := range []*listen.Listener{d.public, d.internal} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if d.memory != nil {
		errs = append(errs, d.memory.close())
	}
	d.panics.Close()
	return errors.Join(errs...)
}

// soon does not wait without end for what may hang in the library of a key in hardware:
// what comes after it, above all the hand-over, must not be lost with it.
func soon(what func() error) error {
	done := make(chan error, 1)
	go func() { done <- what() }()
	select {
	case err := <-done:
		return err
	case <-time.After(closeTimeout):
		return fmt.Errorf("not closed within %s", closeTimeout)
	}
}
