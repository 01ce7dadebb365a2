package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/isharetest"
)

// loopback is where everything listens that is not the provider.
const loopback = "127.0.0.1"

// addresses are those of a data space, as the folder keeps them.
type addresses struct {
	Registry string `json:"registry"`
	OCSP     string `json:"ocsp"` // certificates name it
	CRL      string `json:"crl"`  // as well
	Control  string `json:"control"`
}

// listeners are on the addresses once they are taken. OCSP and revocation lists have
// one each, because the circuit that clients open for a host that does not answer
// would cut off the other one too.
type listeners struct {
	registry, ocsp, crl, control net.Listener
}

// takeAddresses takes the addresses that the folder keeps, and otherwise those that
// follow the provider's. What is taken already gives way to a free one, except
// the addresses that certificates name.
func takeAddresses(ctx context.Context, dir, provider string) (*listeners, error) {
	file := filepath.Join(dir, "addresses.json")
	var kept addresses
	switch data, err := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &kept); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	l := &listeners{}
	if err := l.take(ctx, kept, provider); err != nil {
		return nil, errors.Join(err, l.close())
	}
	taken := addresses{
		Registry: l.registry.Addr().String(), OCSP: l.ocsp.Addr().String(), CRL: l.crl.Addr().String(), Control: l.control.Addr().String(),
	}
	if taken == kept {
		return l, nil
	}
	if err := writeJSONFile(file, taken); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *listeners) take(ctx context.Context, kept addresses, provider string) (err error) {
	if l.registry, err = listenNear(ctx, cmp.Or(kept.Registry, after(provider, 1))); err != nil {
		return err
	}
	if l.ocsp, err = listenNamed(ctx, kept.OCSP, after(provider, 2)); err != nil {
		return err
	}
	if l.crl, err = listenNamed(ctx, kept.CRL, after(provider, 3)); err != nil {
		return err
	}
	l.control, err = listenNear(ctx, cmp.Or(kept.Control, after(provider, 4)))
	return err
}

// listenNamed takes an address that certificates name, or will name once it is kept.
func listenNamed(ctx context.Context, kept, preferred string) (net.Listener, error) {
	if kept == "" {
		return listenNear(ctx, preferred)
	}
	l, err := listen(ctx, kept)
	if err != nil {
		return nil, fmt.Errorf("the certificates name %s for their status; stop what listens there, or remove the folder: %w", kept, err)
	}
	return l, nil
}

func (l *listeners) close() error {
	var errs []error
	for _, listener := range []net.Listener{l.registry, l.ocsp, l.crl, l.control} {
		if listener == nil {
			continue
		}
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// after is an address of this machine some ports behind another one, and any free
// one when that has no port of its own.
func after(address string, ports int) string {
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil || number == 0 || number+ports > 65535 {
		return net.JoinHostPort(loopback, "0")
	}
	return net.JoinHostPort(loopback, strconv.Itoa(number+ports))
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// listenNear takes the address, or any when it is not to be had.
func listenNear(ctx context.Context, address string) (net.Listener, error) {
	if l, err := listen(ctx, address); err == nil {
		return l, nil
	}
	return listen(ctx, net.JoinHostPort(loopback, "0"))
}

func baseURL(l net.Listener) string { return "http://" + l.Addr().String() }

func writeJSONFile(file string, content any) error {
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

// Bounds of the servers on this machine. An answer may be held back on purpose.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = isharetest.Slowness + readTimeout
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 5 * time.Second
)

// serve answers requests until ctx is done, and then lets those under way finish.
// What an answer waits for on purpose ends with ctx.
func serve(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(limit)
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-drained
}
