package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-json-experiment/json"
)

// loopback is where everything listens that is not the provider.
const loopback = "127.0.0.1"

// places are the addresses of a data space, as the folder keeps them.
type places struct {
	Registry string `json:"registry"`
	OCSP     string `json:"ocsp"` // certificates name it
	CRL      string `json:"crl"`  // as well
	Control  string `json:"control"`
}

// listeners are the places once they are taken. OCSP and revocation lists have a
// place each because clients leave a host alone that does not answer, and one of the
// two may be told not to.
type listeners struct {
	registry, ocsp, crl, control net.Listener
}

// takePlaces takes the addresses that the folder keeps, and otherwise those that
// follow the provider's. What is taken already gives way to a free one, except
// the place that certificates name.
func takePlaces(ctx context.Context, dir, provider string) (*listeners, error) {
	file := filepath.Join(dir, "addresses.json")
	kept, err := readPlaces(file)
	if err != nil {
		return nil, err
	}
	l := &listeners{}
	if err := l.take(ctx, kept, provider); err != nil {
		return nil, errors.Join(err, l.close())
	}
	taken := places{
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

func (l *listeners) take(ctx context.Context, kept places, provider string) (err error) {
	if l.registry, err = listenNear(ctx, orElse(kept.Registry, after(provider, 1))); err != nil {
		return err
	}
	if l.ocsp, err = listenNamed(ctx, kept.OCSP, after(provider, 2)); err != nil {
		return err
	}
	if l.crl, err = listenNamed(ctx, kept.CRL, after(provider, 3)); err != nil {
		return err
	}
	l.control, err = listenNear(ctx, orElse(kept.Control, after(provider, 4)))
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

func readPlaces(file string) (places, error) {
	var kept places
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return kept, err
	}
	if err := json.Unmarshal(data, &kept); err != nil {
		return kept, fmt.Errorf("%s: %w", file, err)
	}
	return kept, nil
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

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func writeJSONFile(file string, content any) error {
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}
