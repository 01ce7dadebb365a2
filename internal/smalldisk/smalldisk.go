// Package smalldisk gives tests a file system that is soon full.
package smalldisk

import (
	"os"
	"testing"
)

// Mount mounts one of a few pages, for as long as the test runs. Grow makes room on it. Without the right to mount, the test is
// skipped, or fails where services are demanded.
func Mount(t *testing.T) (dir string, grow func()) {
	t.Helper()
	dir = t.TempDir()
	if err := mount(dir, "size=64k", false); err != nil {
		if os.Getenv("WAYBILL_TEST_SERVICES") == "require" {
			t.Fatal(err)
		}
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir, func() {
		t.Helper()
		if err := mount(dir, "size=1m", true); err != nil {
			t.Fatal(err)
		}
	}
}
