package accesstoken_test

import (
	"os"
	"testing"

	"github.com/waybill-token/waybill/accesstoken"
)

// open counts the descriptors of this process that are of a folder.
func open(t *testing.T, folder string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if target, _ := os.Readlink("/proc/self/fd/" + entry.Name()); target == folder {
			n++
		}
	}
	return n
}

// A ring holds its folder open, and gives it back when it is closed and not when the garbage is collected: a server that reads
// its configuration again often has a ring each time.
func TestCloseGivesTheFolderBack(t *testing.T) {
	folder := t.TempDir()
	keys, err := accesstoken.OpenKeys(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	if open(t, folder) == 0 {
		t.Error("the folder is not held open")
	}
	for range 2 {
		if err := keys.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := open(t, folder); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
	if len(keys.PublicJWKS()) == 0 || keys.Problem() != nil {
		t.Errorf("the keys are lost: %v", keys.Problem())
	}
}
