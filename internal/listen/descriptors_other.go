//go:build !unix

package listen

// Descriptors is how many files and sockets the process may have open. Here nothing
// limits them.
func Descriptors() int { return unlimited }
