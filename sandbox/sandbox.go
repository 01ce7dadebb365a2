// Package sandbox is a whole data space on one machine, to try things with: a
// certificate authority shaped like the real test PKI with an OCSP responder and
// revocation lists, a Participant Registry, a provider with a token endpoint and a
// secured service, and consumers in every standing.
//
// While it runs, its switches change what the registry and the authority say, and
// have them fail or tell untruths, so that one can see what the provider makes of
// it: see [Sandbox.Set], and [Find] for a sandbox in another process.
//
// Everything lives in one folder. Keys, certificates and the addresses that they
// name are made once; what else a start needs is made anew each time, and every
// switch stands where it stood in the beginning. Nothing in it may be trusted
// elsewhere.
package sandbox

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

// Folders of the authorities.
const (
	ownCA   = "ca"
	otherCA = "other-ca"
)

// DefaultFreshness is how long a provider goes by what it was told, unless a
// [Config] says otherwise.
const DefaultFreshness = 5 * time.Second

// Config says where a sandbox lives. Every field that is not marked optional must
// be set.
type Config struct {
	Dir       string // of the whole data space; made when it is missing
	Listen    string // address of the provider; the others are on loopback
	CAKeyBits int    // of the CAs' keys, when they are made
	Log       *slog.Logger
	Progress  func(step string) // told before a step that takes its time

	// Framework is what the registry speaks: [Framework3] unless set. Optional.
	Framework Framework
	// Freshness is how long the provider uses what the registry, OCSP and
	// revocation lists said before it asks again, in whole seconds:
	// [DefaultFreshness] unless set. A party that it knows is served for twelve times as long
	// while the registry is out of reach. Optional.
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

	config      Config
	lock        *flock.Flock
	listeners   *listeners
	authorities map[string]*authority
	members     []*member
	trusted     *trustedList
	registry    *registry
	responder   *dial
	lists       *dial
	board       board
	asked       counters
	daemon      *daemon.Daemon
}

// Open makes the data space in its folder, or finds it there, and takes the
// addresses. A folder is for one sandbox at a time.
func Open(ctx context.Context, c Config) (*Sandbox, error) {
	if c.Framework == "" {
		c.Framework = Framework3
	}
	if c.Freshness == 0 {
		c.Freshness = DefaultFreshness
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
	if err := s.claimFolder(); err != nil {
		return err
	}
	var err error
	if s.listeners, err = takePlaces(ctx, s.config.Dir, s.config.Listen); err != nil {
		return err
	}
	if err := s.populate(); err != nil {
		return err
	}
	if err := s.openRegistry(); err != nil {
		return err
	}
	s.wire()
	if err := writeJSONFile(filepath.Join(s.config.Dir, controlFile), contact{URL: s.controlURL()}); err != nil {
		return err
	}
	return s.openProvider(ctx)
}

// claimFolder keeps a second sandbox out.
func (s *Sandbox) claimFolder() error {
	if err := os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(s.config.Dir, ".lock"))
	switch mine, err := lock.TryLock(); {
	case err != nil:
		return err
	case !mine:
		return fmt.Errorf("a sandbox is running in %s already", s.config.Dir)
	}
	s.lock = lock
	return nil
}

// populate finds or makes the authorities and everybody's seals.
func (s *Sandbox) populate() error {
	own, err := openAuthority(s.config, ownCA, "Waybill Sandbox", s.listeners)
	if err != nil {
		return err
	}
	other, err := openAuthority(s.config, otherCA, "Waybill Other", s.listeners)
	if err != nil {
		return err
	}
	s.authorities = map[string]*authority{ownCA: own, otherCA: other}
	if s.members, err = openMembers(s.config, own, other); err != nil {
		return err
	}
	for _, m := range s.members {
		s.Everybody = append(s.Everybody, m.Participant)
	}
	s.Provider = s.member(providerFolder).Participant
	s.Consumer = s.member(consumerFolder).Participant
	s.Former = s.member(formerFolder).Participant
	return nil
}

func (s *Sandbox) member(folder string) *member {
	for _, m := range s.members {
		if m.Folder == folder {
			return m
		}
	}
	return nil
}

func (s *Sandbox) openRegistry() error {
	own, other := s.authorities[ownCA].root(), s.authorities[otherCA].root()
	var err error
	if s.trusted, err = openTrustedList(own, other); err != nil {
		return err
	}
	self := s.member(registryFolder)
	s.registry, err = openRegistry(registryConfig{
		self: self, other: s.member(consumerFolder),
		register:  &register{registrar: self.ID, members: s.members},
		dir:       filepath.Join(s.config.Dir, registryFolder),
		url:       baseURL(s.listeners.registry),
		framework: s.config.Framework,
		trusted:   s.trusted,
		asked:     &s.asked,
		log:       s.config.Log.With(slog.String("server", "registry")),
	})
	return err
}

// wire brings every dial to the board.
func (s *Sandbox) wire() {
	s.responder = newDial(&dial{name: "ocsp", about: "how the OCSP responder answers", choices: statusOutages(), initial: normal})
	s.lists = newDial(&dial{name: "crl", about: "how the revocation lists are served", choices: statusOutages(), initial: normal})
	s.board = board{s.registry.mood, s.responder, s.lists, s.trusted.other}
	for _, m := range s.members {
		s.board = append(s.board, m.standing, m.certificate)
	}
}

func (s *Sandbox) openProvider(ctx context.Context) error {
	s.ConfigFile = filepath.Join(s.config.Dir, providerFolder, "waybill.yaml")
	text := providerConfig(s.config, s.Provider, s.registryPlace())
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
		NoHistory: s.member(providerFolder).newborn,
	})
	if err != nil {
		return err
	}
	s.URL = "http://" + reachable(s.daemon.PublicAddr())
	return nil
}

func (s *Sandbox) registryPlace() Address {
	return Address{ID: s.registry.self.ID, URL: s.registry.base}
}

func (s *Sandbox) controlURL() string { return baseURL(s.listeners.control) }

// Freshness is for how long the provider may go by what it was told before a switch
// was turned.
func (s *Sandbox) Freshness() time.Duration { return s.config.Freshness }

// Set turns a switch. What it changes holds for requests from now on; the provider
// notices when it asks again, which it does within the sandbox's freshness. It asks
// again about a party that it found unknown after half a minute, and never about a
// certificate that it found revoked for good. The error wraps [ErrNoSwitch] or
// [ErrNoChoice].
func (s *Sandbox) Set(name, value string) error { return s.board.set(name, value) }

// Reset puts every switch back to where it stood in the beginning.
func (s *Sandbox) Reset() { s.board.reset() }

// State tells how everything stands.
func (s *Sandbox) State() State {
	return State{
		Framework: s.config.Framework,
		Provider:  Address{ID: s.Provider.ID, URL: s.URL},
		Registry:  s.registryPlace(),
		Control:   s.controlURL(),
		Switches:  s.board.switches(),
		Asked:     s.asked.tally(),
	}
}

// Run answers requests until ctx is done, gives back what Open took, and returns
// nil. It must be called once.
func (s *Sandbox) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	responder := counted(&s.asked.ocsp, malforming(s.responder, statusServices(s.authorities, http.MethodPost)))
	lists := counted(&s.asked.crl, malforming(s.lists, statusServices(s.authorities, http.MethodGet)))
	for listener, handler := range map[net.Listener]http.Handler{
		s.listeners.registry: s.registry,
		s.listeners.ocsp:     responder,
		s.listeners.crl:      lists,
		s.listeners.control:  s.controlHandler(s.listeners.control.Addr()),
	} {
		group.Go(func() error { return serve(running, listener, handler, s.config.Log) })
	}
	group.Go(func() error { return s.registry.run(running) })
	group.Go(func() error { return s.daemon.Run(running) })
	return errors.Join(group.Wait(), s.close())
}

// close gives back what open took, and the folder last.
func (s *Sandbox) close() error {
	var errs []error
	if s.registry != nil {
		errs = append(errs, s.registry.close())
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
