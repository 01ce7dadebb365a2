//go:build unix

package regular_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
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
	if opened, err := regular.OpenAny(pipe); err != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(opened); len(text) > 0 || err != nil {
		t.Errorf("of a pipe without a writer: %q, %v", text, err)
	}
	_, err := regular.Open(filepath.Join(dir, "absent"))
	if pathError, ok := errors.AsType[*fs.PathError](err); !ok || pathError.Op != "open" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// A pipe that takes the place of a file between two looks at it is not waited for either.
func TestOpenExchanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, pipe, path := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "path")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), syscall.Mkfifo(pipe, 0o600), os.Symlink("file", path)); err != nil {
		t.Fatal(err)
	}
	var exchanging sync.WaitGroup
	done := make(chan struct{})
	exchanging.Go(func() {
		next := filepath.Join(dir, "next")
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if err := errors.Join(os.Symlink([]string{"pipe", "file"}[i%2], next), os.Rename(next, path)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20_000 {
		if opened, err := regular.Open(path); err == nil {
			opened.Close()
		} else if !errors.Is(err, regular.ErrOther) {
			t.Error(err)
			break
		}
	}
	close(done)
	exchanging.Wait()
}
