package accesstoken

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// use says what a key is for, in the words of a JWK (RFC 7517 section 4.2).
type use string

const (
	sealing use = "enc" // opaque tokens
	signing use = "sig" // JWTs
)

var uses = []use{sealing, signing}

const sealingKeySize = 32 // bytes: A256GCM, RFC 7518 section 5.3

// A key is one key of the ring, ready for use.
type key struct {
	sealer
	keyRef
	number  uint64    // place in the order of keys of one use; from the name of its file
	created time.Time // by the clock of the server that made it
	active  time.Time // from when it makes tokens, unless a newer key does
	public  any       // for PublicJWKS; nil if there is nothing to publish
	file    []byte    // what its file holds

	uses atomic.Uint64 // tokens that this process made with it
}

// keyFile is a JWK (RFC 7517) with more members: the times at which the key was made and from
// which it makes tokens, in RFC 3339, which stand inside because copying and restoring change the
// times of files; and a sum against damage. Without it, a bit that flips on a disk makes another
// key of the same kid, whose tokens no other server can read.
type keyFile struct {
	Created time.Time      `json:"created"`
	Active  time.Time      `json:"active,omitzero"` // absent: activationDelay after Created
	Sum     string         `json:"sum,omitempty"`   // files of older versions have none
	JWK     jsontext.Value `json:",embed"`          //nolint:revive // knows the options of encoding/json only
}

// sum is the SHA-256 of all other members, as RFC 8785 writes them. The text that it
// covers is secret, and so random that its sum says nothing about it.
func (f keyFile) sum() (string, error) {
	f.Sum = ""
	data, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	text := jsontext.Value(data)
	if err := text.Canonicalize(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(text)), nil
}

// newKeyFile makes a key and returns it as it is kept in a file. A zero delay stands for activationDelay.
func newKeyFile(u use, now time.Time, delay time.Duration) ([]byte, error) {
	jwk := jose.JSONWebKey{KeyID: rand.Text(), Use: string(u)}
	var err error
	switch u {
	case sealing:
		secret := make([]byte, sealingKeySize)
		_, err = rand.Read(secret)
		jwk.Key, jwk.Algorithm = secret, string(jose.A256GCM)
	case signing:
		jwk.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		jwk.Algorithm = string(jose.ES256)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	data, err := jwk.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	file := keyFile{Created: now.UTC().Truncate(time.Second), JWK: data}
	if delay != 0 {
		file.Active = file.Created.Add(delay)
	}
	if file.Sum, err = file.sum(); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return json.Marshal(file, jsontext.WithIndent("  "))
}

// parseKeyFile reads what newKeyFile wrote. Its errors hold nothing of the key.
func parseKeyFile(u use, number uint64, data []byte) (*key, error) {
	var file keyFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, errors.New("not a JSON object with a time in created")
	}
	if sum, err := file.sum(); err != nil || file.Sum != "" && file.Sum != sum {
		return nil, errKeySum
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(file.JWK); err != nil {
		return nil, errors.New("not a JWK")
	}
	switch {
	case file.Created.IsZero():
		return nil, errors.New("no time in created")
	case jwk.Use != string(u):
		return nil, fmt.Errorf("use is not %q, as the file's name says", string(u))
	case !file.Active.IsZero() && file.Active.Before(file.Created):
		return nil, errors.New("active is before created")
	case !isKeyID(jwk.KeyID):
		return nil, errors.New("kid is not 1 to 64 letters, digits, hyphens and underscores")
	}
	k := &key{keyRef: keyRef{use: u, kid: jwk.KeyID}, number: number, created: file.Created, active: file.Active, file: data}
	if k.active.IsZero() {
		k.active = k.created.Add(activationDelay)
	}
	var err error
	switch secret := jwk.Key.(type) {
	case []byte:
		if u != sealing || jwk.Algorithm != string(jose.A256GCM) || len(secret) != sealingKeySize {
			return nil, errKeyKind
		}
		k.sealer, err = newOpaqueSealer(k.kid, secret)
	case *ecdsa.PrivateKey:
		if u != signing || jwk.Algorithm != string(jose.ES256) || !halvesMatch(secret) {
			return nil, errKeyKind
		}
		k.public = &secret.PublicKey
		k.sealer, err = newJWTSealer(k.kid, secret)
	default:
		return nil, errKeyKind
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// isKeyID bounds what enters every token's header and our logs.
func isKeyID(kid string) bool {
	for i := range len(kid) {
		if !isBase64URL(kid[i]) {
			return false
		}
	}
	return 0 < len(kid) && len(kid) <= 64
}

var errSameKid = errors.New("another file holds a key of the same kid")

var errKeySum = errors.New("damaged: it does not have the sum that it says (mend: put back the file as it was, or remove it, and with it the tokens made with its key)")

var errKeyKind = errors.New("not a 256-bit key for A256GCM with use enc, or a private P-256 key for ES256 with use sig")

// halvesMatch reports whether the key is of P-256 and its public half belongs to its
// private half, which go-jose does not check: we would sign tokens that nobody,
// we included, could verify.
func halvesMatch(secret *ecdsa.PrivateKey) bool {
	raw, err := secret.Bytes()
	if err != nil {
		return false
	}
	derived, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	return err == nil && derived.PublicKey.Equal(&secret.PublicKey)
}

// A keySet is what the key folder, or the JWK Set in its place, held at one moment. It is never
// changed once it is in use, apart from the counts in its keys.
type keySet struct {
	byRef  map[keyRef]*key
	byName map[keyName]*key
	ages   map[use][]*key // oldest first
	last   map[use]uint64 // highest number in any file name, of unsound files too
	jwks   []byte         // JWK Set of the public keys
	text   []byte         // the JWK Set that it was read from; nil: a folder

	// damaged are keys whose files have changed. Their tokens are good, but other servers may not
	// have read them.
	damaged map[*key]bool

	// stale is why the keys could not be read when it was last tried, with
	// those of the time before; nil if the set is what the folder or file holds.
	stale error
}

func newKeySet() *keySet {
	return &keySet{
		byRef: map[keyRef]*key{}, byName: map[keyName]*key{},
		ages: map[use][]*key{}, last: map[use]uint64{}, damaged: map[*key]bool{},
	}
}

// add adds a key, unless its kid is there.
func (s *keySet) add(k *key) error {
	if s.byRef[k.keyRef] != nil {
		return errSameKid
	}
	s.byRef[k.keyRef] = k
	s.byName[keyName{k.use, k.number}] = k
	s.ages[k.use] = append(s.ages[k.use], k)
	return nil
}

// finish puts the keys of each use into their order, and makes the JWK Set of the public ones.
func (s *keySet) finish() error {
	for _, keys := range s.ages {
		slices.SortStableFunc(keys, func(a, b *key) int {
			return cmp.Or(cmp.Compare(a.number, b.number), a.created.Compare(b.created))
		})
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

// maker is the key that makes tokens: the newest that every server has had time to read or, if there is none, as on the
// first start, the oldest. It is nil if no key can.
func (s *keySet) maker(u use, now time.Time) *key {
	var chosen *key
	for _, k := range slices.Backward(s.ages[u]) {
		if s.damaged[k] {
			continue
		}
		chosen = k
		if !now.Before(k.active) {
			break
		}
	}
	return chosen
}

// due reports whether a use needs a new key, as its newest is older than a key may get. One from far in the
// future was made by a clock that was wrong and would otherwise never grow old, and one
// whose file is damaged makes no tokens.
func (s *keySet) due(u use, now time.Time, age time.Duration) bool {
	keys := s.ages[u]
	if len(keys) == 0 {
		return true
	}
	newest := keys[len(keys)-1]
	return s.damaged[newest] || now.Sub(newest.created).Abs() > age || u == sealing && newest.uses.Load() > usesDue
}

// expired lists the keys with which no living token can have been made.
func (s *keySet) expired(u use, now time.Time) []*key {
	keys := s.ages[u]
	n := 0
	for n+1 < len(keys) && now.Sub(keys[n+1].active) > retireAfter {
		n++
	}
	return keys[:n]
}
