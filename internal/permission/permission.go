// Package permission finds out who besides root and the account of this process may change a file,
// or read a secret: what OpenSSH looks for in the files that decide who gets in (StrictModes).
//
// The mode and the owner of the file count, and those of every folder and symbolic link on the way
// to it: who may write in a folder can put another file in the place of one in it, unless the
// folder has the sticky bit. Access control lists are seen as far as they show in the bits of the
// group, which are their mask. Where files have no such modes and owners, as on Windows, nothing is found.
package permission

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Finding is something that others may do, fit to be shown to the person who keeps the file.
type Finding struct {
	Path    string // of the file, or of a folder or link on the way to it
	Message string // what others may do
	Hint    string // what to do about it

	// Everybody tells that every account of the machine may change the file: whoever relies on it
	// must not go on. Otherwise those who may can have been meant to, such as the members of a group.
	Everybody bool
}

// maxLinks is how many symbolic links are followed, as many as Linux does.
const maxLinks = 40

// Of finds what others may do with a file or folder. A file that holds a secret, such as a "private
// key", is one that others should not read either; otherwise secret is empty. What does not exist,
// or cannot be reached, is told of by the folders above it.
func Of(path, secret string) []Finding {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil // then nothing relative can be opened either
	}
	var found []Finding
	rest := components(absolute)
	for at, links := string(filepath.Separator), 0; ; at, rest = filepath.Join(at, rest[0]), rest[1:] {
		info, err := os.Lstat(at)
		switch {
		case err != nil:
			return found
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(at)
			links++
			if err != nil || links > maxLinks {
				return found
			}
			found = append(found, otherOwner(at, info)...)
			rest = append(components(target), rest...)
			if at = filepath.Dir(at); filepath.IsAbs(target) {
				at = string(filepath.Separator)
			}
		case len(rest) == 0:
			found = append(found, mayChange(at, info)...)
			if secret == "" {
				return found
			}
			if reads, ok := Readable(path, secret); ok {
				found = append(found, reads)
			}
			return found
		case info.Mode()&fs.ModeSticky != 0: // others may only add to it
			found = append(found, otherOwner(at, info)...)
		default:
			found = append(found, mayChange(at, info)...)
		}
	}
}

// components splits a path at its separators. There is one at least.
func components(path string) []string {
	return strings.Split(strings.TrimPrefix(path, string(filepath.Separator)), string(filepath.Separator))
}

// maxFindings bounds what is told of one folder: a wrong owner is often that of all its files.
const maxFindings = 10

// Within finds what others may do with a folder, as [Of] does, and with everything in it. After ten
// findings there are only those about everybody.
func Within(dir string) []Finding {
	found := Of(dir, "")
	inner, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return found
	}
	_ = filepath.WalkDir(inner, func(path string, entry fs.DirEntry, _ error) error { // what cannot be read, who opens it will tell
		if path == inner {
			return nil // among those of Of
		}
		var inside []Finding
		if entry.Type()&fs.ModeSymlink != 0 {
			inside = Of(path, "")
		} else if info, err := entry.Info(); err == nil { // otherwise it has gone meanwhile
			inside = mayChange(path, info)
		}
		for _, f := range inside {
			if f.Everybody || len(found) < maxFindings {
				found = append(found, f)
			}
		}
		return nil
	})
	return found
}

const (
	groupMayWrite  = 0o020
	othersMayWrite = 0o002
	groupMayRead   = 0o040
	groupMayPass   = 0o010
	othersMayRead  = 0o004
	othersMayPass  = 0o001
)

// mayChange finds who may change what is at the path, which is no link: by its mode, and by owning it.
func mayChange(path string, info fs.FileInfo) []Finding {
	o, known := OwnerOf(info)
	if !known || !info.IsDir() && !info.Mode().IsRegular() {
		return otherOwner(path, info) // a device holds nothing, whoever writes to it
	}
	what := "change it"
	if info.IsDir() {
		what = "exchange what is in it"
	}
	// Most systems make a group with each account and give it the same number: it has no other members.
	ownGroup := o.User == o.Group && o.User != 0
	mode := info.Mode().Perm()
	var found []Finding
	switch {
	case mode&othersMayWrite != 0 && isVolume(path, info):
		found = []Finding{{
			Path:    path,
			Message: fmt.Sprintf("every account that reaches this volume may %s (mode %04o)", what, mode),
			Hint:    "Give the volume to the account of the server, or let it hold nothing else and no other account reach it.",
		}}
	case mode&othersMayWrite != 0:
		found = []Finding{{
			Path:      path,
			Message:   fmt.Sprintf("every account of this machine may %s (mode %04o)", what, mode),
			Hint:      "See that nobody has, and run: chmod go-w " + Quote(path) + ".",
			Everybody: true,
		}}
	case mode&groupMayWrite != 0 && !ownGroup:
		found = []Finding{{
			Path:    path,
			Message: fmt.Sprintf("the members of the group with the number %d may %s (mode %04o)", o.Group, what, mode),
			Hint:    "Unless that is meant, run: chmod g-w " + Quote(path) + ".",
		}}
	}
	return append(found, otherOwner(path, info)...)
}

// isVolume finds the top of a mounted volume. Kubernetes gives an emptyDir the mode 0777, and so do
// others who make volumes: within a container that tells nothing about who reaches it, and whoever
// runs the container often cannot change it.
func isVolume(path string, info fs.FileInfo) bool {
	above, err := os.Stat(filepath.Dir(path))
	return err == nil && info.IsDir() && !sameDevice(info, above)
}

// otherOwner finds an owner that is neither root nor the account of this process.
func otherOwner(path string, info fs.FileInfo) []Finding {
	o, known := OwnerOf(info)
	if !known || o.User == 0 || o.User == os.Geteuid() {
		return nil
	}
	return []Finding{{
		Path:    path,
		Message: fmt.Sprintf("it belongs to the account with the number %d, which may change it", o.User),
		Hint:    "Unless the server runs as that account, run: chown root " + Quote(path) + ".",
	}}
}

// Readable finds who besides root and its owner may read a file that holds a secret, such as "private key": every account
// of the machine, or the members of a group. What they cannot come to they cannot read, so the folders on the way count.
//
// A group is not told of that is the one of the owner alone, of the same number, or root's. Nor is it when the file
// is root's: then its group was chosen so that an account which is not root can read it, as Kubernetes (fsGroup),
// systemd (LoadCredential) and Debian (ssl-cert) do.
func Readable(path, secret string) (Finding, bool) {
	at, err := filepath.EvalSymlinks(path)
	if err == nil {
		at, err = filepath.Abs(at)
	}
	if err != nil {
		return Finding{}, false // nothing can be read, or it is no file
	}
	info, err := os.Stat(at)
	if err != nil || !hasModes {
		return Finding{}, false
	}
	who := readersOf(info)
	for dir := filepath.Dir(at); who.anybody(); dir = filepath.Dir(dir) {
		above, err := os.Stat(dir)
		if err != nil {
			return Finding{}, false
		}
		who = who.passing(above)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	found := Finding{Path: path}
	switch o, _ := OwnerOf(info); {
	case who.everybody:
		found.Message = fmt.Sprintf("every account of this machine can read the %s (mode %04o)", secret, info.Mode().Perm())
		found.Hint = fmt.Sprintf("Run: chmod o= %s (in Kubernetes: defaultMode 0440 on the secret's volume).", Quote(path))
	case who.group > 0 && o.User != 0 && o.User != who.group:
		found.Message = fmt.Sprintf("the members of the group with the number %d can read the %s (mode %04o)", who.group, secret, info.Mode().Perm())
		found.Hint = fmt.Sprintf("Unless that is meant, run: chmod 600 %s.", Quote(path))
	default:
		return Finding{}, false
	}
	return found, true
}

// readers are who may read a file besides its owner and root: everybody, or the members of a group, which is 0 for nobody.
type readers struct {
	everybody bool
	group     int
}

func (r readers) anybody() bool { return r.everybody || r.group > 0 }

func readersOf(info fs.FileInfo) readers {
	switch o, known := OwnerOf(info); {
	case !known:
		return readers{}
	case info.Mode()&othersMayRead != 0:
		return readers{everybody: true}
	case info.Mode()&groupMayRead != 0:
		return readers{group: o.Group}
	}
	return readers{}
}

// passing are those who get through a folder.
func (r readers) passing(folder fs.FileInfo) readers {
	o, known := OwnerOf(folder)
	switch passes := known && folder.Mode()&groupMayPass != 0; {
	case folder.Mode()&othersMayPass != 0:
		return r
	case passes && (r.everybody || r.group == o.Group):
		return readers{group: o.Group}
	}
	return readers{}
}

// Quote makes a path one word of a shell command.
func Quote(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }
