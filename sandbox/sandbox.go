// Package sandbox is a whole data space on one machine, to try things with: a certificate authority shaped like the
// real test PKI with an OCSP responder and revocation lists, a Participant Registry, a provider with a token endpoint
// and a secured service, and consumers in every standing.
//
// While it runs, its switches change what the registry and the authority say, and have them fail or answer falsely, so
// that one can see how the provider responds: see [Sandbox.Set], and [Find] for a sandbox in another process.
//
// Everything lives in one folder. Keys, certificates and the addresses that they name are made once; what else a start
// needs is made anew each time, and every switch stands where it stood in the beginning. Nothing in it may be trusted
// elsewhere.
package sandbox

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
)

// Framework is the version of the iSHARE framework that the registry speaks.
type Framework string

// The frameworks.
const (
	Framework3 Framework = "3.0"
	Framework2 Framework = "2"
)

// DefaultFreshness is how long a provider goes by what it was told, unless a [Config] says otherwise.
const DefaultFreshness = 5 * time.Second

// Config says where a sandbox lives. Dir must be set.
type Config struct {
	Dir       string            // of the whole data space; made when it is missing
	Listen    string            // address of the provider, a free port of this machine unless set; the others are on loopback
	CAKeyBits int               // of the CAs' keys, when they are made: 2048 unless set
	Log       *slog.Logger      // nobody is told unless set
	Progress  func(step string) // told before a step that takes its time; optional

	// Framework is what the registry speaks: [Framework3] unless set. Optional.
	Framework Framework
	// Freshness is how long the provider uses what the registry, OCSP and revocation lists said before it asks again,
	// in whole seconds: [DefaultFreshness] unless set. A party that it knows is served for twelve times as long while
	// the registry is out of reach. Optional.
	Freshness time.Duration

	newKey func(bits int) (*rsa.PrivateKey, error) // nil: as usual
}

// A Sandbox is a data space whose servers listen.
type Sandbox struct {
	Provider   Participant
	Consumer   Participant   // in good standing
	Former     Participant   // its compliance has ended
	Everybody  []Participant // these and all others
	URL        string        // of the provider
	ConfigFile string        // of the provider
	CAFolder   string        // keys and certificates of the CA of everybody but the untrusted

	// Console is served at the address of the switches, at whatever the control API has no answer for, to pages of that
	// address only; a browser on this machine that asks for / of the provider is led there. Set it before Run. Optional.
	Console http.Handler

	config      Config
	lock        *flock.Flock
	listeners   *listeners
	authorities map[string]*testca.CA // by folder
	status      *isharetest.StatusServices
	parties     []*party
	registry    *isharetest.Registry
	daemon      *daemon.Daemon

	mu       sync.Mutex // guards how the switches stand
	switches []*switchControl

	decisions decisions
}

// Open makes the data space in its folder, or finds it there, and takes the
// addresses. A folder is for one sandbox at a time.
func Open(ctx context.Context, c Config) (*Sandbox, error) {
	if c.Dir == "" {
		return nil, errors.New("sandbox: Dir must be set")
	}
	c.Framework = cmp.Or(c.Framework, Framework3)
	c.Freshness = cmp.Or(c.Freshness, DefaultFreshness)
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:0")
	c.CAKeyBits = cmp.Or(c.CAKeyBits, 2048)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Framework != Framework3 && c.Framework != Framework2 {
		return nil, fmt.Errorf("sandbox: the framework is %s or %s, not %.20q", Framework3, Framework2, c.Framework)
	}
	s := &Sandbox{config: c}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("sandbox: %w", errors.Join(err, s.close()))
	}
	return s, nil
}

func (s *Sandbox) open(ctx context.Context) error {
	if err := os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(s.config.Dir, ".lock")) // which keeps a second sandbox out
	switch mine, err := lock.TryLock(); {
	case err != nil:
		return err
	case !mine:
		return fmt.Errorf("a sandbox is running in %s already", s.config.Dir)
	}
	s.lock = lock
	var err error
	if s.listeners, err = takeAddresses(ctx, s.config.Dir, s.config.Listen); err != nil {
		return err
	}
	if err := s.openAuthorities(); err != nil { //nolint:contextcheck // the doubles live until they are closed
		return err
	}
	if err := s.openParties(); err != nil {
		return err
	}
	for _, p := range s.parties {
		s.Everybody = append(s.Everybody, p.Participant)
	}
	s.Provider = s.party(providerFolder).Participant
	s.Consumer = s.party(consumerFolder).Participant
	s.Former = s.party(formerFolder).Participant
	if err := s.openRegistry(); err != nil { //nolint:contextcheck // the doubles live until they are closed
		return err
	}
	s.makeSwitches()
	s.Reset()
	if err := writeJSONFile(filepath.Join(s.config.Dir, controlFile), contact{URL: baseURL(s.listeners.control)}); err != nil {
		return err
	}
	return s.openProvider(ctx)
}

func (s *Sandbox) party(folder string) *party {
	i := slices.IndexFunc(s.parties, func(p *party) bool { return p.Folder == folder })
	return s.parties[i]
}

func (s *Sandbox) openProvider(ctx context.Context) error {
	s.ConfigFile = filepath.Join(s.config.Dir, providerFolder, "waybill.yaml")
	s.CAFolder = filepath.Join(s.config.Dir, ownCA)
	text := providerConfig(s.config, s.Provider, Address{ID: s.registry.ID, URL: s.registry.URL})
	if err := os.WriteFile(s.ConfigFile, text, 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(s.ConfigFile, nil)
	if err != nil {
		return err
	}
	s.daemon, err = daemon.Open(ctx, cfg, daemon.Options{
		Log:       s.config.Log,
		Secured:   map[string]http.Handler{"GET /me": http.HandlerFunc(me)},
		NoHistory: s.party(providerFolder).isNew,
		Observe:   func(public http.Handler) http.Handler { return s.lead(s.decisions.observe(public)) },
	})
	if err != nil {
		return err
	}
	s.URL = "http://" + reachable(s.daemon.PublicAddr())
	return s.writeProfiles()
}

// Freshness is for how long the provider may go by what it was told before a switch was turned.
func (s *Sandbox) Freshness() time.Duration { return s.config.Freshness }

// Scopes are the values of a scope that the provider knows.
func (s *Sandbox) Scopes() []string { return []string{ishare.ScopeISHARE, scopeOrders} }

// Explain judges an assertion as the provider would at that time, by what it knows, and admits nobody. Run must be running.
func (s *Sandbox) Explain(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error) {
	return s.daemon.Explain(ctx, request, at)
}

// Run answers requests until ctx is done, gives back what Open took, and returns nil. It must be called once.
func (s *Sandbox) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	for listener, handler := range map[net.Listener]http.Handler{
		s.listeners.registry: s.registry,
		s.listeners.ocsp:     s.status.OCSP(),
		s.listeners.crl:      s.status.CRL(),
		s.listeners.control:  s.controlHandler(s.listeners.control.Addr()),
	} {
		group.Go(func() error { return serve(running, listener, handler, s.config.Log) })
	}
	group.Go(func() error { return s.daemon.Run(running) })
	return errors.Join(group.Wait(), s.close())
}

// close gives back what open took, and the folder last.
func (s *Sandbox) close() error {
	var errs []error
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	if s.listeners != nil {
		errs = append(errs, s.listeners.close())
	}
	if s.lock != nil {
		if err := os.Remove(filepath.Join(s.config.Dir, controlFile)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}
