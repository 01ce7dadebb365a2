package replay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/durable"
)

// The files of a store.
const (
	lockFile      = "replay.lock"
	watermarkFile = "replay.life"
	handOverFile  = "replay.hand-over"
)

// ErrInUse says that a store of this or another process has the folder. Processes that
// serve together need a store that they share.
var ErrInUse = durable.ErrInUse

// InUse reports whether a store has the folder, of this process or another. It leaves
// nothing behind.
func InUse(dir string) bool { return durable.InUse(dir, lockFile) }

// Vacate takes the folder for a process that remembers pairs elsewhere, in a store that it shares, and keeps others out of it
// until what it returns is closed. What a store had handed over is removed: it will not be true any more for a
// [Memory] that is opened here later, which begins as after a crash.
func Vacate(dir string) (io.Closer, error) {
	f, err := durable.Claim(dir, lockFile)
	if err != nil {
		return nil, fmt.Errorf("replay store: %w", err)
	}
	if err := f.Remove(handOverFile); err != nil {
		return nil, fmt.Errorf("replay store: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// A folder is the files of a store, for as long as it holds the lock.
type folder struct {
	*durable.Folder

	reached atomic.Int64 // issuedBefore as it is in the file

	mu        sync.Mutex // for writing the file
	file      *os.File   // of the watermark
	watermark watermark  // as it was at the start
	frozen    bool       // the watermark is final
}

// start writes the watermark of the new run and removes the hand-over, and both are on the
// disk before any pair is used. Whichever of the two a power cut loses before that, the
// folder is still right: nothing has been used yet.
func (f *folder) start(w watermark) error {
	if err := f.Replace(watermarkFile, w.encode()); err != nil {
		return err
	}
	file, err := f.Open(watermarkFile, os.O_WRONLY)
	if err != nil {
		return err
	}
	f.file, f.watermark = file, w
	f.reached.Store(w.issuedBefore)
	return f.Remove(handOverFile)
}

// raise notes that a pair issued before the second is about to be used. The writing is a copy
// into the kernel's memory, once a second at most, which outlives the process; see the package
// comment for what a power cut does. A nil folder keeps nothing.
func (f *folder) raise(issuedBefore int64) error {
	if f == nil || issuedBefore <= f.reached.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.frozen:
		return ErrClosed
	case issuedBefore <= f.reached.Load():
		return nil
	}
	w := f.watermark
	w.issuedBefore = issuedBefore
	if _, err := f.file.WriteAt(w.encode(), 0); err != nil {
		return fmt.Errorf("mark of life: %w", err)
	}
	f.reached.Store(issuedBefore)
	return nil
}

// freeze makes the watermark final, and returns its second: a use that comes too late must
// not raise it above what the hand-over says.
func (f *folder) freeze() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
	return f.reached.Load()
}

// close gives the folder to the next store.
func (f *folder) close() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, f.Close())
}

// Why it is not known which pairs were used before.
var (
	errNoHandOver = errors.New("there is no hand-over: the last life ended in a crash, or this is the first")
	errHandOver   = errors.New("the hand-over cannot be used")
	errMismatched = errors.New("the hand-over is not that of the last life")
	errLeeway     = errors.New("the leeway was raised, and what was forgotten under the smaller one would be accepted again")
	errClock      = errors.New("the clock is behind what it was in the last life")
	errLasts      = errors.New("the last life could not vouch for all that came before it, and ended before that was over")
)

// past is what earlier runs left in the folder.
type past struct {
	watermark    *watermark // nil when there is none, or it is broken
	watermarkErr error      // why it is broken
	handOver     *handOver  // nil when there is none, or it is broken
	handOverErr  error      // why it is broken
}

// read finds out what earlier runs left.
func (f *folder) read() past {
	var p past
	data, err := durable.IfThere(f.ReadFile(watermarkFile))
	if p.watermarkErr = err; data != nil {
		p.watermark, p.watermarkErr = parseWatermark(data)
	}
	data, err = durable.IfThere(f.ReadFile(handOverFile))
	if p.handOverErr = err; data != nil {
		p.handOver, p.handOverErr = parseHandOver(data)
	}
	return p
}

// initialState is what a store starts from.
type initialState struct {
	acceptFrom   time.Time // pairs issued before are undecided
	issuedBefore int64     // as in watermark
	swept        int64     // pairs that ended up to this second have been forgotten
	records      records   // pairs that were used and live
	recoveryErr  error     // why earlier pairs are undecided
}

// recoverState decides from what earlier runs left which pairs can be answered: all of them, if
// the hand-over tells everything that a store with this leeway must know.
func recoverState(c Config, now time.Time, p past) initialState {
	h := p.handOver
	var unusable error // why the hand-over does not
	switch {
	case p.handOverErr != nil:
		unusable = fmt.Errorf("%w: %w", errHandOver, p.handOverErr)
	case h == nil:
		unusable = errNoHandOver
	case p.watermark == nil || p.watermark.id != h.id || p.watermark.issuedBefore != h.issuedBefore:
		unusable = errMismatched
	case c.Leeway > h.leeway:
		unusable = fmt.Errorf("%w (from %v to %v)", errLeeway, h.leeway, c.Leeway)
	default:
		return p.resume(now)
	}
	if c.NoHistory && p == (past{}) {
		return initialState{}
	}
	return p.afterCrash(c.Leeway, now, unusable)
}

// resume goes on where the last run ended, with what was undecided then: a store that was
// closed soon after a crash knows no more about the time before than it did.
func (p past) resume(now time.Time) initialState {
	h := p.handOver
	s := initialState{acceptFrom: h.acceptFrom, issuedBefore: h.issuedBefore, swept: h.written, records: h.records}
	if h.acceptFrom.After(now) {
		s.recoveryErr = errLasts
	}
	if behind := time.Unix(h.written, 0).Sub(now); behind > time.Second {
		s.recoveryErr = errors.Join(s.recoveryErr, fmt.Errorf("%w by %v: what ends before it catches up is refused", errClock, behind.Round(time.Second)))
	}
	return s
}

// afterCrash accepts what was issued after everything that can have been used: by the clock,
// the start and the leeway, be it that of the last run; and by the watermark, which also holds
// when the clock has been set back.
func (p past) afterCrash(leeway time.Duration, now time.Time, why error) initialState {
	var issuedBefore int64
	switch {
	case p.watermark != nil:
		leeway, issuedBefore = max(leeway, p.watermark.leeway), p.watermark.issuedBefore
	case p.watermarkErr != nil:
		leeway = MaxLeeway // whatever it was, it was not more
		why = errors.Join(why, p.watermarkErr)
	}
	if p.handOver != nil {
		leeway, issuedBefore = max(leeway, p.handOver.leeway), max(issuedBefore, p.handOver.issuedBefore)
	}
	from := now.Add(leeway).Round(0) // without the monotonic reading: it is compared with times that clients state
	if mark := time.Unix(issuedBefore, 0); mark.After(from) {
		if behind := mark.Sub(from); behind > time.Second {
			why = errors.Join(why, fmt.Errorf("%w by %v or more", errClock, behind.Round(time.Second)))
		}
		from = mark
	}
	return initialState{acceptFrom: from, issuedBefore: ceilSecond(from), recoveryErr: why}
}
