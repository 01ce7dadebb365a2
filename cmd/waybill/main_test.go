package main

import (
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain puts the program into the path of every test, as the command waybill. It
// is this test binary, race detector and all. More tests run at the same time than there are
// processors, since most of them wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil { // before the flags are read, so that they win
		panic(err)
	}
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=10") // each process would wait a second at its end
	}
	testscript.Main(m, map[string]func(){"waybill": main})
}
