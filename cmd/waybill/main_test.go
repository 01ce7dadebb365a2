package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain puts the program into the path of every test, as the command waybill. It
// is this test binary, race detector and all.
func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=10") // each process would wait a second at its end
	}
	testscript.Main(m, map[string]func(){"waybill": main})
}
