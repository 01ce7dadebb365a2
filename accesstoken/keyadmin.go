package accesstoken

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/durable"
	"github.com/waybill-token/waybill/internal/permission"
)

// How an operator changes keys, beside servers that use them.
//
// Of a JWK Set servers have copies, and get a new one at different times: a Kubernetes Secret reaches a pod within some
// two minutes, a variable of the environment only with its next start. So a key that is added says itself from when on
// it makes tokens, and only checks them before. Its predecessor is retired when every token made with it has expired.
const (
	// MinKeyDelay is the shortest time between the making of a key and its first token.
	MinKeyDelay = activationDelay
	// MaxKeyDelay is the longest.
	MaxKeyDelay = 7 * 24 * time.Hour
	// DefaultKeySetDelay is the time for a JWK Set, unless another one is given.
	DefaultKeySetDelay = time.Hour
)

// KeyState is what a key is good for, in the words of NIST SP 800-57 part 1 section 7.
type KeyState string

// States of keys.
const (
	KeyPreActivation KeyState = "pre-activation" // it checks tokens, and will make some
	KeyActive        KeyState = "active"         // it makes tokens
	KeyDeactivated   KeyState = "deactivated"    // it checks tokens, until they have expired
)

// KeyInfo is what may be told of a key.
type KeyInfo struct {
	ID      string    `json:"kid"`
	Use     string    `json:"use"` // enc seals opaque tokens, sig signs JWTs
	Created time.Time `json:"created"`
	State   KeyState  `json:"state"`
	Active  time.Time `json:"active"`         // from when it makes tokens, unless a newer key does, or there is no other
	Until   time.Time `json:"until,omitzero"` // of a deactivated key: when every token made with it has expired
}

// ListKeys tells of the keys of a source, as [OpenKeys] takes it, the oldest of each use first. With a folder of which a
// part cannot be used, it returns the other keys beside the error.
func ListKeys(source string) ([]KeyInfo, error) {
	if IsKeySet(source) {
		set, err := readKeySet(source, newKeySet())
		if err != nil {
			return nil, err
		}
		return set.list(time.Now()), nil
	}
	f, err := openFolder(source)
	if err != nil {
		return nil, err
	}
	set, problems, err := f.read(newKeySet())
	if err = errors.Join(append(problems, err, f.root.Close())...); set == nil {
		return nil, err
	}
	return set.list(time.Now()), err
}

func (s *keySet) list(now time.Time) []KeyInfo {
	var list []KeyInfo
	for _, u := range uses {
		maker, state := s.maker(u, now), KeyDeactivated
		for i, k := range s.ages[u] {
			info := KeyInfo{ID: k.kid, Use: string(u), Created: k.created.UTC(), State: state, Active: k.active.UTC()}
			switch {
			case k == maker:
				info.State, state = KeyActive, KeyPreActivation
			case state == KeyDeactivated: // so that there is a newer one
				info.Until = s.ages[u][i+1].active.Add(retireAfter).UTC()
			}
			list = append(list, info)
		}
	}
	return list
}

// A keyChange is what an operator does to the keys of a source.
type keyChange struct {
	add    map[use][]byte // each as in a key file
	remove *key
}

// AddKeys makes a key for each of the uses, "enc" and "sig", or for both if none is given, and returns the new list. The keys
// make tokens once the delay has passed; zero stands for [MinKeyDelay] or, in a JWK Set, [DefaultKeySetDelay]. The
// first keys make tokens at once.
//
// A folder or file that does not exist is made, for its owner alone; a file that does keeps its owner, group and mode.
// Nothing is changed that [OpenKeys] would refuse, and no file is made where every account of the machine could exchange it.
func AddKeys(source string, delay time.Duration, forUses ...string) ([]KeyInfo, error) {
	asked := slices.Clone(uses)
	if len(forUses) > 0 {
		asked = nil
	}
	for _, u := range forUses {
		if !slices.Contains(uses, use(u)) {
			return nil, fmt.Errorf("use %q is neither %q nor %q", u, string(sealing), string(signing))
		}
		asked = append(asked, use(u))
	}
	if delay != 0 && (delay < MinKeyDelay || delay > MaxKeyDelay) {
		return nil, fmt.Errorf("a delay of %s is not from %s to %s", delay, MinKeyDelay, MaxKeyDelay)
	}
	if delay == 0 && IsKeySet(source) {
		delay = DefaultKeySetDelay
	}
	return changeKeys(source, func(set *keySet) (keyChange, error) {
		now, change := time.Now(), keyChange{add: map[use][]byte{}}
		for _, u := range asked {
			keys, delay := set.ages[u], delay
			if len(keys) == 0 {
				delay = 0 // it makes tokens at once, whatever it says
			} else if newest := keys[len(keys)-1]; newest.created.After(now) {
				return change, fmt.Errorf("key %s was made at %s, after the time of this machine's clock (mend: set the clock or, if another was wrong, retire that key)",
					newest.kid, newest.created.UTC().Format(time.RFC3339))
			}
			var err error
			if change.add[u], err = newKeyFile(u, now, delay); err != nil {
				return change, err
			}
		}
		return change, nil
	})
}

// ErrKeyInUse says that tokens would be refused if a key were taken out of use.
var ErrKeyInUse = errors.New("the key is in use")

// RetireKey takes a key out of use, and returns the new list: its tokens are refused from then on. The error
// wraps [ErrKeyInUse] as long as there can be such tokens, unless the operator wants that by force, for a key that was
// stolen. The last key of a use always stays: add another one first.
func RetireKey(source, id string, force bool) ([]KeyInfo, error) {
	if !isKeyText(source) {
		if _, err := os.Stat(source); err != nil { // or it would be made
			return nil, err
		}
	}
	return changeKeys(source, func(set *keySet) (keyChange, error) {
		now := time.Now()
		list := set.list(now)
		at := slices.IndexFunc(list, func(k KeyInfo) bool { return k.ID == id })
		if at < 0 {
			return keyChange{}, fmt.Errorf("there is no key %q", id)
		}
		info := list[at]
		switch {
		case len(set.ages[use(info.Use)]) == 1:
			return keyChange{}, fmt.Errorf("key %s is the only one with use %q (mend: add another first)", id, info.Use)
		case force:
		case info.State == KeyActive:
			return keyChange{}, fmt.Errorf("%w: %s makes tokens", ErrKeyInUse, id)
		case info.State == KeyPreActivation:
			return keyChange{}, fmt.Errorf("%w: %s will make tokens from %s on", ErrKeyInUse, id, info.Active.Format(time.RFC3339))
		case now.Before(info.Until):
			return keyChange{}, fmt.Errorf("%w: tokens made with %s may be good until %s", ErrKeyInUse, id, info.Until.Format(time.RFC3339))
		}
		return keyChange{remove: set.byRef[keyRef{use(info.Use), id}]}, nil
	})
}

// changeKeys has a change made that is decided by what there is.
func changeKeys(source string, decide func(*keySet) (keyChange, error)) ([]KeyInfo, error) {
	change := changeFolder
	switch {
	case isKeyText(source):
		return nil, errors.New("keys that are given as text cannot be changed (mend: change the file that the text was made of)")
	case IsKeySet(source):
		change = changeKeySet
	}
	if err := change(source, decide); err != nil {
		return nil, err
	}
	return ListKeys(source)
}

func changeFolder(dir string, decide func(*keySet) (keyChange, error)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer f.root.Close() //nolint:errcheck // a folder handle: nothing is lost
	set, err := f.readSound()
	if err != nil {
		return err
	}
	change, err := decide(set)
	if err != nil {
		return err
	}
	for u, data := range change.add {
		if err := f.addFile(keyName{u, set.last[u] + 1}, data); err != nil {
			return err
		}
	}
	if change.remove != nil {
		return durable.Remove(f.root, keyName{change.remove.use, change.remove.number}.String())
	}
	return nil
}

// addFile gives the key file the name, or the next one that no server takes at the same moment.
func (f *folder) addFile(name keyName, data []byte) error {
	for ; ; name.number++ {
		if err := durable.Create(f.root, name.String(), data); err != nil {
			return err
		}
		if kept, err := f.root.ReadFile(name.String()); err != nil || bytes.Equal(kept, data) {
			return err
		}
	}
}

func changeKeySet(path string, decide func(*keySet) (keyChange, error)) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // and the link stays one
	}
	for _, f := range permission.Of(filepath.Dir(path), "") {
		if f.Everybody {
			return fmt.Errorf("%s: %s (mend: %s)", f.Path, f.Message, f.Hint)
		}
	}
	name := filepath.Base(path)
	lock := "." + name + ".lock" // keeps two operators from undoing what the other does
	dir, err := durable.Claim(filepath.Dir(path), lock)
	if err != nil {
		return fmt.Errorf("to change a key set its folder must be writable, as that of a mounted Secret is not, and no other may be changing it: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Remove(lock), dir.Close()) }()
	set := newKeySet()
	data, err := readKeySetFile(path)
	if err == nil {
		set, err = parseKeySet(path, data, set)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	change, err := decide(set)
	if err != nil {
		return err
	}
	if data, err = set.changed(change); err != nil {
		return err
	}
	if _, err := readKeySet(string(data), newKeySet()); err != nil {
		return fmt.Errorf("the new key set would not be good: %w", err)
	}
	return dir.Rewrite(name, data)
}

// changed writes the set as it is after the change.
func (s *keySet) changed(change keyChange) ([]byte, error) {
	file := keySetFile{Keys: []jsontext.Value{}}
	for _, u := range uses {
		for _, k := range s.ages[u] {
			if k != change.remove {
				file.Keys = append(file.Keys, k.file)
			}
		}
		if added := jsontext.Value(change.add[u]); added != nil {
			if err := added.Canonicalize(); err != nil { // as those that were read
				return nil, err
			}
			file.Keys = append(file.Keys, added)
		}
	}
	data, err := json.Marshal(file, jsontext.WithIndent("  "))
	if err == nil && len(data) >= maxKeySetSize {
		err = fmt.Errorf("a key set of over %d bytes would not be read (mend: retire old keys)", maxKeySetSize)
	}
	return append(data, '\n'), err
}
