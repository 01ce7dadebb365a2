//go:build unix

package permission

import (
	"io/fs"
	"syscall"
)

// hasModes tells that the mode of a file says who may do what.
const hasModes = true

// An Owner is the account and the group to which a file belongs, by their numbers.
type Owner struct{ User, Group int }

// OwnerOf is false when the file system does not say.
func OwnerOf(info fs.FileInfo) (Owner, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{}, false
	}
	return Owner{int(stat.Uid), int(stat.Gid)}, true
}

func sameDevice(a, b fs.FileInfo) bool {
	one, ok := a.Sys().(*syscall.Stat_t)
	other, also := b.Sys().(*syscall.Stat_t)
	return ok && also && one.Dev == other.Dev
}
