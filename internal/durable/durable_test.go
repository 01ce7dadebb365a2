package durable_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/internal/durable"
)

// want checks that the folder holds one file, that its owner alone can read it, and what is in it.
func want(t *testing.T, path, text string) {
	t.Helper()
	names(t, filepath.Dir(path), filepath.Base(path))
	data, err := os.ReadFile(path)
	if err != nil || string(data) != text {
		t.Errorf("it holds %.40q, %v; want %.40q", data, err, text)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// create is Create by a path.
func create(path string, data []byte) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(durable.Create(root, filepath.Base(path), data), root.Close())
}

// replace is Folder.Replace by a path.
func replace(path string, data []byte) error {
	f, err := durable.Claim(filepath.Dir(path), lock)
	if err != nil {
		return err
	}
	return errors.Join(f.Replace(filepath.Base(path), data), f.Close(), os.Remove(filepath.Join(filepath.Dir(path), lock)))
}

// names checks what the folder holds.
func names(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "", strings.Repeat("long", 1<<16), "short"} {
		if err := replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		want(t, path, text)
	}
}

// Neither what a crash has left nor the mode of the file before shows in the new one.
func TestReplaceStartsAfresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put(t, path, "old", 0o644)
	put(t, path+".new", "half of something longer", 0o644)
	if err := replace(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	want(t, path, "new")
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	put(t, filepath.Join(dir, "unrelated"), "", 0o600)
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, []byte("new")); err == nil {
		t.Error("a file in the place of a folder")
	}
	if err := create(filepath.Join(dir, "nowhere", "file"), nil); err == nil {
		t.Error("a file in a folder that does not exist")
	}
	names(t, dir, "file", "unrelated")
}

// Who reads while others write sees one file or the other.
func TestReplaceIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	texts := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<17)}
	put(t, path, string(texts[0]), 0o600)
	done := make(chan struct{})
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				data, err := os.ReadFile(path)
				if err != nil || !slices.ContainsFunc(texts, func(text []byte) bool { return bytes.Equal(text, data) }) {
					t.Errorf("%d bytes, %v", len(data), err)
				}
			}
		})
	}
	for i := range 50 {
		if err := replace(path, texts[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(done)
	reading.Wait()
}

func TestCreateLeavesWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "second"} {
		if err := create(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		want(t, path, "first")
	}
}

// Of many that create one file, one wins, and all find what it has written.
func TestCreateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	start := make(chan struct{})
	found := make([]string, 32)
	var creating sync.WaitGroup
	for n := range found {
		creating.Go(func() {
			<-start
			if err := create(path, []byte{byte('A' + n)}); err != nil {
				t.Error(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			found[n] = string(data)
		})
	}
	close(start)
	creating.Wait()
	slices.Sort(found)
	if found[0] != found[len(found)-1] {
		t.Errorf("they found %q", found)
	}
	want(t, path, found[0])
}
