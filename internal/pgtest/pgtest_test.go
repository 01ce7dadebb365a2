//go:build linux

package pgtest_test

import (
	"testing"

	"github.com/waybill-token/waybill/internal/pgtest"
)

// What was acknowledged outlives a kill, and a standby that takes over has it.
func TestServers(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, "synchronous_standby_names=s1")
	standby := primary.Standby("s1", "synchronous_standby_names=")
	primary.SQL("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
	primary.Kill()
	if _, err := primary.TrySQL("SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	primary.Restart()
	primary.Pause()
	primary.Resume()
	primary.SQL("INSERT INTO kept VALUES (2)")
	if got := standby.SQL("SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("the standby is in recovery: %s", got)
	}
	primary.Kill()
	standby.Promote()
	standby.SQL("INSERT INTO kept VALUES (3)")
	standby.Stop()
	standby.Restart()
	if got := standby.SQL("SELECT sum(n) FROM kept"); got != "6" {
		t.Errorf("the sum is %s", got)
	}
}
