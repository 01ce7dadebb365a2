package accesstoken

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/waybill-token/waybill/internal/durable"
)

// How keys come and go.
//
// A new key is made when the newest is a day old. It does not make tokens until it
// is 5 minutes old: by then every server, which reads the folder each minute,
// and every client of the JWK Set knows it, so that in normal running no
// server ever meets a key that it does not know.
//
// A key therefore makes its last token 5 minutes after its successor was made,
// and that token lives at most MaxLifetime: 24 hours and 5 minutes after the
// successor was made it is of no use to anyone. It is removed an hour later,
// which covers clocks that differ and a server that missed some readings. So there
// are two keys of each use, three for an hour a day.
//
// AES-GCM with random 96-bit nonces may encrypt 2³² messages with one key: then the
// odds of a repeated nonce, by which tokens could be forged, are 2⁻³² (NIST SP
// 800-38D section 8.3). At the 20,000 tokens a second of which one server is
// capable a day makes 1.7·10⁹, two fifths of that. Since several servers may share
// the key, a day alone does not prove the bound; each server counts as well. At
// 2²⁷ tokens it asks for a successor, which takes 6 minutes or 7 million tokens at
// that rate, and at 2²⁸ it refuses to make more. Up to 16 servers that share a
// folder, or restarts within a day, stay below 2³² whatever happens.
const (
	rotateAfter     = 24 * time.Hour
	activationDelay = 5 * time.Minute
	clockMargin     = time.Hour
	retireAfter     = activationDelay + MaxLifetime + clockMargin
	maintainEvery   = time.Minute

	usesDue = 1 << 27
	usesMax = 1 << 28

	// rereadPause is the least time between two readings of the folder that
	// tokens with an unknown kid bring about. Anyone can send those.
	rereadPause = time.Second
)

// A KeyRing holds the keys of a folder: those that seal opaque tokens and those
// that sign JWTs, several of each. The newest of a use makes tokens, once it is
// 5 minutes old; the others still check them. Keys are replaced daily, and
// removed when every token made with them has expired. Make it with [OpenKeys];
// it is safe for concurrent use.
//
// The folder decides which keys there are, and may be shared by any number of servers whose
// clocks agree within minutes. Removing a file withdraws its key, and with it all
// tokens made with it, within a minute; removing all of them withdraws all
// tokens. Names that begin with a dot are ignored. Any other file that is not
// a key of ours, or that others than its owner may read, is an error when the
// ring is opened; later it is reported in the log and by [KeyRing.Problem], and not used.
//
// A key file carries a sum, so that a damaged one is never taken for another key; files of
// versions before have none. One that is damaged while the ring is open costs no token:
// its key is kept, but only to check what was made with it, and another takes its place.
// Such a file is an error when a ring is opened next.
//
// When another folder takes the place of the one that was opened, its keys count, but it may be that of another party: none is made, replaced or
// removed in it before a ring is opened on it. If there are none in it, as in the place where a
// volume is not mounted, the keys of before go on.
type KeyRing struct {
	dir           string
	opened        *folder // held, so that no other can be mistaken for it; the garbage collector closes it
	log           *slog.Logger
	set           atomic.Pointer[keySet]
	problem       atomic.Pointer[error] // nil, or what the last reading found wrong
	reloads       singleflight.Group
	rereadLimiter *rate.Limiter

	mu sync.Mutex // held while the folder is read or changed
}

// OpenKeys reads the keys in dir, and makes the first ones if there are none.
// The folder is created for its owner alone if it does not exist; it must be
// writable, on a file system with hard links. [KeyRing.Run] must run as long as
// the ring is used. What goes wrong later is logged; a nil log means silence. A folder with a
// problem, such as a file that is not a key, is refused before anything is changed there.
func OpenKeys(dir string, log *slog.Logger) (*KeyRing, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if dir == "" {
		return nil, errors.New("access token keys: no folder given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("access token keys: %w", err)
	}
	f, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("access token keys: %w", err)
	}
	set, problems, err := f.read(newKeySet())
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, fmt.Errorf("access token keys: %s: %w", dir, errors.Join(err, f.root.Close()))
	}
	k := &KeyRing{dir: dir, opened: f, log: log, rereadLimiter: rate.NewLimiter(rate.Every(rereadPause), 1)}
	k.set.Store(set)
	if err := k.maintain(time.Now()); err != nil {
		return nil, fmt.Errorf("access token keys: %w", err)
	}
	return k, nil
}

// Run maintains the folder until ctx is done, and then returns nil: each minute it reads
// the folder, makes the keys that are due and removes those whose tokens have expired. What
// goes wrong is logged and tried again; meanwhile the ring keeps the keys it has.
func (k *KeyRing) Run(ctx context.Context) error {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			k.refresh(now)
		}
	}
}

// PublicJWKS returns the JWK Set (RFC 7517 section 5) for
// /.well-known/jwks.json: the public halves of the keys that sign JWTs, also
// those that do not sign yet or no more. A new key stands in it for 5 minutes
// before it signs: clients may keep the answer that long.
func (k *KeyRing) PublicJWKS() []byte {
	return bytes.Clone(k.set.Load().jwks)
}

// Problem returns what is wrong with the folder, as of the last time that it was
// read, or nil. The ring works meanwhile with the keys that it has, but an
// operator should know: keys may not be replaced, or not be known.
func (k *KeyRing) Problem() error {
	if p := k.problem.Load(); p != nil {
		return *p
	}
	return nil
}

// newest returns the key for one new token, and counts the token: the newest key that every server has had time to
// read or, if there is none, as on the first start, the oldest.
func (k *KeyRing) newest(u use, now time.Time) (*key, error) {
	set := k.set.Load()
	var chosen *key
	for _, key := range slices.Backward(set.ages[u]) {
		if set.damaged[key] {
			continue
		}
		chosen = key
		if now.Sub(key.created) >= activationDelay {
			break
		}
	}
	if chosen == nil {
		return nil, errors.New("there is no key")
	}
	if n := chosen.uses.Add(1); u == sealing && n > usesMax {
		return nil, errors.New("the key has made as many tokens as it may, and no other has taken its place")
	}
	return chosen, nil
}

// find returns the key that a token names. A key that is not known may have been
// made by another server a moment ago, so the folder is read again, once for all
// who wait and at most once a second.
func (k *KeyRing) find(ctx context.Context, ref keyRef) (*key, error) {
	if key := k.set.Load().byRef[ref]; key != nil {
		return key, nil
	}
	read := k.reloads.DoChan("", func() (any, error) {
		if k.rereadLimiter.Allow() {
			k.refresh(time.Now())
		}
		return nil, nil
	})
	select {
	case <-read:
	case <-ctx.Done():
		return nil, fmt.Errorf("looking for the key of an access token: %w", ctx.Err())
	}
	set := k.set.Load()
	if key := set.byRef[ref]; key != nil {
		return key, nil
	}
	if set.stale != nil {
		return nil, fmt.Errorf("looking for the key of an access token: %w", set.stale)
	}
	return nil, invalid("it names a key that is not ours")
}

// refresh maintains the folder, and logs what is wrong with it when that is new.
func (k *KeyRing) refresh(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.maintain(now)
	if err == nil {
		k.problem.Store(nil)
		return
	}
	if before := k.Problem(); before == nil || before.Error() != err.Error() {
		k.log.Error("access token keys", slog.String("folder", k.dir), slog.Any("error", err))
	}
	k.problem.Store(&err)
}

// maintain reads the folder, and changes it where that is due. Its errors are about
// the folder or single files in it; the ring is then as good as can be.
func (k *KeyRing) maintain(now time.Time) error {
	f, err := openFolder(k.dir)
	if err != nil {
		return k.keepStale(err)
	}
	defer f.root.Close() //nolint:errcheck // a folder handle: nothing is lost
	set, problems, err := f.read(k.set.Load())
	if err != nil {
		return k.keepStale(err)
	}
	other := f.sameAs(k.opened)
	if errors.Is(other, errOtherFolder) && len(set.byRef) == 0 {
		return k.keepStale(fmt.Errorf("%s: %w", k.dir, errNoKeys))
	}
	k.set.Store(set)
	if other != nil {
		return errors.Join(append(problems, fmt.Errorf("%s: %w", k.dir, other))...)
	}
	changed, err := f.renew(set, now)
	problems = append(problems, err)
	if changed {
		if set, _, err = f.read(set); err != nil {
			return k.keepStale(err)
		}
		k.set.Store(set)
	}
	return errors.Join(problems...)
}

// keepStale keeps the keys that are known and notes that they may not be all.
func (k *KeyRing) keepStale(why error) error {
	stale := *k.set.Load()
	stale.stale = why
	k.set.Store(&stale)
	return why
}

// renew makes the keys that are due and removes those whose tokens have expired.
func (f *folder) renew(set *keySet, now time.Time) (changed bool, err error) {
	err = f.removeTemporary(now)
	for _, u := range []use{sealing, signing} {
		for _, k := range set.expired(u, now) {
			err = errors.Join(err, durable.Remove(f.root, keyName{u, k.number}.String()))
			changed = true
		}
		if set.due(u, now) {
			err = errors.Join(err, f.add(keyName{u, set.last[u] + 1}, now))
			changed = true
		}
	}
	return changed, err
}

// CheckKeys finds what [OpenKeys] would refuse in a folder of keys, and changes
// nothing. A folder that does not exist is no problem: it would be made.
func CheckKeys(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	_, problems, err := f.read(newKeySet())
	return errors.Join(append(problems, err, f.root.Close())...)
}
