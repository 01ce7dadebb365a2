// Package provider is the server side of iSHARE whole, for embedding: a token endpoint and everything that
// goes with it, made of one [Config].
//
//	p, err := provider.New(provider.Config{
//		Party: "did:ishare:EU.NL.NTRNL-10000000", Key: key, Certificates: certificates, // our seal
//		Anchors:  anchors, // the CAs that we trust
//		Registry: &provider.Registry{ID: registrar, URL: "https://registry.example", TrustedList: true},
//		Data:     "data", // what must outlive a restart
//	})
//
// Four fields are enough, and the seal with them when there is a Registry or a URL. Whatever is left out is at its
// strictest: certificates are checked for revocation, and a first start gives no tokens for some seconds, as nobody can
// tell which assertions were used before.
//
// A program does three things with what it gets:
//
//   - it serves [Provider.Public] on a listener of its own, which answers POST /connect/token, and with a URL
//     GET /capabilities and metadata; and, where only operators get to, [Provider.Internal], which has health,
//     forward-auth, introspection and revocation of tokens;
//   - it guards handlers of its own with [Provider.Tokens]: guard.Require(p.Tokens(), "iSHARE");
//   - it has [Provider.Run] run for as long as these answer, which keeps records, lists and keys up to date. When its context
//     is done, Run hands over to the next start which assertions were used. Stop answering first.
//
// [Provider.Reload] exchanges the configuration under requests that are under way. [Explain] says of an assertion what a
// provider with a configuration would. [Preflight] looks at what a start would meet.
//
// Timeouts of connections, their number and TLS are the business of the program's own [net/http.Server]. The
// token endpoint bounds what a request may cost: see [Limits].
//
// Before version 1.0 names may change with a minor version; CHANGELOG.md tells how.
package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	store "github.com/waybill-token/waybill/state"
)

const (
	// maxRetiring bounds how many earlier services there are whose requests are still under way.
	maxRetiring = 4
	// retireTimeout is how long a reload waits when there are as many.
	retireTimeout = 30 * time.Second
	// closeTimeout is how long is waited for what closes.
	closeTimeout = 5 * time.Second
)

// A Provider gives access tokens and checks them. [Provider.Run] must run while its handlers are in use.
type Provider struct {
	state    *state
	parts    *parts
	folders  *watch
	store    *watch
	clock    *clockWatch
	current  atomic.Pointer[service]
	reloads  chan *service // from a reload, which then waits for reloaded:
	reloaded chan struct{} // the service has become the current one
	retiring chan struct{} // holds one for each earlier service

	reloading sync.Mutex // one at a time
}

// New reads everything that the configuration names, and refuses what is wrong. The error is [FieldErrors], or wraps a
// [*FieldError] where it is about a field. [Provider.Run] closes what New opened: a program that
// never runs the provider calls it with a context that is done.
func New(c Config) (*Provider, error) {
	c = c.withDefaults()
	if problems := c.Problems(); len(problems) > 0 {
		return nil, errors.Join(problems, c.closeKey())
	}
	p := &Provider{
		parts: newParts(), reloads: make(chan *service), reloaded: make(chan struct{}), retiring: make(chan struct{}, maxRetiring),
	}
	p.parts.keep = true
	var err error
	if p.state, err = openState(&c); err != nil {
		return nil, errors.Join(err, c.closeKey())
	}
	p.folders = &watch{
		key: "data", log: c.Log,
		cost: "requests are answered as before, but a restart forgets what is used and revoked from now on",
	}
	p.store = &watch{key: "state", log: c.Log, cost: "nobody gets a token, and no access token is accepted, until it is over"}
	p.clock = newClockWatch(p.state.floor, c.Log)
	s, err := p.newService(c)
	if err != nil {
		return nil, errors.Join(err, p.state.close())
	}
	if list := s.sources.clients.list; list != nil {
		list.Recall(context.Background())
	}
	p.current.Store(s)
	p.state.logRecoveryErrors(context.Background(), c.Log)
	return p, nil
}

// Tokens checks access tokens for handlers of one's own, as [guard.Require] does. Why a token cannot be checked
// is logged. It stays valid through [Provider.Reload].
func (p *Provider) Tokens() guard.Checker { return tokens{p} }

type tokens struct{ *Provider }

// Check implements [guard.Checker].
func (t tokens) Check(ctx context.Context, token string) (*accesstoken.Claims, error) {
	return t.current.Load().checker.Check(ctx, token)
}

// Run does what goes on besides answering until ctx is done: it keeps records, lists, keys and folders up to date.
// Then it gives everything up, hands over to the next start what was used, and returns nil. It must be called
// once. While it runs, requests may be answered; end them before.
func (p *Provider) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return p.background(running) })
	group.Go(func() error { return every(running, clockInterval, p.clock.check) })
	group.Go(func() error { return every(running, folderInterval, p.watchFolders) })
	group.Go(func() error { return every(running, clockInterval, p.watchStore) })
	err := group.Wait()
	// The state is the last: an assertion that is accepted before it is closed is handed over as used.
	return errors.Join(err, withTimeout(p.current.Load().close), p.state.close())
}

// withTimeout does not wait without end for what may hang in the library of a key in hardware:
// what comes after it, above all the hand-over, must not be lost with it.
func withTimeout(what func() error) error {
	done := make(chan error, 1)
	go func() { done <- what() }()
	select {
	case err := <-done:
		return err
	case <-time.After(closeTimeout):
		return fmt.Errorf("not closed within %s", closeTimeout)
	}
}

// Reload exchanges everything but Data, State, Party with a State, and Leeway, for which a new provider is needed. What does not change keeps
// what it remembers: party records, the trusted list, revocation answers and chains. Requests under way are
// answered by the configuration that they began with. The handlers and Tokens stay valid.
//
// On an error the old configuration stays in use. It is one too when the new one cannot ask its
// registry, and would know less than the old one by that; but a new one that takes away an
// anchor of ours waits for a second only: then the log tells what it lacks.
//
// Run must be running.
func (p *Provider) Reload(ctx context.Context, c Config) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	c = c.withDefaults()
	old := p.current.Load()
	err := p.reloadable(&old.config, &c) //nolint:contextcheck // what passes requests on goes by their own contexts
	if err == nil {
		select { // takes a place among those that retire
		case p.retiring <- struct{}{}:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(retireTimeout):
			err = fmt.Errorf("the last %d reloads have requests under way that do not end", maxRetiring)
		}
	}
	if err != nil {
		return errors.Join(err, c.closeKey())
	}
	s, err := p.newService(c) //nolint:contextcheck // what passes requests on goes by their own contexts
	if err == nil {
		err = p.exchange(ctx, old, s)
	}
	if err != nil {
		<-p.retiring
	}
	return err
}

// reloadable is an error when the configuration is wrong, or cannot take the place of the old one.
func (p *Provider) reloadable(old, now *Config) error {
	if problems := now.Problems(); len(problems) > 0 {
		return problems
	}
	var fields []string
	if old.Data != now.Data {
		fields = append(fields, now.Name("Data"))
	}
	if old.State != now.State || now.State.URL != (store.URL{}) && old.Party != now.Party {
		fields = append(fields, now.Name("State"))
	}
	if old.Leeway != now.Leeway { // the replay memory forgets by it
		fields = append(fields, now.Name("Leeway"))
	}
	if len(fields) > 0 {
		return fmt.Errorf("a restart is needed to change %s", strings.Join(fields, ", "))
	}
	if err := p.state.lost(); err != nil {
		return now.problem("Data", fmt.Errorf("%w; put it back, or restart the server", err))
	}
	// With no keys of before, no token that was issued so far would count. A JWK Set that is gone is not made anew.
	keys := old.folder().Keys()
	if accesstoken.IsKeySet(keys) {
		return nil
	}
	if _, err := os.Stat(keys); errors.Is(err, fs.ErrNotExist) {
		return now.problem("Tokens.Keys", fmt.Errorf("%w; put it back, or restart the server", err))
	}
	return nil
}

// exchange puts the service in the place of the old one, or closes it.
func (p *Provider) exchange(ctx context.Context, old, s *service) error {
	s.sources.install() // so that prepare asks with the new seal
	err := s.sources.prepare(ctx, old.sources)
	if err == nil {
		select {
		case p.reloads <- s:
			<-p.reloaded
			return nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	old.sources.install()
	return errors.Join(err, s.close())
}

// background runs what the current service does besides answering, and exchanges
// the service when a reload says so.
func (p *Provider) background(ctx context.Context) error {
	var retiring sync.WaitGroup
	defer func() {
		if err := withTimeout(func() error { retiring.Wait(); return nil }); err != nil {
			p.current.Load().config.Log.WarnContext(ctx, "an earlier configuration did not stop", slog.Any("error", err))
		}
	}()
	for {
		s := p.current.Load()
		serviceCtx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			s.sources.start(serviceCtx)
			done <- s.keys.Run(serviceCtx)
		}()
		select {
		case next := <-p.reloads:
			p.current.Store(next)
			p.reloaded <- struct{}{}
			retiring.Go(func() {
				defer func() { <-p.retiring }()
				s.inFlight.Lock() // when the last request that needs it has ended; the successor gets the next ones
				stop()
				if err := errors.Join(<-done, s.close()); err != nil {
					s.config.Log.WarnContext(ctx, "the configuration before did not stop cleanly", slog.Any("error", err))
				}
			})
		case err := <-done:
			stop()
			return err
		}
	}
}
