//go:build !unix

package regular

// withoutWaiting is for systems that have named pipes among the files.
const withoutWaiting = 0
