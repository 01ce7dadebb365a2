package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/rule"
)

// maxRetiring bounds how many earlier services there are whose requests are still under way.
const maxRetiring = 4

// Reload exchanges everything but the addresses, whether they speak TLS, the data
// folder and the leeway, for which a restart is needed. What does not change keeps what it
// remembers: party records, the trusted list, revocation answers and chains. Requests under way are
// answered by the configuration that they began with.
//
// On an error the old configuration stays in use. It is one too when the new one cannot ask its
// registry, and would know less than the old one by that; but a new one that takes away an
// anchor of ours waits for a second only: then the log tells what it lacks.
//
// Run must be running.
func (d *Daemon) Reload(ctx context.Context, cfg *config.Config) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	old := d.current.Load()
	if keys := restartNeeded(old.config, cfg); len(keys) > 0 {
		return fmt.Errorf("a restart is needed to change %s", strings.Join(keys, ", "))
	}
	if err := errors.Join(d.keepsFolders(), refuseExposed(ctx, cfg, d.options.Log)); err != nil {
		return err
	}
	if err := d.awaitRetired(ctx); err != nil {
		return err
	}
	s, err := d.newService(cfg) //nolint:contextcheck // what passes requests on goes by their own contexts
	if err == nil {
		err = d.exchange(ctx, old, s)
	}
	if err != nil {
		<-d.retiring
		return err
	}
	tellRisks(ctx, d.options.Log, risks(cfg), risks(old.config))
	return nil
}

// awaitRetired takes the place of the service that is to retire.
func (d *Daemon) awaitRetired(ctx context.Context) error {
	select {
	case d.retiring <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(writeTimeout):
		return fmt.Errorf("the last %d reloads have requests under way that do not end", maxRetiring)
	}
}

// exchange puts the service in the place of the old one, or closes it.
func (d *Daemon) exchange(ctx context.Context, old, s *service) error {
	s.from.install() // so that it is asked with the new seal what the new configuration needs
	err := s.from.prepare(ctx, old.from)
	if err == nil {
		e := exchange{s, make(chan struct{})}
		select {
		case d.reloads <- e:
			<-e.done
			return nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	old.from.install()
	return errors.Join(err, s.close())
}

// An exchange says when its service has become the current one.
type exchange struct {
	service *service
	done    chan struct{}
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
		{"policy.leeway", old.Policy.Leeway != now.Policy.Leeway}, // the replay memory forgets by it
	} {
		if k.differs {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// background runs what the current service does besides answering, and exchanges
// the service when a reload says so.
func (d *Daemon) background(ctx context.Context) error {
	var retiring sync.WaitGroup
	defer func() {
		if err := soon(func() error { retiring.Wait(); return nil }); err != nil {
			d.options.Log.WarnContext(ctx, "an earlier configuration did not stop", slog.Any("error", err))
		}
	}()
	for {
		s := d.current.Load()
		serviceCtx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.run(serviceCtx) }()
		select {
		case next := <-d.reloads:
			d.current.Store(next.service)
			close(next.done)
			retiring.Go(func() {
				defer func() { <-d.retiring }()
				s.retire()
				stop()
				if err := errors.Join(<-done, s.close()); err != nil {
					d.options.Log.WarnContext(ctx, "the configuration before did not stop cleanly", slog.Any("error", err))
				}
			})
		case err := <-done:
			stop()
			return err
		}
	}
}

// preparation is how long a reload waits at most for a registry that was not asked before, and withdrawal how long
// one that takes an anchor away.
const (
	preparation = 10 * time.Second
	withdrawal  = time.Second
)

// prepare asks the registry for what the old sources know and these do not, so that no client
// is turned away by the exchange. On an error they are less able than the old ones.
func (s *sources) prepare(ctx context.Context, old *sources) error {
	limit, withdraws := preparation, s.withdraws(old)
	if withdraws {
		limit = withdrawal
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.learn(ctx, old)
	if err == nil {
		return nil
	}
	if withdraws {
		s.log.WarnContext(ctx, "the new configuration takes an anchor away and is used, although the registry has not answered it yet", slog.Any("error", err))
		return nil
	}
	return fmt.Errorf("the new configuration would know less than the old one: %w", err)
}

func (s *sources) learn(ctx context.Context, old *sources) error {
	if list := s.clients.list; list != nil && !list.InForce() && old.clients.list != nil && old.clients.list.InForce() {
		if err := list.Update(ctx); err != nil {
			return fmt.Errorf("trust.trusted_list: %w", err)
		}
		return nil
	}
	if s.cache == nil || s.cache == old.cache || old.cache != nil && old.cache.Stats().Parties == 0 {
		return nil
	}
	if _, err := s.cache.Party(ctx, s.config.Party.ID); err != nil && !rule.IsUnknownParty(err) {
		return fmt.Errorf("participants.registry: %w", err)
	}
	return nil
}

// withdraws reports whether an anchor of the old sources is none of these.
func (s *sources) withdraws(old *sources) bool {
	for fingerprint := range old.anchors {
		if _, still := s.anchors[fingerprint]; !still {
			return true
		}
	}
	return false
}

// install has the registry asked with our seal of this configuration, also by what is taken over.
func (s *sources) install() {
	if s.asked != nil {
		s.asked.remote.Store(s.remote)
	}
}
