//go:build unix

package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/waybill-token/waybill/internal/permission"
)

// wantFile checks whose a file is, and its mode.
func wantFile(t *testing.T, path string, want permission.Owner, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner, _ := permission.OwnerOf(info); owner != want || info.Mode() != mode {
		t.Errorf("%s: %+v, mode %v; want %+v, %v", filepath.Base(path), owner, info.Mode(), want, mode)
	}
}

// Rewrite leaves to a file who may read it; a new one is its owner's alone.
func TestRewriteKeepsTheMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, path := claim(t, dir), filepath.Join(dir, "file")
	own := permission.Owner{User: os.Geteuid(), Group: os.Getegid()}
	do(t, f.Rewrite("file", []byte("one")))
	wantFile(t, path, own, 0o600)
	do(t, os.Chmod(path, 0o640))
	do(t, f.Rewrite("file", []byte("two")))
	wantFile(t, path, own, 0o640)
	do(t, f.Replace("file", []byte("three")))
	wantFile(t, path, own, 0o600)
}

// What root writes for the account of a server belongs to that account.
func TestRootWritesForAnother(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user, group = 12345, 23456
	dir := t.TempDir()
	f := claim(t, dir)
	do(t, os.Chown(dir, user, group))
	path := filepath.Join(dir, "file")
	do(t, f.Rewrite("file", []byte("one")))
	wantFile(t, path, permission.Owner{User: user, Group: os.Getegid()}, 0o600)
	do(t, errors.Join(os.Chown(path, user+1, group), os.Chmod(path, 0o440)))
	do(t, f.Rewrite("file", []byte("two")))
	wantFile(t, path, permission.Owner{User: user + 1, Group: group}, 0o440)
	do(t, create(filepath.Join(dir, "created"), []byte("one")))
	wantFile(t, filepath.Join(dir, "created"), permission.Owner{User: user, Group: os.Getegid()}, 0o600)
}
