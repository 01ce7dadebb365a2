// Package audit keeps a trail of what a server decided and what was done to it: a file of JSON Lines that is only ever
// appended to, in which each entry holds the hash of the one before.
//
// An entry is written before the request is answered. With [Config.Required] it is also on the disk by then, and no token is
// given without: the file has a line for every token, whatever happens to the process, the disk or the machine. Without it, a
// trail that cannot be written is told in the log, and requests are answered.
//
// Every token, and every other decision about a certificate whose holder has signed, has an entry of its own. What anybody can
// cause without one is bounded, and so is what somebody asks too often: of each rule a hundred entries in ten seconds, and one
// that says how many more there were.
//
// The hashes show that an entry was changed, taken out or put in, to whoever has a later hash from elsewhere; the server
// writes its last one to the log when it opens and closes a file. They keep nobody who can write the file from making all of
// it anew. [Verify] checks them.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/waybill-token/waybill/internal/logsum"
)

const (
	// maxWait is how long a request waits for its entry.
	maxWait = 2 * time.Second
	// retry is how often a file that could not be written is tried again.
	retry = time.Second
	// closeTimeout is how long is waited for what is still to be written.
	closeTimeout = 5 * time.Second
	// maxBatch is how many entries are written at once.
	maxBatch = 256
)

// Config is where a trail is kept.
type Config struct {
	File     string   // its path
	Stdout   *os.File // written to instead when it is set
	Required bool     // tokens are kept back that it does not have
	Log      *slog.Logger
}

// A Trail is written by one process. It is safe for concurrent use.
type Trail struct {
	config   Config
	log      *logsum.Log     // of failures
	ctx      context.Context // of what is logged, which belongs to no request
	unproven *logsum.Log     // decisions that anybody can cause, which become entries
	lock     *flock.Flock
	entries  chan *pending
	reopen   chan chan error
	stop     chan struct{}
	stopped  chan struct{}

	// What only run uses.
	file *os.File // nil: it must be opened again
	last chain

	mu    sync.Mutex
	stats Stats
}

// Stats tells how a trail is doing, for health and metrics.
type Stats struct {
	Entries  uint64    // written since it was opened
	Failures uint64    // entries that could not be written
	Written  time.Time // when the last one was
	Err      error     // why none can be written now
}

// A pending entry is one that is to be written.
type pending struct {
	Entry
	done chan error
}

// ErrInUse says that another process writes to the file.
var ErrInUse = errors.New("another process writes to this audit trail")

// Open opens a trail, or begins one. The caller must close it.
func Open(c Config) (*Trail, error) {
	t := &Trail{
		config: c, log: logsum.New(c.Log), ctx: context.Background(), entries: make(chan *pending, maxBatch), reopen: make(chan chan error),
		stop: make(chan struct{}), stopped: make(chan struct{}), last: chain{hash: noHash()},
	}
	t.unproven = logsum.New(slog.New(sums{t}))
	if c.Stdout == nil {
		t.lock = flock.New(lockPath(c.File))
		if locked, err := t.lock.TryLock(); err != nil {
			return nil, err
		} else if !locked {
			return nil, fmt.Errorf("%s: %w", c.File, ErrInUse)
		}
	}
	switch err := t.open(); {
	case err == nil:
		t.tell("the audit trail is open")
	case c.Required || t.file == nil: // it is not a file that could be written if there were room
		return nil, errors.Join(err, t.giveUp(), t.unlock())
	default:
		t.note(0, errors.Join(err, t.giveUp()))
	}
	go t.run()
	return t, nil
}

func (t *Trail) unlock() error {
	if t.lock == nil {
		return nil
	}
	return t.lock.Close()
}

// open opens the file, and enters that it did: behind what was there, or as the beginning of a file.
func (t *Trail) open() error {
	if t.config.Stdout != nil {
		t.file = t.config.Stdout
		return t.write([]*pending{{Entry: Entry{Event: Opened}}}, true)
	}
	file, err := openFile(t.config.File, t.config.Required)
	if err != nil {
		return err
	}
	found, err := readEnd(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	t.file = file
	switch {
	case found.chain == (chain{}):
	case t.last.number == 0 || found.holds(t.last):
		t.last = found.chain
	default: // and the chain goes on behind what was written, so that Verify tells
		t.config.Log.Error("the audit trail lacks what was written to it: entries were taken out of its file, or it is another one",
			slog.String("file", t.config.File), slog.Uint64("number", t.last.number), slog.String("hash", t.last.hash))
	}
	entry := Entry{Event: Opened}
	if len(found.torn) > 0 {
		entry.Torn, entry.TornSHA256 = len(found.torn), sum(found.torn)
	}
	return t.write([]*pending{{Entry: entry}}, found.ended)
}

// tell writes to the log where the trail stands, so that its hash is known elsewhere too.
func (t *Trail) tell(message string) {
	t.config.Log.Info(message, slog.String("file", t.config.File), slog.Uint64("number", t.last.number), slog.String("hash", t.last.hash)) //nolint:sloglint // constants of the callers
}

// run writes what comes until the trail is closed.
func (t *Trail) run() {
	defer close(t.stopped)
	ticker := time.NewTicker(retry)
	defer ticker.Stop()
	for {
		select {
		case first := <-t.entries:
			t.append(t.batch(first))
		case answer := <-t.reopen:
			answer <- t.exchange()
		case <-ticker.C:
			t.look()
		case <-t.stop:
			for len(t.entries) > 0 {
				t.append(t.batch(<-t.entries))
			}
			return
		}
	}
}

// look opens the file again if it was given up, or was removed.
func (t *Trail) look() {
	if t.file != nil && t.file != t.config.Stdout {
		if err := removed(t.file); err != nil {
			t.note(0, errors.Join(err, t.giveUp()))
		}
	}
	if t.file == nil {
		t.append(nil)
	}
}

// giveUp closes the file, which is to be opened again.
func (t *Trail) giveUp() (err error) {
	if t.file != nil && t.file != t.config.Stdout {
		err = t.file.Close()
	}
	t.file = nil
	return err
}

// batch is an entry with all that wait behind it.
func (t *Trail) batch(first *pending) []*pending {
	batch := []*pending{first}
	for len(batch) < maxBatch {
		select {
		case next := <-t.entries:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// append writes entries, and tells those who wait. A file that failed is opened again first: what it holds is read, not guessed.
func (t *Trail) append(batch []*pending) {
	var err error
	if t.file == nil {
		err = t.open()
	}
	if err == nil && len(batch) > 0 {
		err = t.write(batch, true)
	}
	if err != nil {
		err = errors.Join(err, t.giveUp())
	}
	t.note(len(batch), err)
	for _, p := range batch {
		p.done <- err
	}
}

// write appends entries to the file, behind the end of a line that has none.
func (t *Trail) write(batch []*pending, ended bool) error {
	var text []byte
	if !ended {
		text = append(text, '\n')
	}
	last := t.last
	for _, p := range batch {
		p.Number, p.Previous = last.number+1, last.hash
		if p.Time.IsZero() {
			p.Time = time.Now()
		}
		p.Time = p.Time.UTC()
		line, hash, err := p.line()
		if err != nil {
			return err
		}
		text = append(text, line...)
		last = chain{p.Number, hash}
	}
	if _, err := t.file.Write(text); err != nil {
		return err
	}
	if t.config.Stdout != nil {
		t.last = last
		return nil
	}
	if t.config.Required {
		if err := t.file.Sync(); err != nil {
			return err
		}
	}
	if err := removed(t.file); err != nil {
		return err
	}
	t.last = last
	return nil
}

// note counts, and tells the log of a trail that cannot be written.
func (t *Trail) note(entries int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.stats.Entries += uint64(entries)
		t.stats.Written = time.Now()
	} else {
		t.stats.Failures += uint64(entries)
		t.log.Lasting(t.ctx, slog.LevelError, "the audit trail cannot be written", logsum.Reason(err),
			func() []slog.Attr {
				return []slog.Attr{slog.Any("error", err), slog.Bool("tokens", !t.config.Required)}
			})
	}
	if err == nil && t.stats.Err != nil {
		t.config.Log.Info("the audit trail is written again", slog.Any("reason", t.stats.Err))
	}
	t.stats.Err = err
}

// Stats returns the present numbers.
func (t *Trail) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// Required reports whether tokens are kept back while the trail cannot be written.
func (t *Trail) Required() bool { return t.config.Required }

// errSlow is that an entry is not there in time. It may still be written: then the trail tells of a token that nobody got.
var errSlow = errors.New("the disk does not take the entry in time")

// put has an entry written, and waits for it. The error is nil when the trail is not required.
func (t *Trail) put(e Entry) error {
	p := &pending{Entry: e, done: make(chan error, 1)}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	var err error
	select {
	case t.entries <- p:
		select {
		case err = <-p.done:
		case <-t.stopped:
			err = errors.New("the trail is closed")
		case <-timer.C:
			err = errSlow
			t.note(0, err)
		}
	case <-t.stopped:
		err = errors.New("the trail is closed")
	case <-timer.C:
		err = errSlow
		t.note(1, err)
	}
	if err != nil && t.config.Required {
		return fmt.Errorf("audit trail: %w", err)
	}
	return nil
}

// Reopen opens the file at the path, and goes on there with the chain: for whoever has moved the one before away, as logrotate
// does. When it cannot be opened the one before stays in use.
func (t *Trail) Reopen() error {
	if t.config.Stdout != nil {
		return nil
	}
	answer := make(chan error, 1)
	select {
	case t.reopen <- answer:
		return <-answer
	case <-t.stopped:
		return nil
	}
}

func (t *Trail) exchange() error {
	before := t.file
	if before != nil {
		opened, err := before.Stat()
		found, missing := os.Stat(t.config.File)
		if err == nil && missing == nil && os.SameFile(opened, found) {
			return nil
		}
	}
	last := t.last
	t.file = nil
	if err := t.open(); err != nil {
		err = errors.Join(err, t.giveUp())
		t.file, t.last = before, last // which stays in use, if it was
		return fmt.Errorf("audit trail: %w", err)
	}
	t.note(0, nil)
	t.tell("the audit trail goes on in another file")
	if before != nil {
		return before.Close()
	}
	return nil
}

// Close writes what is to be written, and gives the file up.
func (t *Trail) Close() error {
	t.unproven.Close()
	close(t.stop)
	t.log.Close()
	select {
	case <-t.stopped:
	case <-time.After(closeTimeout): // a disk that hangs must not keep the server from its end
		return errors.Join(fmt.Errorf("audit trail: %w", errSlow), t.unlock())
	}
	t.tell("the audit trail is closed")
	var err error
	if t.file != nil && t.config.Stdout == nil {
		err = t.file.Sync()
	}
	return errors.Join(err, t.giveUp(), t.unlock())
}
