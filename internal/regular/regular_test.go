//go:build unix

package regular_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/waybill-token/waybill/internal/regular"
)

// A file is opened by a link too, as a Kubernetes Secret has them; a pipe, which nobody writes to, is refused at once.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link, pipe, toPipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe"), filepath.Join(dir, "to-pipe")
	if err := errors.Join(os.WriteFile(file, []byte("text"), 0o600), os.Symlink("file", link), syscall.Mkfifo(pipe, 0o600), os.Symlink("pipe", toPipe)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		opened, err := regular.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(opened); string(text) != "text" || err != nil {
			t.Errorf("%s: %q, %v", path, text, err)
		}
		opened.Close()
	}
	for _, path := range []string{pipe, toPipe, dir, os.DevNull} {
		if _, err := regular.Open(path); !errors.Is(err, regular.ErrOther) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := regular.Open(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}
