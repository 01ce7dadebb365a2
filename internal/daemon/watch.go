package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// How often is looked.
const (
	clockInterval  = time.Second
	folderInterval = 10 * time.Second
)

// A watch is a state of the machine that is looked at again and again. The log is told when it goes wrong
// and when that is over, and /readyz in between.
type watch struct {
	key  string // of the problem in /readyz
	cost string // what it means for those who run the server; empty: the problem says it
	log  *slog.Logger

	mu      sync.Mutex
	problem error
}

// Err is what is wrong, or nil.
func (w *watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problem
}

// tell notes what was seen.
func (w *watch) tell(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && w.problem != nil:
		w.log.InfoContext(ctx, "a problem is over", slog.String("key", w.key), slog.Any("reason", w.problem))
	case err != nil && (w.problem == nil || w.problem.Error() != err.Error()):
		w.log.WarnContext(ctx, "a problem was found", slog.String("key", w.key), slog.Any("reason", err), slog.String("cost", w.cost))
	}
	w.problem = err
}

// watches are what a daemon looks at while it runs.
type watches struct {
	data  *watch
	clock *clockWatch
}

func newWatches(m *memory, log *slog.Logger) watches {
	return watches{
		data:  &watch{key: "data", cost: "requests are answered as before, but a restart forgets what is used and revoked from now on", log: log},
		clock: newClockWatch(m.used.Floor, log),
	}
}

// watch looks until ctx is done.
func (d *Daemon) watch(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return every(ctx, clockInterval, d.watches.clock.look) })
	group.Go(func() error { return every(ctx, folderInterval, d.watchFolders) })
	return group.Wait()
}

// every calls look at each interval until ctx is done, and then returns nil.
func every(ctx context.Context, interval time.Duration, look func(context.Context)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			look(ctx)
		}
	}
}

// watchFolders sees whether the data folder and those in it are still the ones that were opened. The keys
// see to theirs, which other servers may share.
func (d *Daemon) watchFolders(ctx context.Context) { d.watches.data.tell(ctx, d.memory.lost()) }

// readiness tells what the watches have seen.
func (w watches) readiness() []string {
	var problems []string
	for _, seen := range []*watch{w.data, w.clock.watch} {
		if err := seen.Err(); err != nil {
			problems = append(problems, seen.key+": "+err.Error())
		}
	}
	return problems
}

// keepsFolders is an error when a new service would begin with no keys of before, because their folder is
// not there any more: then no token that was issued so far would count.
func (d *Daemon) keepsFolders() error {
	if err := d.memory.lost(); err != nil {
		return fmt.Errorf("data: %w; put it back, or restart the server", err)
	}
	if _, err := os.Stat(keysFolder(d.current.Load().config)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tokens.keys: %w; put it back, or restart the server", err)
	}
	return nil
}
