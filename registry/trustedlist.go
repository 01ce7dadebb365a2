package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	// retryPause is the one after a failed update of the trusted list. It does not grow, so that a registry that
	// is well again is used at once.
	retryPause = time.Second
	// outageLogInterval is how often the log is told of an outage.
	outageLogInterval = 10 * time.Minute
	// maxTimer bounds one wait for the next update, after which the clocks are looked at again: a timer stands
	// still while the machine sleeps.
	maxTimer = time.Minute
)

// A TrustedListSource answers with what a trusted list grants, as [Remote] does.
type TrustedListSource interface {
	TrustedList(ctx context.Context) (trust.Anchors, error)
}

// A PersistentListSource is a [TrustedListSource] that keeps the list over a restart, as [Remote] does. A
// [TrustedList] looks for it in its source.
type PersistentListSource interface {
	// RecallTrustedList returns the list that it last answered with, and since when that may be out of
	// date; nil if there is none to be believed. It asks nobody for the list.
	RecallTrustedList(ctx context.Context) (trust.Anchors, time.Time)
}

// TrustedListConfig is how a [TrustedList] is kept. Every field that is not marked optional must be set.
type TrustedListConfig struct {
	// Source is where the list comes from.
	Source TrustedListSource
	// Own are the anchors of our own choice. They are trusted whatever the list says.
	Own trust.Anchors
	// Clients judges the chains of clients: it gets the own anchors and those that are
	// granted. It must not be the one that judges the registry's answers.
	Clients *trust.Validator
	// Refresh is how often the list is asked for; 1 hour is a good value.
	Refresh time.Duration
	// MaxStale is for how long beyond Refresh a list is used while the source is out
	// of reach. Zero: not at all. Optional.
	MaxStale time.Duration
	// Log is told of changes, and when the list cannot be refreshed. Optional.
	Log *slog.Logger
}

// A TrustedList keeps the anchors of a validator up to date with a registry's trusted list: an authority that is
// withdrawn is trusted until the next refresh. A list that cannot be refreshed is used until it is Refresh plus
// MaxStale old; from then on, and before the first one came, only our own anchors are trusted, and
// [TrustedList.InForce] says so. Its age goes by the monotonic clock and by the wall clock, whichever says more.
type TrustedList struct {
	config   TrustedListConfig
	updating sync.Mutex // one update at a time, so that an older list never replaces a newer one

	mu       sync.Mutex    // guards what follows
	granted  trust.Anchors // nil: no list is in force
	fetched  moment        // when the list was asked for
	updated  moment        // when the last update ended that nobody gave up
	err      error         // of the last update
	failures int           // in a row
	logged   moment        // when the log was last told of them
}

// NewTrustedList checks the configuration. Nothing is asked before [TrustedList.Recall], [TrustedList.Run]
// or [TrustedList.Update], and the validator is left as it is.
func NewTrustedList(c TrustedListConfig) (*TrustedList, error) {
	switch {
	case c.Source == nil || c.Clients == nil:
		return nil, errors.New("registry: trusted list: Source and Clients must be set")
	case len(c.Own) == 0:
		return nil, errors.New("registry: trusted list: no anchors of our own, by which the registry is believed")
	case c.Refresh <= 0 || c.MaxStale < 0:
		return nil, errors.New("registry: trusted list: Refresh must be more than nothing, and MaxStale not less")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Own = maps.Clone(c.Own)
	return &TrustedList{config: c}, nil
}

// Run updates the list at once and then as often as configured, each second after a failure, until ctx is done, and
// then returns nil. An update that came due while the machine slept is made within a minute.
func (l *TrustedList) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		l.Recall(ctx)
		_ = l.Update(ctx) // which logs it and keeps it in the stats
		for left := l.untilDue(); left > 0 && ctx.Err() == nil; left = l.untilDue() {
			timer := time.NewTimer(min(left, maxTimer))
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
	return nil
}

// Update asks for the list and puts it in force. On an error, of which the log is told every ten minutes,
// the present one stays in force until it is too old.
func (l *TrustedList) Update(ctx context.Context) error {
	l.updating.Lock()
	defer l.updating.Unlock()
	began := time.Now()
	granted, err := l.config.Source.TrustedList(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return l.fail(ctx, err)
	}
	l.updated = momentOf(time.Now())
	l.logChanges(ctx, granted)
	l.granted, l.fetched, l.err, l.failures, l.logged = trust.Anchors{}, momentOf(began), nil, 0, moment{}
	maps.Copy(l.granted, granted)
	l.apply()
	return nil
}

// Recall puts a list in force from the time before a restart, while there is no other. [TrustedList.Run] does
// it too; whoever calls it before anybody is answered refuses nobody in the moment between. It asks nobody for the
// list, and takes no longer than it may take to find out whether the registry's seal is revoked.
func (l *TrustedList) Recall(ctx context.Context) {
	source, ok := l.config.Source.(PersistentListSource)
	if !ok || l.InForce() {
		return
	}
	l.updating.Lock()
	defer l.updating.Unlock()
	granted, asOf := source.RecallTrustedList(ctx)
	now := time.Now()
	age := now.Round(0).Sub(asOf.Round(0))
	l.mu.Lock()
	defer l.mu.Unlock()
	if granted == nil || age < 0 || age >= l.config.Refresh+l.config.MaxStale || l.granted != nil {
		return
	}
	l.granted, l.fetched = maps.Clone(granted), moment{steady: now.Add(-age), wall: asOf.Round(0)}
	l.config.Log.InfoContext(ctx, "the trusted list of before the start is in force until there is a newer one", slog.Time("fetched", l.fetched.wall))
	l.apply()
}

// fail notes that there is no new list, and ends the present one when it is too old.
func (l *TrustedList) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("registry: trusted list: %w", ctx.Err())
	}
	l.updated = momentOf(time.Now())
	l.err = err
	l.failures++
	if l.granted != nil && l.usableFor() <= 0 {
		l.granted = nil
		l.apply()
		l.config.Log.ErrorContext(ctx, "the trusted list is too old to be used; only the configured anchors are trusted",
			slog.Time("fetched", l.fetched.wall), slog.Any("error", err))
		return err
	}
	if l.logged.age(time.Now()) < outageLogInterval {
		return err
	}
	l.logged = l.updated
	l.config.Log.WarnContext(ctx, "the trusted list was not refreshed",
		slog.Bool("in_force", l.granted != nil), slog.Time("fetched", l.fetched.wall), slog.Any("error", err))
	return err
}

// usableFor is for how long the list may still be used without a new one.
func (l *TrustedList) usableFor() time.Duration {
	return l.config.Refresh + l.config.MaxStale - l.fetched.age(time.Now())
}

func (l *TrustedList) apply() {
	anchors := maps.Clone(l.config.Own)
	for fingerprint, name := range l.granted {
		if _, own := anchors[fingerprint]; !own {
			anchors[fingerprint] = name
		}
	}
	l.config.Clients.SetAnchors(anchors)
}

func (l *TrustedList) logChanges(ctx context.Context, granted trust.Anchors) {
	for fingerprint, name := range granted {
		if _, before := l.granted[fingerprint]; !before {
			l.config.Log.InfoContext(ctx, "the trusted list grants an authority",
				slog.String("authority", name), slog.String("fingerprint", fingerprint.String()))
		}
	}
	for fingerprint, name := range l.granted {
		if _, still := granted[fingerprint]; !still {
			l.config.Log.WarnContext(ctx, "the trusted list no longer grants an authority",
				slog.String("authority", name), slog.String("fingerprint", fingerprint.String()))
		}
	}
}

// untilDue is how long it is until the next update.
func (l *TrustedList) untilDue() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := l.config.Refresh
	if l.failures > 0 {
		pause = min(pause, retryPause)
		if _, outage := rule.Classify(l.err); outage != nil && errors.Is(outage.Cause, errCircuitOpen) {
			pause = min(pause, retryPause/4) // nobody was asked
		}
	}
	left := pause - l.updated.age(time.Now())
	if l.granted != nil && l.failures > 0 {
		left = min(left, l.usableFor())
	}
	return left
}

// InForce reports whether what the registry grants is known. While it is not, a
// chain that is not trusted might be if the registry could be asked.
func (l *TrustedList) InForce() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.granted != nil
}

// TrustedListStats tells how a [TrustedList] is doing, for health and metrics.
type TrustedListStats struct {
	InForce bool      // what the registry grants is known
	Stale   bool      // it should have been refreshed by now
	Granted int       // authorities on the list in force
	Fetched time.Time // when the list in force, or the last one, was asked for; zero: never
	Err     error     // of the last update; nil when there was none or all went well
}

// Stats returns the present state.
func (l *TrustedList) Stats() TrustedListStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return TrustedListStats{
		InForce: l.granted != nil,
		Stale:   l.granted != nil && l.failures > 0 && l.fetched.age(time.Now()) >= l.config.Refresh,
		Granted: len(l.granted),
		Fetched: l.fetched.wall,
		Err:     l.err,
	}
}
