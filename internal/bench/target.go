package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
)

const (
	// An assertion lives for 30 seconds from the second in which signing began. Of these the first part is for signing,
	// and after the last nothing is sent any more, so that none expires on its way.
	maxSigning = 10 * time.Second
	maxAge     = 25 * time.Second

	dialTimeout = 10 * time.Second
)

// An ElsewhereError says that a host is not this machine, or not only, and was not named as one to load.
type ElsewhereError struct {
	Host    string
	Address netip.Addr
}

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("%s is another machine (%s)", e.Host, e.Address)
}

// Resolve looks up where the server of a URL is. Every address must be a loopback address, unless the host is among
// those that may be loaded; else the error is an [*ElsewhereError]. What is measured later is at these addresses, whatever the
// name says then. The function lookup is that of a [net.Resolver].
func Resolve(
	ctx context.Context, u *url.URL, loadable []string, lookup func(ctx context.Context, network, host string) ([]netip.Addr, error),
) ([]netip.AddrPort, error) {
	host := u.Hostname()
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", cmp.Or(u.Port(), u.Scheme))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	found, err := lookup(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	allowed := slices.ContainsFunc(loadable, func(name string) bool { return strings.EqualFold(name, host) })
	var addresses []netip.AddrPort
	for _, a := range found {
		if a = a.Unmap(); !a.IsLoopback() && !allowed {
			return nil, &ElsewhereError{host, a}
		}
		addresses = append(addresses, netip.AddrPortFrom(a, uint16(port)))
	}
	return addresses, nil
}

// A Target is a server to load.
type Target struct {
	// Name is what the report calls it.
	Name string
	// URL is the token endpoint, and Addresses is where it is: the first that takes connections is used.
	URL       *url.URL
	Addresses []netip.AddrPort
	// TLS secures connections to a URL with https. Nil: certificates are trusted that the system trusts.
	TLS *tls.Config
	// PID is the process of the server, whose processor time is measured. Zero: it is not.
	PID int
	// Audience and Scope are what a request asks for.
	Audience ishare.PartyID
	Scope    ishare.Scope
	// Client signs the i-th request that is measured. It is called by several goroutines at the same time.
	Client func(i int) (*assertion.Maker, error)
	// Known signs the i-th of the requests by which the server gets warm: Client unless set. There are at least
	// WarmUp of them.
	Known  func(i int) (*assertion.Maker, error)
	WarmUp int
}

// known is what signs requests of clients that the server may get to know.
func (t *Target) known() func(int) (*assertion.Maker, error) {
	if t.Known != nil {
		return t.Known
	}
	return t.Client
}

// request is one of a client, as it goes over the connection.
func (t *Target) request(maker *assertion.Maker) ([]byte, error) {
	compact, err := maker.Make(t.Audience)
	if err != nil {
		return nil, err
	}
	body := url.Values{
		"grant_type":            {"client_credentials"},
		"scope":                 {t.Scope.String()},
		"client_id":             {string(maker.ClientID)},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {compact},
	}.Encode()
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: waybill-bench\r\nAccept: application/json\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", t.URL.RequestURI(), t.URL.Host, len(body), body), nil
}

// sign makes requests from the first one on, on all processors: n of them, or fewer when that takes longer than
// maxSigning, one at least.
func (t *Target) sign(ctx context.Context, client func(int) (*assertion.Maker, error), first, n int, signed func(int)) ([][]byte, error) {
	requests, began := make([][]byte, n), time.Now()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for made := 0; made == 0 || time.Since(began) < maxSigning; made++ {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return ctx.Err()
				}
				maker, err := client(first + i)
				if err == nil {
					requests[i], err = t.request(maker)
				}
				if err != nil {
					return err
				}
				signed(i + 1)
			}
			return nil
		})
	}
	err := group.Wait()
	return requests[:min(int(next.Load()), n)], err
}

// dial opens a connection to the first address that takes one.
func (t *Target) dial(ctx context.Context) (net.Conn, error) {
	dialer, failed := net.Dialer{Timeout: dialTimeout}, errors.New("bench: no address to connect to")
	for _, address := range t.Addresses {
		c, err := dialer.DialContext(ctx, "tcp", address.String())
		if err != nil {
			failed = fmt.Errorf("bench: %w", err)
			continue
		}
		if t.URL.Scheme != "https" {
			return c, nil
		}
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if t.TLS != nil {
			config = t.TLS.Clone()
		}
		config.ServerName, config.NextProtos = t.URL.Hostname(), []string{"http/1.1"}
		secured := tls.Client(c, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, fmt.Errorf("bench: %w", err)
		}
		return secured, nil
	}
	return nil, failed
}
