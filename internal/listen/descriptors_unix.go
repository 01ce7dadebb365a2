//go:build unix

package listen

import "syscall"

// Descriptors is how many files and sockets the process may have open. The Go runtime has
// raised the soft limit to the hard one.
func Descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return unlimited
	}
	return int(min(limit.Cur, unlimited))
}
