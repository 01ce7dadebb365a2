//go:build unix

package audit

import (
	"os"
	"syscall"
)

// isUnlinked reports whether a file has no name any more.
func isUnlinked(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
