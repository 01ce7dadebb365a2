package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/notify"
	"github.com/waybill-token/waybill/provider"
)

// A supervised server tells its service manager, if there is one, how it is.
type supervised struct {
	*daemon.Daemon

	manager *notify.Manager
}

// supervise tells the manager that the server answers, as soon as it does, gives signs of life until end is called, and tells
// at the end of ctx that the server stops, for which end waits.
func supervise(ctx context.Context, d *daemon.Daemon, log *slog.Logger) (_ supervised, end func()) {
	manager, err := notify.FromEnvironment()
	if err != nil {
		log.WarnContext(ctx, "the service manager cannot be told how the server is", slog.Any("error", err))
	}
	s := supervised{d, manager}
	living, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the stop is a part of it
	if manager == nil {
		return s, cancel
	}
	go s.tellLife(living)
	told := make(chan struct{})
	go func() {
		defer close(told)
		<-ctx.Done()
		manager.Stopping("the requests under way are answered")
	}()
	return s, func() {
		cancel()
		if ctx.Err() != nil { // a server without requests may have stopped before that was told
			<-told
		}
	}
}

func (s supervised) tellLife(ctx context.Context) {
	if s.live(ctx) == nil {
		s.manager.Ready(s.status())
	}
	s.manager.Watch(ctx, s.live)
}

// live asks the internal listener, as who watches the server from the outside does.
func (s supervised) live(ctx context.Context) error {
	address, err := listenerURL(s.InternalAddr().String())
	if err == nil {
		_, err = askHealth(ctx, address+provider.LivePath)
	}
	return err
}

func (s supervised) status() string {
	return fmt.Sprintf("serving at %s, internally at %s", s.PublicAddr(), s.InternalAddr())
}

// reloaded tells what has become of a reload, which never ends the service.
func (s supervised) reloaded(err error) {
	status := s.status()
	if err != nil {
		status += "; the last reload failed, see the log"
	}
	s.manager.Ready(status)
}
