//go:build !(pkcs11 && cgo)

package main

// readsHardware: keys in hardware are for another build.
const readsHardware = false
