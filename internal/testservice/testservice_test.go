package testservice_test

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/waybill-token/waybill/internal/testservice"
)

// A trial is a test of which only the end is of interest.
type trial struct {
	testing.TB

	end string
}

func (*trial) Helper()                 {}
func (r *trial) Skipf(string, ...any)  { r.end = "skipped" }
func (r *trial) Fatalf(string, ...any) { r.end = "failed" }

func TestNeed(t *testing.T) {
	for demand, want := range map[string]string{"require": "failed", "": "skipped"} {
		t.Setenv("WAYBILL_TEST_SERVICES", demand)
		var lacking, whole, noProgram trial
		testservice.Need(&lacking, errors.New("there is no root"))
		testservice.Need(&whole, nil)
		testservice.Program(&noProgram, "a-program-that-nobody-has")
		if lacking.end != want || whole.end != "" || noProgram.end != want {
			t.Errorf("%q: %q, %q, %q", demand, lacking.end, whole.end, noProgram.end)
		}
	}
	if want, err := exec.LookPath("go"); err == nil && testservice.Program(t, "go") != want {
		t.Error("go is elsewhere")
	}
}
