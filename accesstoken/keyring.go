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
//
// In a JWK Set, which servers only read, an operator makes the successor. Both bounds are told then, and the second holds.
// A key that is replaced within the 30 days after which it is told to be old stays below 2³² at 1,650 tokens a second.
const (
	rotateAfter     = 24 * time.Hour
	activationDelay = 5 * time.Minute
	clockMargin     = time.Hour
	retireAfter     = MaxLifetime + clockMargin // from when its successor is active
	maintainEvery   = time.Minute

	// setRotateAfter is when a key of a JWK Set, which no server replaces, is told to be old.
	setRotateAfter = 30 * 24 * time.Hour

	usesDue = 1 << 27
	usesMax = 1 << 28

	// rereadPause is the least time between two readings of the keys that
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
//
// In place of a folder there can be one file that holds all keys, as a Kubernetes Secret mounts it, or its text: a JWK
// Set (RFC 7517 section 5), which [AddKeys] makes. The ring only reads it. It reads the file again each minute, and
// takes over what it says, but nothing of a file that is wrong: then the keys of before go on, and [KeyRing.Problem]
// tells, as it does of a key that is over 30 days old or has made as many tokens as it should. An operator then adds one.
type KeyRing struct {
	source        string
	opened        *folder // held, so that no other can be mistaken for it; nil: a JWK Set
	log           *slog.Logger
	set           atomic.Pointer[keySet]
	problem       atomic.Pointer[error] // nil, or what the last reading found wrong
	reloads       singleflight.Group
	rereadLimiter *rate.Limiter

	mu     sync.Mutex // held while the folder is read or changed
	closed bool
}

// OpenKeys reads the keys of a source: a folder, a file that holds a JWK Set, or the text of one; see [IsKeySet].
// [KeyRing.Run] must run as long as the ring is used, and [KeyRing.Close] behind it. What goes wrong later is logged; a nil log means silence.
//
// In a folder without keys the first ones are made. It is created for its owner alone if it does not exist; it must be
// writable, on a file system with hard links. A folder with a problem, such as a file that is not a key, is refused before
// anything is changed there.
//
// A JWK Set must hold a key of each use. Others than the owner of the file and its group must have no access
// to it, and the group may read only, as with a Kubernetes Secret.
func OpenKeys(source string, log *slog.Logger) (*KeyRing, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &KeyRing{source: source, log: log, rereadLimiter: rate.NewLimiter(rate.Every(rereadPause), 1)}
	if err := k.open(time.Now()); err != nil {
		return nil, fmt.Errorf("access token keys: %w", err)
	}
	return k, nil
}

func (k *KeyRing) open(now time.Time) error {
	if IsKeySet(k.source) {
		set, err := readKeySet(k.source, newKeySet())
		if err != nil {
			return err
		}
		k.set.Store(set)
		k.refresh(now) // which tells what is old
		return nil
	}
	if k.source == "" {
		return errors.New("no folder given")
	}
	if err := os.MkdirAll(k.source, 0o700); err != nil {
		return err
	}
	f, err := openFolder(k.source)
	if err != nil {
		return err
	}
	set, err := f.readSound()
	if err != nil {
		return errors.Join(err, f.root.Close())
	}
	k.opened = f
	k.set.Store(set)
	return k.maintain(now)
}

// Run maintains the keys until ctx is done, and then returns nil: each minute it reads
// them. In a folder it makes those that are due and removes those whose tokens have expired. What
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

// Close gives the handle of the folder back, when the ring is not run any more. It keeps the keys that it has, and reads no
// others.
func (k *KeyRing) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.opened == nil {
		return nil
	}
	k.closed = true
	return k.opened.root.Close()
}

// PublicJWKS returns the JWK Set (RFC 7517 section 5) for
// /.well-known/jwks.json: the public halves of the keys that sign JWTs, also
// those that do not sign yet or no more. A new key stands in it for 5 minutes
// before it signs: clients may keep the answer that long.
func (k *KeyRing) PublicJWKS() []byte {
	return bytes.Clone(k.set.Load().jwks)
}

// Problem returns what is wrong with the keys, as of the last time that they were
// read, or nil. The ring works meanwhile with the keys that it has, but an
// operator should know: keys may not be replaced, or not be known.
func (k *KeyRing) Problem() error {
	if p := k.problem.Load(); p != nil {
		return *p
	}
	return nil
}

// IDs are the identifiers (kid) of all keys that are known, sorted. They are no secrets: each token names its own.
func (k *KeyRing) IDs() []string {
	var ids []string
	for _, key := range k.set.Load().byRef {
		ids = append(ids, key.kid)
	}
	slices.Sort(ids)
	return ids
}

// newest returns the key for one new token, and counts the token.
func (k *KeyRing) newest(u use, now time.Time) (*key, error) {
	chosen := k.set.Load().maker(u, now)
	if chosen == nil {
		return nil, errors.New("there is no key")
	}
	if n := chosen.uses.Add(1); u == sealing && n > usesMax {
		return nil, errors.New("the key has made as many tokens as it may, and no other has taken its place")
	}
	return chosen, nil
}

// find returns the key that a token names. A key that is not known may have been
// made by another server a moment ago, so the keys are read again, once for all
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

// refresh maintains the keys, and logs what is wrong with them when that is new.
func (k *KeyRing) refresh(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.maintain(now)
	if err == nil {
		k.problem.Store(nil)
		return
	}
	if before := k.Problem(); before == nil || before.Error() != err.Error() {
		k.log.Error("access token keys", slog.String("source", sourceName(k.source)), slog.Any("error", err))
	}
	k.problem.Store(&err)
}

// maintain reads the keys, and changes a folder where that is due. Its errors are about
// the folder or single files in it, or the JWK Set; the ring is then as good as can be.
func (k *KeyRing) maintain(now time.Time) error {
	if k.closed {
		return nil
	}
	if k.opened == nil {
		set, err := readKeySet(k.source, k.set.Load())
		if err != nil {
			return k.keepStale(err)
		}
		k.set.Store(set)
		return set.overdue(k.source, now)
	}
	f, err := openFolder(k.source)
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
		return k.keepStale(fmt.Errorf("%s: %w", k.source, errNoKeys))
	}
	k.set.Store(set)
	if other != nil {
		return errors.Join(append(problems, fmt.Errorf("%s: %w", k.source, other))...)
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
	for _, u := range uses {
		for _, k := range set.expired(u, now) {
			err = errors.Join(err, durable.Remove(f.root, keyName{u, k.number}.String()))
			changed = true
		}
		if set.due(u, now, rotateAfter) {
			err = errors.Join(err, f.add(keyName{u, set.last[u] + 1}, now))
			changed = true
		}
	}
	return changed, err
}

// CheckKeys finds what [OpenKeys] would refuse in a source of keys, and what [KeyRing.Problem] would tell from the
// beginning. It changes nothing. A folder that does not exist is no problem: it would be made.
func CheckKeys(source string) (problem, err error) {
	if IsKeySet(source) {
		set, err := readKeySet(source, newKeySet())
		if err != nil {
			return nil, err
		}
		return set.overdue(source, time.Now()), nil
	}
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	f, err := openFolder(source)
	if err != nil {
		return nil, err
	}
	_, problems, err := f.read(newKeySet())
	return nil, errors.Join(append(problems, err, f.root.Close())...)
}
