// Package smalldisk gives tests a file system that is soon full, or read-only. Without the right to mount one, a test is skipped, or
// fails where services are demanded.
package smalldisk

import (
	"fmt"
	"testing"

	"github.com/waybill-token/waybill/internal/testservice"
)

// Mount mounts one of a few pages, for as long as the test runs. Grow makes room on it.
func Mount(t *testing.T) (dir string, grow func()) {
	t.Helper()
	dir = mounted(t, "size=64k", fresh)
	return dir, func() {
		t.Helper()
		if err := mount(dir, "size=1m", again); err != nil {
			t.Fatal(err)
		}
	}
}

// ReadOnly mounts one that nobody can write, for as long as the test runs.
func ReadOnly(t *testing.T) (dir string) {
	t.Helper()
	return mounted(t, "size=64k", readOnly)
}

// A way is how a file system is mounted.
type way int

const (
	fresh way = iota
	again     // what is mounted already, with other options
	readOnly
)

func mounted(t *testing.T, options string, how way) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := mount(dir, options, how); err != nil {
		testservice.Need(t, fmt.Errorf("no file system can be mounted: %w", err))
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
