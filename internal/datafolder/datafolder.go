// Package datafolder defines the layout of the folder in which a provider keeps its state, and finds
// out from it whether the provider has served before.
package datafolder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/replay"
)

// A Folder is the data folder of a provider.
type Folder struct {
	Path     string
	KeysPath string // of the token keys, or a JWK Set in their place: see [accesstoken.OpenKeys]; empty: within Path
}

// Keys is the source of the token keys.
func (f Folder) Keys() string { return cmp.Or(f.KeysPath, filepath.Join(f.Path, "keys")) }

// Replay is the folder of the used assertions.
func (f Folder) Replay() string { return filepath.Join(f.Path, "replay") }

// Revocations is the folder of the revoked access tokens.
func (f Folder) Revocations() string { return filepath.Join(f.Path, "revocations") }

// Kept is the folder of signed answers of a kind.
func (f Folder) Kept(kind string) string { return filepath.Join(f.Path, "kept", kind) }

// InUse reports whether a running provider has the folder.
func (f Folder) InUse() bool { return replay.InUse(f.Replay()) }

// HasKeysWithin reports whether the token keys lie in the folder, where no other provider shares them. A JWK Set is made to be
// shared, wherever it lies.
func (f Folder) HasKeysWithin() bool {
	if accesstoken.IsKeySet(f.Keys()) {
		return false
	}
	within, err := filepath.Rel(f.Path, f.Keys())
	return err == nil && filepath.IsLocal(within)
}

// HasServed reports whether tokens may have been issued from the folder that are still
// accepted: there are keys, and if they lie elsewhere, where other servers may have made
// them, the folder shows an earlier run besides. An error is about the keys.
func (f Folder) HasServed() (bool, error) {
	keys, err := accesstoken.HaveKeys(f.Keys())
	if err != nil || !keys || f.HasKeysWithin() {
		return keys, err
	}
	if _, err = os.Stat(f.Replay()); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ErrServedBefore says that a start is not the first.
var ErrServedBefore = errors.New("this is not the first start")

// CheckFirstStart is nil when nothing shows that the party has served before: the folder and that of the
// token keys are empty or absent. A JWK Set in place of the latter shows nothing, as it is made before. The error wraps
// [ErrServedBefore], or tells why a folder cannot be read. That the party has not served with other folders, which are
// lost, nobody but the operator can know.
func (f Folder) CheckFirstStart() error {
	dirs := []string{f.Path}
	if !accesstoken.IsKeySet(f.Keys()) {
		dirs = append(dirs, f.Keys())
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.Name() != "lost+found" { // which a file system of its own has
				return fmt.Errorf("%w: there is %s", ErrServedBefore, filepath.Join(dir, e.Name()))
			}
		}
	}
	return nil
}
