package accesstoken

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// A keySet is what the key folder held at one moment. It is never changed
// once it is in use, apart from the counts in its keys.
type keySet struct {
	byRef  map[keyRef]*key
	byName map[keyName]*key
	ages   map[use][]*key // oldest first
	last   map[use]uint64 // highest number in any file name, of unsound files too
	jwks   []byte         // JWK Set of the public keys

	// spoiled are keys whose files are no longer what they were. Their tokens are good,
	// but other servers may not have read them.
	spoiled map[*key]bool

	// stale is why the folder could not be read when it was last tried, with
	// the keys of the time before; nil if the set is what the folder holds.
	stale error
}

func newKeySet() *keySet {
	return &keySet{
		byRef: map[keyRef]*key{}, byName: map[keyName]*key{},
		ages: map[use][]*key{}, last: map[use]uint64{}, spoiled: map[*key]bool{},
	}
}

func (s *keySet) named(name keyName) *key { return s.byName[name] }

// seen takes note of a number that is taken.
func (s *keySet) seen(name keyName) {
	s.last[name.use] = max(s.last[name.use], name.number)
}

// add adds a key, unless its kid is there.
func (s *keySet) add(k *key) error {
	if s.byRef[k.keyRef] != nil {
		return errors.New("another file holds a key of the same kid")
	}
	s.byRef[k.keyRef] = k
	s.byName[keyName{k.use, k.number}] = k
	s.ages[k.use] = append(s.ages[k.use], k)
	return nil
}

// finish orders the keys and writes the JWK Set.
func (s *keySet) finish() error {
	for _, keys := range s.ages {
		slices.SortFunc(keys, func(a, b *key) int { return cmp.Compare(a.number, b.number) })
	}
	public := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range s.ages[signing] {
		public.Keys = append(public.Keys, jose.JSONWebKey{
			Key: k.public, KeyID: k.kid, Use: string(signing), Algorithm: string(jose.ES256),
		})
	}
	var err error
	if s.jwks, err = json.Marshal(public); err != nil {
		return fmt.Errorf("public keys: %w", err)
	}
	return nil
}

// current chooses the key for a new token: the newest that every server has had
// time to read. If there is none, as on the first start, it is the oldest.
func (s *keySet) current(u use, now time.Time) *key {
	var oldest *key
	for _, k := range slices.Backward(s.ages[u]) {
		switch {
		case s.spoiled[k]:
			continue
		case now.Sub(k.created) >= settling:
			return k
		}
		oldest = k
	}
	return oldest
}

// due reports whether a use needs a new key. A newest key from far in the
// future was made by a clock that was wrong and would otherwise never grow old, and one
// whose file is spoiled makes no tokens.
func (s *keySet) due(u use, now time.Time) bool {
	keys := s.ages[u]
	if len(keys) == 0 {
		return true
	}
	newest := keys[len(keys)-1]
	return s.spoiled[newest] || now.Sub(newest.created).Abs() > rotateAfter || u == sealing && newest.uses.Load() > usesDue
}

// dead lists the keys with which no living token can have been made.
func (s *keySet) dead(u use, now time.Time) []*key {
	keys := s.ages[u]
	n := 0
	for n+1 < len(keys) && now.Sub(keys[n+1].created) > outlived {
		n++
	}
	return keys[:n]
}
