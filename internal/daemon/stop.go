package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/internal/listen"
)

// ErrCut says that a stop was cut short.
var ErrCut = errors.New("stopped at once, without waiting for the requests under way")

// Cut ends a stop that goes on, or the next one, at once. The state is handed over all the same.
func (d *Daemon) Cut() { d.once.Do(func() { close(d.cut) }) }

// drain says that no more requests should come, goes on for a while, stops taking connections,
// waits for the requests under way, and cuts off what takes too long: a stream through a
// route can be without end.
func (d *Daemon) drain(ctx context.Context, servers []*http.Server) error {
	d.draining.Store(true)
	settings := d.current.Load().config.Listen
	delay := time.NewTimer(settings.ShutdownDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-d.cut:
	}
	ctx, cancel := context.WithTimeout(ctx, settings.Drain)
	defer cancel()
	go func() {
		select {
		case <-d.cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	for i, listener := range []*listen.Listener{d.public, d.internal} {
		err := errors.Join(listener.Retire(ctx), servers[i].Shutdown(ctx))
		if err != nil {
			d.options.Log.WarnContext(ctx, "requests under way were cut off", slog.Any("error", errors.Join(err, servers[i].Close())))
		}
	}
	select {
	case <-d.cut:
		return ErrCut
	default:
		return nil
	}
}

// closing has clients not use their connections again while the server stops, so that none of
// them sends a request at the moment in which its connection is closed. An upgrade has a
// Connection header of its own.
func (d *Daemon) closing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.draining.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
