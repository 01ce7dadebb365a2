//go:build pkcs11 && cgo

package keyfile

import (
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// A library is a PKCS#11 module that is loaded. It is started and ended for the whole
// process, so that all keys behind one module share it.
type library struct {
	*pkcs11.Ctx

	path  string
	users int
}

var libraries = struct { //nolint:gochecknoglobals // a module is started once in a process
	mu     sync.Mutex
	loaded map[string]*library
}{loaded: make(map[string]*library)}

func load(path string) (*library, error) {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	lib := libraries.loaded[path]
	if lib == nil {
		ctx := pkcs11.New(path)
		if ctx == nil {
			return nil, refuse(nil, "Check module-path: it names the library that came with the token, built for this machine.",
				"%s cannot be loaded as a PKCS#11 library", path)
		}
		if err := ctx.Initialize(); err != nil {
			ctx.Destroy()
			return nil, refuse(err, "See the manual of the token: many libraries want a configuration file or a variable.",
				"the PKCS#11 library %s does not start: %v", path, err)
		}
		lib = &library{Ctx: ctx, path: path}
		libraries.loaded[path] = lib
	}
	lib.users++
	return lib, nil
}

// release ends the library with its last user.
func (lib *library) release() {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	lib.users--
	if lib.users > 0 {
		return
	}
	delete(libraries.loaded, lib.path)
	_ = lib.Finalize() // then it is as good as ended
	lib.Destroy()
}

// find gives the slot of the one token that the URI means.
func (lib *library) find(u *keyURI) (uint, error) {
	slots, err := lib.GetSlotList(true)
	if err != nil {
		return 0, refuse(err, "See the manual of the token.", "the PKCS#11 library lists no tokens: %v", err)
	}
	var found []uint
	var others []string
	for _, slot := range slots {
		info, err := lib.GetTokenInfo(slot)
		switch {
		case err != nil: // being taken out, or not the one
		case u.means(slot, &info):
			found = append(found, slot)
		case info.Label == "" && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0: // SoftHSM always has one to spare
		default:
			others = append(others, fmt.Sprintf("%q", info.Label))
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, refuse(nil, "Add serial= or slot-id=; pkcs11-tool --list-token-slots shows them.", "%d tokens match the URI", len(found))
	case len(others) == 0:
		return 0, refuse(nil, "Connect the token, and check that the account that Waybill runs under may use it.", "the PKCS#11 library sees no token")
	}
	return 0, refuse(nil, "Correct token=, serial= or slot-id= in the URI.", "no token matches the URI; the tokens that are there: %s", strings.Join(others, ", "))
}

func (u *keyURI) means(slot uint, info *pkcs11.TokenInfo) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(u.token, info.Label) && same(u.serial, info.SerialNumber) && same(u.model, info.Model) &&
		same(u.manufacturer, info.ManufacturerID) && (u.slot == nil || *u.slot == slot)
}
