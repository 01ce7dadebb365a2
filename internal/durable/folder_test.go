package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/waybill-token/waybill/internal/durable"
	"github.com/waybill-token/waybill/internal/smalldisk"
)

const lock = "a.lock"

func claim(t *testing.T, dir string) *durable.Folder {
	t.Helper()
	f, err := durable.Claim(dir, lock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "above", "folder")
	f, err := durable.Claim(dir, lock)
	do(t, err)
	if other, err := durable.Claim(dir, lock); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("a second claim: %v, %v", other, err)
	}
	if !durable.InUse(dir, lock) {
		t.Error("it is not in use")
	}
	do(t, f.Replace("file", []byte("old")))
	put(t, filepath.Join(dir, "file.new"), "half", 0o600)
	do(t, f.Replace("file", []byte("new")))
	names(t, dir, lock, "file")
	if data, err := f.ReadFile("file"); string(data) != "new" {
		t.Errorf("it holds %q, %v", data, err)
	}
	put(t, filepath.Join(dir, "file.new"), "half", 0o600)
	for range 2 { // the second time there is nothing to remove
		do(t, f.Remove("file"))
		names(t, dir, lock)
	}
	do(t, os.MkdirAll(filepath.Join(dir, "folder", "inside"), 0o700))
	if err := f.Remove("folder"); err == nil {
		t.Error("a folder removed for a file")
	}
	do(t, f.Close())
	if durable.InUse(dir, lock) {
		t.Error("it is in use by nobody")
	}
	if err := claim(t, dir).Lost(); err != nil {
		t.Error(err)
	}
}

// Whatever takes the place of a folder, it is told, until the folder is back, and nothing that is done
// to the folder is done to the other, nor to one that another process may have for itself.
func TestLostFolder(t *testing.T) {
	t.Parallel()
	moved := func(t *testing.T, dir string) string {
		t.Helper()
		do(t, os.Rename(dir, dir+".moved"))
		return dir + ".moved"
	}
	for name, c := range map[string]struct {
		lose    func(t *testing.T, dir string) (now string) // where the folder is; empty: nowhere
		absent  bool                                        // nothing is at its path
		writes  bool                                        // the folder can still be written to
		forGood bool
	}{
		"removed": {lose: func(t *testing.T, dir string) string { do(t, os.RemoveAll(dir)); return "" }, absent: true, forGood: true},
		"removed and made": {lose: func(t *testing.T, dir string) string {
			do(t, os.RemoveAll(dir))
			do(t, os.Mkdir(dir, 0o700))
			return ""
		}, forGood: true},
		"moved":             {lose: moved, absent: true, writes: true},
		"exchanged":         {lose: func(t *testing.T, dir string) string { now := moved(t, dir); do(t, os.Mkdir(dir, 0o700)); return now }, writes: true},
		"claimed by others": {lose: func(t *testing.T, dir string) string { now := moved(t, dir); claim(t, dir); return now }, writes: true},
		"lock removed":      {lose: func(t *testing.T, dir string) string { do(t, os.Remove(filepath.Join(dir, lock))); return dir }, forGood: true},
		"lock of others": {lose: func(t *testing.T, dir string) string {
			do(t, os.Remove(filepath.Join(dir, lock)))
			claim(t, dir)
			return dir
		}, forGood: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "folder")
			f := claim(t, dir)
			do(t, f.Replace("file", []byte("ours")))
			do(t, f.Lost())
			now := c.lose(t, dir)
			if err := f.Lost(); err == nil || errors.Is(err, fs.ErrNotExist) != c.absent {
				t.Errorf("lost: %v", err)
			}
			if !c.absent && now != dir {
				put(t, filepath.Join(dir, "file"), "theirs", 0o600)
			}
			if err := f.Replace("file", []byte("again")); (err == nil) != c.writes {
				t.Errorf("Replace: %v", err)
			}
			if c.writes {
				if data, err := os.ReadFile(filepath.Join(now, "file")); string(data) != "again" {
					t.Errorf("it holds %q, %v", data, err)
				}
			}
			if err := f.Remove("file"); (err == nil) != c.writes {
				t.Errorf("Remove: %v", err)
			}
			if data, err := os.ReadFile(filepath.Join(dir, "file")); !c.absent && now != dir && string(data) != "theirs" {
				t.Errorf("the other folder holds %q, %v", data, err)
			}
			if !c.forGood {
				do(t, os.RemoveAll(dir))
				do(t, os.Rename(now, dir))
				do(t, f.Lost())
			}
		})
	}
}

func TestCheckLocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := durable.CheckLocks(dir); err != nil {
		t.Error(err)
	}
	names(t, dir)
	if err := durable.CheckLocks(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("no error where nothing is")
	}
}

func TestCheckWritable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	do(t, durable.CheckWritable(dir))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v behind: %v", left, err)
	}
	if err := durable.CheckWritable(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	full, grow := smalldisk.Mount(t)
	if err := os.WriteFile(filepath.Join(full, "filling"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not small")
	}
	if err := durable.CheckWritable(full); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a disk that is full: %v", err)
	}
	grow()
	do(t, durable.CheckWritable(full))
}
