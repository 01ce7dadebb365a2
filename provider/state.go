package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/durable"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/replay"
	store "github.com/waybill-token/waybill/state"
)

// A state is what a provider must not forget: it stays when the configuration is exchanged. This process alone knows it, and
// it outlives it in the data folder; or a store has it, which others share.
type state struct {
	folder  *durable.Dir // in which the others have their own
	used    usedStore    // assertions
	revoked accesstoken.TokenRevocations

	memory  *memoryState // nil with
	shared  *store.Store // this one
	closers []func() error
}

// A usedStore says from when on it knows what was used.
type usedStore interface {
	replay.Store
	AcceptsIssuedFrom() time.Time
}

// A memoryState is that of this process.
type memoryState struct {
	used    *replay.Memory
	revoked *accesstoken.MemoryTokenRevocations
}

// openState opens all of it, or nothing.
func openState(c *Config) (_ *state, err error) {
	s := &state{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err = os.MkdirAll(c.Data, 0o700); err == nil {
		s.folder, err = durable.OpenDir(c.Data)
	}
	if err == nil {
		s.closers = append(s.closers, s.folder.Close)
		err = durable.CheckLocks(c.Data)
	}
	if err != nil {
		return nil, c.problem("Data", err)
	}
	open := s.openMemory
	if c.State.URL != (store.URL{}) {
		open = s.openShared
	}
	if err = open(c); errors.Is(err, replay.ErrInUse) {
		err = c.problem("Data", fmt.Errorf("%w; stop that one, or name another folder", err))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *state) openMemory(c *Config) error {
	served, err := c.folder().HasServed() // before anything is made
	if err != nil {
		return c.problem("Tokens.Keys", err)
	}
	used, err := replay.Open(replay.Config{Dir: c.folder().Replay(), Leeway: c.Leeway, NoHistory: c.NoHistory})
	if err != nil {
		return fmt.Errorf("replay memory: %w", err)
	}
	s.closers = append(s.closers, used.Close)
	revoked, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: c.folder().Revocations(), NoHistory: !served})
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	s.closers = append(s.closers, revoked.Close)
	s.memory = &memoryState{used, revoked}
	s.used, s.revoked = used, revoked
	return nil
}

// openShared has the store run until the state is closed. NoHistory counts for nothing: others may have used the store.
func (s *state) openShared(c *Config) error {
	lock, err := replay.Vacate(c.folder().Replay())
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock.Close)
	shared := c.storeConfig()
	if shared.Revoked, err = accesstoken.VacateTokenRevocations(c.folder().Revocations()); err != nil {
		return err
	}
	if s.shared, err = store.Open(context.Background(), shared); err != nil {
		return c.problem("State", err)
	}
	s.used, s.revoked = s.shared, s.shared.Revocations()
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.shared.Run(running) }()
	s.closers = append(s.closers, func() error {
		stop()
		return <-done
	})
	return nil
}

func (c *Config) storeConfig() store.Config {
	return store.Config{URL: c.State.URL, Party: c.Party, Leeway: c.Leeway, WaitReplicas: c.State.WaitReplicas, Log: c.Log}
}

// logRecoveryErrors says what could not be recovered at the start, and what that costs.
func (s *state) logRecoveryErrors(ctx context.Context, log *slog.Logger) {
	if s.memory == nil {
		return // the store can change at any time, and is watched
	}
	if err := s.memory.used.RecoveryError(); err != nil {
		log.WarnContext(ctx, "assertions issued before this start get no token, as they may have been used; until tokens are given, /readyz is 503",
			slog.Any("reason", err), slog.Time("issued_before", s.memory.used.AcceptsIssuedFrom()), slog.Time("tokens_from", s.tokensFrom()))
	}
	if err := s.memory.revoked.RecoveryError(); err != nil {
		log.WarnContext(ctx, "old access tokens are refused, as they may have been revoked", slog.Any("reason", err))
	}
}

// lost is an error when the data folder, or one in it, is not at its path any more, or can have become
// that of another server.
func (s *state) lost() error {
	folders := []interface{ Lost() error }{s.folder}
	if s.memory != nil {
		folders = append(folders, s.memory.used, s.memory.revoked)
	}
	for _, folder := range folders {
		if err := folder.Lost(); err != nil {
			return err // one cause is one problem
		}
	}
	return nil
}

func (s *state) close() error {
	var errs []error
	for _, closePart := range slices.Backward(s.closers) {
		errs = append(errs, closePart())
	}
	return errors.Join(errs...)
}

// tokensFrom is when an assertion that is issued then gets a token, after a start, or a loss of the store, at which nobody
// knew what was used. Its iat says the second only.
func (s *state) tokensFrom() time.Time {
	from := s.used.AcceptsIssuedFrom()
	return from.Add(time.Second - 1).Truncate(time.Second).UTC()
}

// problem is why the store cannot be used.
func (s *state) problem() error {
	if s.shared == nil {
		return nil
	}
	return s.shared.Problem()
}

// recoveryError says why tokens are refused that nobody may have revoked.
func (s *state) recoveryError() error {
	if s.memory == nil {
		return nil
	}
	return s.memory.revoked.RecoveryError()
}

// floor is up to when used assertions have been forgotten. A store forgets by a clock of its own.
func (s *state) floor() time.Time {
	if s.memory == nil {
		return time.Time{}
	}
	return s.memory.used.Floor()
}

// How often the watches check.
const (
	clockInterval  = time.Second
	folderInterval = 10 * time.Second
)

// A watch is a state of the machine that is checked at intervals. When it goes wrong and when that is over are logged;
// in between it is a problem of /readyz.
type watch struct {
	key  string // of the problem in /readyz
	cost string // what it means for those who run the server; empty: the problem says it
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	problem error
	logged  time.Time // when the log was last told of it
}

// Err is what is wrong, or nil.
func (w *watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problem
}

// record takes the outcome of a check; nil: all is well.
func (w *watch) record(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && w.problem != nil:
		w.log.InfoContext(ctx, "a problem is over", slog.String("key", w.key), slog.Any("reason", w.problem))
	case err != nil && w.isNews(err):
		w.logged = time.Now()
		w.log.WarnContext(ctx, "a problem was found", slog.String("key", w.key), slog.Any("reason", err), slog.String("cost", w.cost))
	}
	w.problem = err
}

// repeated is after how long a problem that has other words each time is logged again.
const repeated = 10 * time.Minute

// isNews reports whether a problem should be logged. The words of one that goes on may differ each time, by the port of a
// connection.
func (w *watch) isNews(err error) bool {
	switch {
	case w.problem == nil || !logsum.Same(w.problem, err):
		return true
	case w.problem.Error() == err.Error():
		return false
	}
	return time.Since(w.logged) >= repeated
}

// every calls check at each interval until ctx is done, and then returns nil.
func every(ctx context.Context, interval time.Duration, check func(context.Context)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			check(ctx)
		}
	}
}

// watchStore sees whether the shared store, if there is one, can be used.
func (p *Provider) watchStore(ctx context.Context) { p.store.record(ctx, p.state.problem()) }

// watchFolders sees whether the data folder and those in it are still the ones that were opened. The keys
// see to theirs, which other servers may share.
func (p *Provider) watchFolders(ctx context.Context) { p.folders.record(ctx, p.state.lost()) }

const (
	// clockStep is from when on a difference is a step. NTP moves a clock smoothly by less, and a
	// leap second is one.
	clockStep = 2 * time.Second

	// stepShown is for how long a step is a problem that costs nothing any more.
	stepShown = 5 * time.Minute
)

// A clockWatch sees steps of this machine's clock, by comparing it with the time that passes.
type clockWatch struct {
	*watch

	read  func() (wall time.Time, passed time.Duration)
	floor func() time.Time // up to which used assertions have been forgotten

	wall       time.Time     // at the last check
	passed     time.Duration // at the last check
	step       time.Duration // the last one
	total      time.Duration // of all steps that are shown
	shownUntil time.Duration // the value of passed until which they are
}

func newClockWatch(floor func() time.Time, log *slog.Logger) *clockWatch {
	start := time.Now()
	c := &clockWatch{
		watch: &watch{key: "clock", log: log},
		floor: floor,
		read: func() (time.Time, time.Duration) {
			now := time.Now()
			return now.Round(0), now.Sub(start)
		},
	}
	c.wall, c.passed = c.read()
	return c
}

// check compares. It must be called often: several steps between two checks are one.
func (c *clockWatch) check(ctx context.Context) {
	floor := c.floor() // before the clock is read: it never runs ahead of one that is not set back
	wall, passed := c.read()
	if step := wall.Sub(c.wall) - (passed - c.passed); step.Abs() >= clockStep {
		c.step, c.shownUntil = step.Round(time.Millisecond), passed+stepShown
		c.total += step
	}
	c.wall, c.passed = wall, passed
	c.record(ctx, c.problem(floor))
}

// problem is what the steps so far mean. They are over when the clock is right again by its own
// account, or some time has passed, and no assertion is refused for them.
func (c *clockWatch) problem(floor time.Time) error {
	behind := floor.After(c.wall)
	if !behind && (c.total.Abs() < clockStep || c.passed >= c.shownUntil) {
		c.step, c.total = 0, 0
		return nil
	}
	what := fmt.Sprintf("it went forward by %s: it was set, or the machine was suspended; if it is wrong now, assertions are refused as expired", c.step)
	switch {
	case c.step < 0:
		what = fmt.Sprintf("it was set back by %s; if it is wrong now, assertions are refused as issued in the future", -c.step)
	case c.step == 0:
		what = "it is behind what it was before the start"
	}
	if behind {
		c.shownUntil = c.passed // it is over when the clock has come to the floor
		what += fmt.Sprintf("; until %[1]s, assertions that end before %[1]s get no token, as their like have been forgotten", floor.UTC().Format(time.RFC3339))
	}
	return errors.New(what)
}
