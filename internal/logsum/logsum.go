// Package logsum limits the log of events that strangers can cause, or that come as often as requests do: the first
// ones are written in full, and then how many more there were.
package logsum

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Interval is after how long events are summed up.
	Interval = 10 * time.Second

	// maxFull events of a kind are written in full in each interval, and maxFullWithID where each has an identifier that
	// somebody may ask for.
	maxFull, maxFullWithID = 5, 100

	// maxKinds bounds what is counted apart.
	maxKinds = 64
)

// A Log sums up events by kind: their message, level and labels. It is safe for concurrent use.
type Log struct {
	log *slog.Logger
	ctx context.Context // of the sums, which belong to no request

	mu     sync.Mutex // guards what follows
	kinds  map[kindKey]*kind
	closed bool
}

// New returns a Log that writes to another; nil means silence.
func New(log *slog.Logger) *Log {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Log{log: log, ctx: context.Background(), kinds: make(map[kindKey]*kind)}
}

// A kind is what is counted together.
type kind struct {
	level   slog.Level
	message string
	labels  []slog.Attr
	lasting bool // it is summed up when no event has come for an interval, and not in each

	began, last time.Time
	full, more  int // events written in full, and others, since it began
	correlation string
	timer       *time.Timer
}

// Some writes the first few events of a kind in each interval, and at its end how many more there were. The rest
// of the attributes is asked for when an event is written in full.
func (l *Log) Some(ctx context.Context, level slog.Level, message string, labels []slog.Attr, rest func() []slog.Attr) {
	if l.count(kind{level: level, message: message, labels: labels}, maxFull) == nil {
		l.write(ctx, level, message, slices.Concat(labels, rest()))
	}
}

// Lasting writes the first event of a kind, and how many more there were when none has come for an interval: it is for
// what goes on until its cause is removed.
func (l *Log) Lasting(ctx context.Context, level slog.Level, message string, labels []slog.Attr, rest func() []slog.Attr) {
	if l.count(kind{level: level, message: message, labels: labels, lasting: true}, 1) == nil {
		l.write(ctx, level, message, slices.Concat(labels, rest()))
	}
}

// Failure returns an identifier by which an event is found in the log: its own when the event is to be written in
// full, by the caller, and otherwise that of the line that tells how many more there were.
func (l *Log) Failure(level slog.Level, message string, labels []slog.Attr) (correlation string, full bool) {
	if summed := l.count(kind{level: level, message: message, labels: labels, correlation: rand.Text()}, maxFullWithID); summed != nil {
		return summed.correlation, false
	}
	return rand.Text(), true
}

// maxReason bounds a cause by which events are counted, in bytes.
const maxReason = 160

// Reason is a label: the innermost cause of an error, which is the same for all requests that an outage meets,
// whatever they asked for. Of several causes it is the first.
func Reason(err error) []slog.Attr {
	for err != nil {
		next := errors.Unwrap(err)
		if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
			next = joined.Unwrap()[0]
		}
		if next == nil {
			text := err.Error()
			if len(text) > maxReason {
				text = strings.ToValidUTF8(text[:maxReason], "") + "…"
			}
			return []slog.Attr{slog.String("reason", text)}
		}
		err = next
	}
	return nil
}

// Same reports whether two errors have the same innermost cause. What stands around it may differ each time: the port of a
// connection, or the request that failed.
func Same(a, b error) bool {
	return slices.EqualFunc(Reason(a), Reason(b), slog.Attr.Equal)
}

// Handler returns a handler for what the standard library logs, in words of its own: of each ten seconds the first few, at
// the level for debugging.
func (l *Log) Handler(message string) slog.Handler { return standardHandler{l, message} }

type standardHandler struct {
	log     *Log
	message string
}

// Enabled implements [slog.Handler].
func (h standardHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.log.log.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h standardHandler) Handle(ctx context.Context, r slog.Record) error {
	h.log.Some(ctx, slog.LevelDebug, h.message, nil, func() []slog.Attr { return []slog.Attr{slog.String("error", r.Message)} })
	return nil
}

// WithAttrs implements [slog.Handler]. There are none.
func (h standardHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements [slog.Handler]. There are none.
func (h standardHandler) WithGroup(string) slog.Handler { return h }

// Milliseconds is a duration as the log has it, with the microsecond as its last digit. The key says the unit: duration_ms.
func Milliseconds(key string, d time.Duration) slog.Attr {
	return slog.Float64(key, float64(d.Microseconds())/1000)
}

// count returns nil for an event to be written in full, and otherwise its kind, which begins with it if there is none.
func (l *Log) count(event kind, most int) *kind {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	key := event.key()
	k := l.kinds[key]
	if k == nil && len(l.kinds) >= maxKinds {
		event.labels = nil
		key = event.key()
		k = l.kinds[key]
	}
	if k == nil {
		k = &event
		k.began = time.Now()
		k.timer = time.AfterFunc(Interval, func() { l.endInterval(key, k) })
		l.kinds[key] = k
	}
	k.last = time.Now()
	if k.full < most {
		k.full++
		return nil
	}
	k.more++
	return k
}

// A kindKey is the same for all events of a kind.
type kindKey struct {
	level           slog.Level
	message, labels string
}

func (k *kind) key() kindKey {
	values := make([]string, len(k.labels))
	for i, a := range k.labels {
		values[i] = a.Value.String()
	}
	return kindKey{k.level, k.message, strings.Join(values, "\x00")}
}

// endInterval sums up a kind when an interval has passed.
func (l *Log) endInterval(key kindKey, k *kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if wait := Interval - time.Since(k.last); k.lasting && wait > 0 {
		k.timer.Reset(wait)
		return
	}
	delete(l.kinds, key)
	l.sumUp(k)
}

func (l *Log) sumUp(k *kind) {
	if k.more == 0 {
		return
	}
	attrs := append(slices.Clone(k.labels), slog.Int("more", k.more), Milliseconds("within_ms", k.last.Sub(k.began)))
	if k.correlation != "" {
		attrs = append(attrs, slog.String("correlation", k.correlation))
	}
	l.write(l.ctx, k.level, k.message, attrs)
}

func (l *Log) write(ctx context.Context, level slog.Level, message string, attrs []slog.Attr) {
	l.log.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // constants of the callers
}

// Close sums up what has been counted. What comes afterwards is written in full.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	for _, k := range l.kinds {
		k.timer.Stop()
		l.sumUp(k)
	}
	clear(l.kinds)
}
