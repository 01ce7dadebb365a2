//go:build unix

package regular

import "syscall"

// withoutWaiting opens a pipe that has no writer at once, and makes no terminal ours. Of a regular file it changes nothing.
const withoutWaiting = syscall.O_NONBLOCK | syscall.O_NOCTTY
