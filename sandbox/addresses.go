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

// ownHostName is where everything listens that is not the provider.
const ownHostName = "127.0.0.1"

// addresses are those of a data space, as the folder keeps them.
type addresses struct {
	Registry string `json:"registry"`
	OCSP     string `json:"ocsp"` // certificates name it
	CRL      string `json:"crl"`  // as well
	Control  string `json:"control"`
}

// listeners are on the addresses once they are taken. OCSP and revocation lists have one each, because the circuit that
// clients open for a host that does not answer would cut off the other one too.
type listeners struct {
	registry, ocsp, crl, control net.Listener
}

// takeAddresses takes the addresses that the folder keeps, and otherwise those that follow the provider's. What is
// taken already gives way to a free one, except the addresses that certificates name.
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
	for i, a := range []struct {
		listener *net.Listener
		kept     string
		named    bool // by certificates
	}{{&l.registry, kept.Registry, false}, {&l.ocsp, kept.OCSP, true}, {&l.crl, kept.CRL, true}, {&l.control, kept.Control, false}} {
		var err error
		if *a.listener, err = listen(ctx, a.kept, after(provider, i+1), a.named); err != nil {
			return nil, errors.Join(err, l.close())
		}
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

// listen takes the kept address, where none is kept the preferred one, and any free one when that is not to be had. A kept
// address that certificates name gives way to no other.
func listen(ctx context.Context, kept, preferred string, named bool) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cmp.Or(kept, preferred))
	switch {
	case err == nil:
		return l, nil
	case named && kept != "":
		return nil, fmt.Errorf("the certificates name %s for their status; stop what listens there, or remove the folder: %w", kept, err)
	}
	return lc.Listen(ctx, "tcp", net.JoinHostPort(ownHostName, "0"))
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

// after is an address of this machine some ports behind another one, and any free one when that has no port of its own.
func after(address string, ports int) string {
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil || number == 0 || number+ports > 65535 {
		return net.JoinHostPort(ownHostName, "0")
	}
	return net.JoinHostPort(ownHostName, strconv.Itoa(number+ports))
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
