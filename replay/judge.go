package replay

import (
	"errors"
	"fmt"
	"time"
)

// Why a store cannot vouch for what came before it.
var (
	errNoHandOver = errors.New("there is no hand-over: the last life ended in a crash, or this is the first")
	errHandOver   = errors.New("the hand-over cannot be used")
	errStray      = errors.New("the hand-over is not that of the last life")
	errLeeway     = errors.New("the leeway was raised, and what was forgotten under the smaller one would be accepted again")
	errClock      = errors.New("the clock is behind what it was in the last life")
	errLasts      = errors.New("the last life could not vouch for all that came before it, and ended before that was over")
)

// past is what an earlier life left in the folder.
type past struct {
	life        *life     // nil when there is none, or it is broken
	lifeErr     error     // why it is broken
	handOver    *handOver // nil when there is none, or it is broken
	handOverErr error     // why it is broken
}

// beginning is what a new life starts from.
type beginning struct {
	vouchFrom time.Time
	reach     int64   // no pair used so far was issued at or after this second
	swept     int64   // pairs that ended up to this second have been forgotten
	records   records // pairs that were used and live
	doubt     error
}

// judge decides what can be vouched for.
func judge(c Config, now time.Time, p past) beginning {
	doubt := p.doubt(c.Leeway)
	switch {
	case doubt == nil:
		return p.resume(now)
	case c.NoHistory && p == past{}:
		return beginning{}
	default:
		return p.afterCrash(c.Leeway, now, doubt)
	}
}

// doubt is nil when the hand-over tells everything that a life with this leeway must
// know.
func (p past) doubt(leeway time.Duration) error {
	h := p.handOver
	switch {
	case p.handOverErr != nil:
		return fmt.Errorf("%w: %w", errHandOver, p.handOverErr)
	case h == nil:
		return errNoHandOver
	case p.life == nil || p.life.id != h.id || p.life.reach != h.reach:
		return errStray
	case leeway > h.leeway:
		return fmt.Errorf("%w (from %v to %v)", errLeeway, h.leeway, leeway)
	}
	return nil
}

// resume goes on where the last life ended, its own doubts included: a store that was
// closed soon after a crash knows no more about the time before than it did.
func (p past) resume(now time.Time) beginning {
	h := p.handOver
	b := beginning{vouchFrom: h.vouchFrom, reach: h.reach, swept: h.written, records: h.records}
	if h.vouchFrom.After(now) {
		b.doubt = errLasts
	}
	if behind := time.Unix(h.written, 0).Sub(now); behind > time.Second {
		b.doubt = errors.Join(b.doubt, fmt.Errorf("%w by %v: what ends before it catches up is refused", errClock, behind.Round(time.Second)))
	}
	return b
}

// afterCrash vouches for what was issued after everything that can have been used:
// by the clock, the start and the leeway, be it the last life's; and by the mark of
// life, which also holds when the clock has been set back.
func (p past) afterCrash(leeway time.Duration, now time.Time, doubt error) beginning {
	var reach int64
	switch {
	case p.life != nil:
		leeway, reach = max(leeway, p.life.leeway), p.life.reach
	case p.lifeErr != nil:
		leeway = MaxLeeway // whatever it was, it was not more
		doubt = errors.Join(doubt, p.lifeErr)
	}
	if p.handOver != nil {
		leeway, reach = max(leeway, p.handOver.leeway), max(reach, p.handOver.reach)
	}
	from := now.Add(leeway).Round(0) // without the monotonic reading: it is compared with times that clients state
	if mark := time.Unix(reach, 0); mark.After(from) {
		if behind := mark.Sub(from); behind > time.Second {
			doubt = errors.Join(doubt, fmt.Errorf("%w by %v or more", errClock, behind.Round(time.Second)))
		}
		from = mark
	}
	return beginning{vouchFrom: from, reach: ceilSecond(from), doubt: doubt}
}
