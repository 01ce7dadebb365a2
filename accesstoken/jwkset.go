package accesstoken

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/permission"
	"github.com/waybill-token/waybill/internal/regular"
)

// maxKeySetSize leaves room for some two hundred keys, of which a set that is kept has four.
const maxKeySetSize = 64 << 10

// keySetSuffixes end the names of files that hold a JWK Set.
var keySetSuffixes = []string{".json", ".jwks"}

// IsKeySet reports whether a source of keys, as [OpenKeys] takes it, is a JWK Set: a text that begins with {, or the path
// of a file. It is the path of a folder otherwise. Where nothing is yet, a name that ends in .json or .jwks is that of a file.
func IsKeySet(source string) bool {
	if isKeyText(source) {
		return true
	}
	info, err := os.Stat(source)
	if err != nil {
		return slices.ContainsFunc(keySetSuffixes, func(suffix string) bool { return strings.HasSuffix(source, suffix) })
	}
	return !info.IsDir()
}

// isKeyText reports whether a source is a JWK Set itself, and no path.
func isKeyText(source string) bool { return strings.HasPrefix(strings.TrimSpace(source), "{") }

// sourceName is what may be told of a source.
func sourceName(source string) string {
	if isKeyText(source) {
		return "the key set given as text"
	}
	return source
}

// mendWithAdd tells how a set gets a key. The file that a server sees is often a copy, which only that of which it is made
// can change.
func mendWithAdd(source string) string {
	path := "FILE"
	if !isKeyText(source) {
		path = permission.Quote(source)
	}
	return "mend: waybill keys add --keys " + path + "; of a Kubernetes Secret or a variable, with the file that it was made of"
}

// keySetFile is a JWK Set (RFC 7517 section 5). Each of its keys is as in a file of its own.
type keySetFile struct {
	Keys []jsontext.Value `json:"keys"`
}

// readKeySet reads a JWK Set. Keys that are as in previous are taken over from there, with what they count.
func readKeySet(source string, previous *keySet) (*keySet, error) {
	data := []byte(source)
	if !isKeyText(source) {
		var err error
		if data, err = readKeySetFile(source); err != nil {
			return nil, err
		}
	}
	if previous.text != nil && bytes.Equal(data, previous.text) {
		same := *previous
		same.stale = nil
		return &same, nil
	}
	set, err := parseKeySet(source, data, previous)
	if err != nil {
		return nil, err
	}
	for _, u := range uses {
		if len(set.ages[u]) == 0 {
			return nil, fmt.Errorf("%s: holds no key with use %q (%s)", sourceName(source), string(u), mendWithAdd(source))
		}
	}
	return set, nil
}

// readKeySetFile lets the group of the file read it: a Kubernetes Secret belongs to root, and to the group fsGroup,
// of which the server is.
func readKeySetFile(path string) ([]byte, error) {
	file, err := regular.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s)", err, mendWithAdd(path))
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read from
	data, problem, err := readSecret(file, 0o037, maxKeySetSize)
	if err := cmp.Or(problem, err); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// parseKeySet takes all of a JWK Set or, when anything in it is wrong, nothing: part of it can be taken for a whole one, from
// which keys were withdrawn. Its errors hold nothing of a key.
func parseKeySet(source string, data []byte, previous *keySet) (*keySet, error) {
	var file keySetFile
	err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true))
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return nil, fmt.Errorf("%s: not JSON, as byte %d shows", sourceName(source), syntax.ByteOffset)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: not a JSON object with a list of keys in keys, and nothing else", sourceName(source))
	}
	set := newKeySet()
	set.text = bytes.Clone(data)
	var problems []error
	for i, value := range file.Keys {
		k, err := parseSetKey(value, previous)
		if err == nil && set.add(k) != nil {
			err = fmt.Errorf("another key has the kid %s as well", k.kid)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: keys[%d]: %w", sourceName(source), i, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	err = set.finish()
	return set, err
}

// parseSetKey reads one key of a set.
func parseSetKey(value jsontext.Value, previous *keySet) (*key, error) {
	var member struct {
		Use use `json:"use"`
	}
	if err := json.Unmarshal(value, &member); err != nil || !slices.Contains(uses, member.Use) {
		return nil, fmt.Errorf("not a JSON object with use %q or %q", string(sealing), string(signing))
	}
	if err := value.Canonicalize(); err != nil { // how it is laid out does not make another key of it
		return nil, errors.New("not a JSON object")
	}
	k, err := parseKeyFile(member.Use, 0, value)
	if err != nil {
		return nil, err
	}
	known := previous.byRef[k.keyRef]
	switch {
	case known == nil:
		return k, nil
	case !bytes.Equal(known.file, k.file):
		return nil, fmt.Errorf("kid %s: %w", k.kid, errOtherKey)
	}
	return known, nil
}

// overdue tells which uses should have a new key. No server makes one in a set, as no other would have it.
func (s *keySet) overdue(source string, now time.Time) error {
	var old []error
	for _, u := range uses {
		if !s.due(u, now, setRotateAfter) {
			continue
		}
		newest := s.ages[u][len(s.ages[u])-1]
		why := fmt.Sprintf("was not made within the last %d days, but at %s", setRotateAfter/(24*time.Hour), newest.created.UTC().Format(time.RFC3339))
		if u == sealing && newest.uses.Load() > usesDue {
			why = fmt.Sprintf("has made over %d tokens in this process, which makes none with it after %d", usesDue, usesMax)
		}
		old = append(old, fmt.Errorf("%s: the newest key with use %q, %s, %s (%s)", sourceName(source), string(u), newest.kid, why, mendWithAdd(source)))
	}
	return errors.Join(old...)
}
