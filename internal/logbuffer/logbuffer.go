// Package logbuffer is a log that keeps nobody waiting: its lines are put together in memory, and written behind the
// back of those who log.
package logbuffer

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// delay is how long a line waits at most for others to be written with it, while the output keeps up.
	delay = 100 * time.Millisecond

	// worthIt is how many bytes of lines are written before the delay is over.
	worthIt = 32 << 10

	// most is how many bytes of lines wait while the output is busy; as many are with the output.
	most = 1 << 20

	// patience is how long Close waits for an output that takes nothing.
	patience = 5 * time.Second
)

// A Handler writes the lines of a [slog.JSONHandler], or of a [slog.TextHandler], in the order in which they are logged.
// Nobody who logs waits for the output: when more than a megabyte waits, lines are dropped, and another tells how many.
// Lines from the level of warnings on are written at once, others within a tenth of a second.
//
// Make it with [New], and close it when everything has been logged: a process that ends in another way may lose the
// lines of a tenth of a second.
type Handler struct {
	buffer *buffer
	json   slog.Handler // this and text write any record to the buffer
	text   slog.Handler
	plain  bool // json adds nothing to a record
}

// New returns a handler for the level of information and above, which writes JSON. [Handler.Set] changes both.
func New(output io.Writer) *Handler {
	b := &buffer{output: output, first: make(chan struct{}, 1), urgent: make(chan struct{}, 1), ended: make(chan struct{})}
	go b.run()
	options := &slog.HandlerOptions{Level: &b.level}
	return &Handler{b, slog.NewJSONHandler(b, options), slog.NewTextHandler(b, options), true}
}

// Set changes which lines are written from now on, and whether they are text for people to read. It counts for all handlers
// that were made of this one too.
func (h *Handler) Set(level slog.Level, text bool) {
	h.buffer.level.Set(level)
	h.buffer.text.Store(text)
}

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.buffer.level.Level()
}

// Handle implements [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if err := h.write(ctx, r); err != nil {
		return err
	}
	if r.Level >= slog.LevelWarn {
		notify(h.buffer.urgent)
	}
	return nil
}

// Dropped is how many lines were dropped so far, which the output did not take in time.
func (h *Handler) Dropped() uint64 {
	h.buffer.mu.Lock()
	defer h.buffer.mu.Unlock()
	return h.buffer.total
}

func (h *Handler) write(ctx context.Context, r slog.Record) error {
	if h.buffer.text.Load() {
		return h.text.Handle(ctx, r)
	}
	if !h.plain {
		return h.json.Handle(ctx, r)
	}
	var space [1 << 10]byte
	line, ok := appendRecord(space[:0], r)
	if !ok {
		return h.json.Handle(ctx, r)
	}
	h.buffer.add(line)
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.buffer, h.json.WithAttrs(attrs), h.text.WithAttrs(attrs), false}
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.buffer, h.json.WithGroup(name), h.text.WithGroup(name), false}
}

// Close writes what has been logged, for which it waits some seconds if the output takes nothing. What comes afterwards
// is not written.
func (h *Handler) Close() {
	b := h.buffer
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	notify(b.first)
	notify(b.urgent)
	select {
	case <-b.ended:
	case <-time.After(patience):
	}
}

// A buffer holds lines until they are written.
type buffer struct {
	output        io.Writer
	first, urgent chan struct{} // there is a line; it must not wait
	ended         chan struct{} // run has
	level         slog.LevelVar
	text          atomic.Bool // and no JSON

	mu      sync.Mutex // guards what follows
	lines   []byte
	dropped int
	total   uint64 // dropped so far
	closed  bool
}

// Write implements [io.Writer] for whole lines.
func (b *buffer) Write(line []byte) (int, error) {
	b.add(line)
	return len(line), nil
}

func (b *buffer) add(line []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return
	case len(b.lines)+len(line) > most:
		b.dropped++
		b.total++
		return
	case len(b.lines) == 0:
		notify(b.first)
	case len(b.lines) > worthIt:
		notify(b.urgent)
	}
	b.lines = append(b.lines, line...)
}

// notify does not wait for one that was told already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes lines until the buffer is closed and empty.
func (b *buffer) run() {
	defer close(b.ended)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	var written []byte // whose space is used again
	for {
		<-b.first
		timer.Reset(delay)
		select {
		case <-b.urgent:
		case <-timer.C:
		}
		b.mu.Lock()
		lines, dropped, closed := b.lines, b.dropped, b.closed
		b.lines, b.dropped = written[:0], 0
		b.mu.Unlock()
		_, _ = b.output.Write(lines) // nobody is left who could be told
		if dropped > 0 {
			var own slog.Handler = slog.NewJSONHandler(b.output, nil)
			if b.text.Load() {
				own = slog.NewTextHandler(b.output, nil)
			}
			slog.New(own).Warn("lines of the log were dropped, which its output did not take in time", slog.Int("lines", dropped))
		}
		if closed {
			return
		}
		if written = lines; cap(written) > 2*worthIt { // as after a time in which the output was slow
			written = nil
		}
	}
}
