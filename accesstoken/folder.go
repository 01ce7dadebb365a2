package accesstoken

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/durable"
)

const (
	// maxKeyFileSize is far above the 200 to 400 bytes of a key file.
	maxKeyFileSize = 16 << 10

	keyFileSuffix = ".jwk"

	// temporaryLife is how long a file that is being written may exist, by the clock
	// of the file system. One that is older was left by a crash.
	temporaryLife = time.Hour
)

// A folder is the key folder while it is being read or changed. Files in it are
// named for their use and their number: enc-000001.jwk, sig-000001.jwk. A name,
// once taken, never gets other content.
type folder struct{ root *os.Root }

// openFolder opens the folder, unless others may write to it: who can write there
// can plant keys, and who plants keys can make tokens.
func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && grants(info, 0o022) {
		err = fmt.Errorf("%s has mode %#o: others may write to it (mend: chmod 700 %s)", dir, info.Mode().Perm(), dir)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &folder{root}, nil
}

// HaveKeys reports whether a source has a key, so that tokens may have been
// issued. It changes nothing, and there is none in a folder that does not exist. A JWK Set always has.
func HaveKeys(source string) (bool, error) {
	if IsKeySet(source) {
		return true, nil
	}
	entries, err := os.ReadDir(source)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	have := slices.ContainsFunc(entries, func(entry fs.DirEntry) bool {
		_, ok := parseKeyName(entry.Name())
		return ok
	})
	return have, err
}

var (
	errOtherFolder = errors.New("another folder has taken its place: the keys in it count, and none is made or removed there before a restart or reload")
	errNoKeys      = errors.New("another folder has taken its place, without keys: those of before go on until it is back; a restart or reload makes new ones")
)

// sameAs is an error unless the two are one folder, wherever it was moved to.
func (f *folder) sameAs(other *folder) error {
	one, err := f.root.Stat(".")
	if err != nil {
		return err
	}
	two, err := other.root.Stat(".")
	if err != nil {
		return err
	}
	if !os.SameFile(one, two) {
		return errOtherFolder
	}
	return nil
}

// grants reports whether the mode gives group or world one of the permissions.
// Windows has no such modes; there the folder's access control list decides.
func grants(info fs.FileInfo, permissions fs.FileMode) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&permissions != 0
}

// A keyName is what the name of a key file says.
type keyName struct {
	use    use
	number uint64
}

func (n keyName) String() string {
	return fmt.Sprintf("%s-%06d%s", n.use, n.number, keyFileSuffix)
}

// parseKeyName reads a name that String made.
func parseKeyName(s string) (keyName, bool) {
	u, number, ok := strings.Cut(strings.TrimSuffix(s, keyFileSuffix), "-")
	if !ok || use(u) != sealing && use(u) != signing {
		return keyName{}, false
	}
	n, err := strconv.ParseUint(number, 10, 63)
	name := keyName{use: use(u), number: n}
	return name, err == nil && name.String() == s
}

// read makes the set of all keys in the folder. Keys whose files are still there are
// taken over from previous, and make no more tokens if the files have changed. Other
// files that are not sound keys, and those that others may read, are left out, and
// problems says why; err means that the folder could not be read, and
// then nothing is known about it.
func (f *folder) read(previous *keySet) (set *keySet, problems []error, err error) {
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return nil, nil, err
	}
	set = newKeySet()
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		problem, err := f.readInto(set, entry, previous)
		if err != nil {
			return nil, nil, err
		}
		if problem != nil {
			problems = append(problems, fmt.Errorf("%s: %w", entry.Name(), problem))
		}
	}
	err = set.finish()
	return set, problems, err
}

// readSound reads a folder that must have no problem.
func (f *folder) readSound() (*keySet, error) {
	set, problems, err := f.read(newKeySet())
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, fmt.Errorf("%s: %w", f.root.Name(), err)
	}
	return set, nil
}

// readInto adds the key of one file to the set. Another server may have
// removed the file since its name was read: then there is nothing to add.
func (f *folder) readInto(set *keySet, entry fs.DirEntry, previous *keySet) (problem, err error) {
	name, ok := parseKeyName(entry.Name())
	if !ok || !entry.Type().IsRegular() {
		return errors.New("not a key file (mend: move it out of the folder)"), nil
	}
	set.last[name.use] = max(set.last[name.use], name.number)
	data, problem, err := f.readFile(entry.Name())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil || errors.Is(problem, errExposed):
		return problem, err
	}
	known := previous.byName[name]
	if known != nil && problem == nil && bytes.Equal(known.file, data) {
		return set.add(known), nil
	}
	var k *key
	if problem == nil {
		k, problem = parseKeyFile(name.use, name.number, data)
	}
	switch {
	case known == nil && problem != nil:
		return problem, nil
	case known == nil || problem == nil && k.kid != known.kid: // all were withdrawn, and others made
		return set.add(k), nil
	}
	set.damaged[known] = true
	problem = fmt.Errorf("%w; tokens made with the key that was read before are accepted until a restart", cmp.Or(problem, errOtherKey))
	return errors.Join(problem, set.add(known)), nil
}

var (
	errOtherKey = errors.New("it holds another key of the same kid than before")
	errExposed  = errors.New("lets others read or change the key (mend: if nobody has, chmod 600, or defaultMode 0440 of a Kubernetes Secret; otherwise retire it)")
)

func (f *folder) readFile(name string) (data []byte, problem, err error) {
	file, err := f.root.Open(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() //nolint:errcheck // only read from
	return readSecret(file, 0o077, maxKeyFileSize)
}

// readSecret reads a file that grants nobody the permissions.
func readSecret(file *os.File, permissions fs.FileMode, most int64) (data []byte, problem, err error) {
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a file"), nil
	case grants(info, permissions):
		return nil, fmt.Errorf("mode %#o %w", info.Mode().Perm(), errExposed), nil
	case info.Size() > most:
		return nil, fmt.Errorf("over %d bytes", most), nil
	}
	data, err = io.ReadAll(io.LimitReader(file, most))
	return data, nil, err
}

// add makes a key and gives its file the name, if the name is free: of all
// servers that try at the same moment, one wins, and the others find its key. It is on disk
// when add returns: no token may be sealed with a key that a power cut can take away.
func (f *folder) add(name keyName, now time.Time) error {
	data, err := newKeyFile(name.use, now, 0)
	if err != nil {
		return err
	}
	return durable.Create(f.root, name.String(), data)
}

// removeTemporary removes what servers that crashed while writing left behind.
func (f *folder) removeTemporary(now time.Time) error {
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), durable.TemporaryPrefix) {
			continue
		}
		info, statErr := entry.Info()
		if statErr == nil && now.Sub(info.ModTime()) > temporaryLife {
			err = errors.Join(err, durable.Remove(f.root, entry.Name()))
		}
	}
	return err
}
