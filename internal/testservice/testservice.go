// Package testservice says what becomes of a test for which this machine lacks something: it is skipped, or fails where nothing may
// be missing, as WAYBILL_TEST_SERVICES=require demands.
package testservice

import (
	"os"
	"os/exec"
	"testing"
)

// Required reports whether nothing may be missing.
func Required() bool { return os.Getenv("WAYBILL_TEST_SERVICES") == "require" }

// Need ends a test that lacks what the error tells of. Nil is nothing.
func Need(tb testing.TB, lacks error) {
	tb.Helper()
	switch {
	case lacks == nil:
	case Required():
		tb.Fatalf("%v, and WAYBILL_TEST_SERVICES=require demands it", lacks)
	default:
		tb.Skipf("%v; WAYBILL_TEST_SERVICES=require would make this a failure", lacks)
	}
}

// Program is where a program is that a test needs.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	Need(tb, err)
	return path
}
