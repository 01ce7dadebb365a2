package kept

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

func open(tb testing.TB, dir string, limits Limits, log *bytes.Buffer) *Folder {
	tb.Helper()
	f, err := Open(dir, limits, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

func roomy() Limits { return Limits{Files: 100, Bytes: 1 << 20} }

func want(tb testing.TB, f *Folder, name, text string) {
	tb.Helper()
	if data, ok := f.Get(name); !ok || string(data) != text {
		tb.Errorf("under %.40q there is %.40q, %v; want %.40q", name, data, ok, text)
	}
}

func wantAbsent(tb testing.TB, f *Folder, names ...string) {
	tb.Helper()
	for _, name := range names {
		if data, ok := f.Get(name); ok {
			tb.Errorf("under %.40q there is %.40q, want nothing", name, data)
		}
	}
}

// inFolder lists the names of what is in a folder.
func inFolder(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOutlivesTheProcess(t *testing.T) {
	var log bytes.Buffer
	dir := filepath.Join(t.TempDir(), "data", "kept")
	texts := map[string]string{"a": "first", "": "no name", "../../etc/passwd": "a path", strings.Repeat("long\x00", 1<<12): "", "b": strings.Repeat("b", 1<<17)}
	f := open(t, dir, roomy(), &log)
	f.Put("a", []byte("replaced"), tomorrow())
	for name, text := range texts {
		f.Put(name, []byte(text), tomorrow())
	}
	for range 2 {
		for name, text := range texts {
			want(t, f, name, text)
		}
		wantAbsent(t, f, "c")
		if files, bytes := f.Len(); files != len(texts) || bytes < 1<<17 || bytes > 1<<17+1<<10 {
			t.Errorf("%d files, %d bytes", files, bytes)
		}
		_ = f.Close()
		wantAbsent(t, f, slices.Collect(maps.Keys(texts))...)
		f.Put("a", []byte("too late"), tomorrow())
		f.Remove("a")
		f = open(t, dir, roomy(), &log)
	}
	f.Remove("a")
	f.Remove("c")
	wantAbsent(t, f, "a")
	if names := inFolder(t, dir); len(names) != len(texts)-1 || log.Len() > 0 {
		t.Errorf("the folder holds %q, the log says %s", names, &log)
	}
}

func TestNilKeepsNothing(t *testing.T) {
	var f *Folder
	f.Put("a", []byte("text"), tomorrow())
	f.Remove("a")
	wantAbsent(t, f, "a")
	if files, bytes := f.Len(); files != 0 || bytes != 0 || f.Close() != nil {
		t.Errorf("%d files, %d bytes", files, bytes)
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has other modes")
	}
	dir := filepath.Join(t.TempDir(), "kept")
	open(t, dir, roomy(), &bytes.Buffer{}).Put("a", nil, tomorrow())
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, fileName("a")): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// What ends soonest makes room, and a name that is replaced takes no more room than it needs.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
	}{
		{"files", Limits{Files: 16, Bytes: 1 << 20}},
		{"bytes", Limits{Files: 100, Bytes: 16 * 132}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, dir, test.limits, &bytes.Buffer{})
			text := bytes.Repeat([]byte("x"), 100)
			now := time.Now()
			for n := range 200 {
				f.Put("first", text, now.Add(48*time.Hour))
				f.Put(fmt.Sprint(n), text, now.Add(time.Hour+time.Duration(n)*time.Second))
				files, bytes := f.Len()
				if names := inFolder(t, dir); files > test.limits.Files || bytes > test.limits.Bytes || len(names) != files {
					t.Fatalf("%d files, %d bytes, %d names", files, bytes, len(names))
				}
			}
			want(t, f, "first", string(text))
			want(t, f, "199", string(text))
			want(t, f, "190", string(text))
			wantAbsent(t, f, "0", "180")

			f.Put("190", bytes.Repeat(text, 1<<15), tomorrow()) // larger than all together
			wantAbsent(t, f, "190")
			_ = f.Close()
			f = open(t, dir, Limits{Files: 2, Bytes: 1 << 20}, &bytes.Buffer{})
			if names := inFolder(t, dir); len(names) != 2 {
				t.Errorf("opened with lower limits, it holds %d files", len(names))
			}
			want(t, f, "first", string(text))
		})
	}
}

func TestWhatHasEndedIsRemoved(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, err := Open(dir, roomy(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		f.Put("past", nil, time.Now())
		f.Put("short", nil, time.Now().Add(time.Hour))
		f.Put("gone", nil, time.Now().Add(time.Hour))
		f.Put("gone", nil, time.Now().Add(-time.Hour))
		f.Put("forever", nil, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		if names := inFolder(t, dir); len(names) != 2 {
			t.Errorf("the folder holds %q", names)
		}
		time.Sleep(time.Hour)
		f.Put("new", nil, time.Now().Add(time.Hour))
		wantAbsent(t, f, "short")
		_ = f.Close()
		time.Sleep(time.Hour)
		if f, err = Open(dir, roomy(), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if names := inFolder(t, dir); len(names) != 1 || names[0] != fileName("forever") {
			t.Errorf("the folder holds %q", names)
		}
	})
}

// Whatever stands in the place of a file, there is nothing, and it can be put again.
func TestDamagedFilesAreAbsent(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir, path string){
		"empty":     func(t *testing.T, _, path string) { rewrite(t, path, func([]byte) []byte { return nil }) },
		"truncated": func(t *testing.T, _, path string) { rewrite(t, path, func(b []byte) []byte { return b[:len(b)-1] }) },
		"longer":    func(t *testing.T, _, path string) { rewrite(t, path, func(b []byte) []byte { return append(b, 0) }) },
		"the sum alone": func(t *testing.T, _, path string) {
			rewrite(t, path, func(b []byte) []byte { return b[:32] })
		},
		"a bit": func(t *testing.T, _, path string) {
			rewrite(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		},
		"huge": func(t *testing.T, _, path string) {
			rewrite(t, path, func([]byte) []byte { return make([]byte, 2<<20) })
		},
		"another's": func(t *testing.T, dir, path string) {
			rename(t, filepath.Join(dir, fileName("other")), path)
		},
		"removed": func(t *testing.T, _, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, dir, path string) {
			rename(t, path, filepath.Join(dir, "elsewhere"))
			if err := os.Symlink("elsewhere", path); err != nil {
				t.Skip(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			dir := t.TempDir()
			f := open(t, dir, roomy(), &log)
			for _, again := range []bool{false, true} { // found by who wrote it, and after a start
				f.Put("a", []byte("some text"), tomorrow())
				f.Put("other", []byte("other text"), tomorrow())
				if again {
					_ = f.Close()
				}
				damage(t, dir, filepath.Join(dir, fileName("a")))
				if again {
					f = open(t, dir, roomy(), &log)
				}
				wantAbsent(t, f, "a")
				f.Put("a", []byte("new"), tomorrow())
				want(t, f, "a", "new")
			}
			if log.Len() > 0 {
				t.Errorf("the log says %s", &log)
			}
		})
	}
}

func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
	future := tomorrow() // or a start removes it as one that has ended
	if err := os.Chtimes(path, future, future); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// Whoever puts a folder of theirs in the place of ours gets nothing, and the log says once that
// nothing is kept.
func TestExchangedFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let a folder go that is open")
	}
	for _, removed := range []bool{false, true} {
		var log bytes.Buffer
		dir := filepath.Join(t.TempDir(), "kept")
		f := open(t, dir, roomy(), &log)
		f.Put("a", []byte("text"), tomorrow())
		rename(t, dir, dir+"-before")
		if removed {
			if err := os.RemoveAll(dir + "-before"); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			f.Put(name, []byte("secret"), tomorrow())
		}
		if names := inFolder(t, dir); len(names) > 0 {
			t.Errorf("removed: %v: written into the new folder: %q", removed, names)
		}
		if n := strings.Count(log.String(), "cannot be kept"); removed && n != 1 || !removed && n != 0 {
			t.Errorf("removed: %v: the log says %s", removed, &log)
		}
	}
}

// What cannot be replaced is removed: it may be a yes, and the last word a no.
func TestNothingIsLeftBehindByFailures(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	f := open(t, dir, Limits{Files: 2, Bytes: 1 << 10}, &log)
	f.Put("a", []byte("before"), tomorrow())
	f.Put("b", []byte("text"), time.Now().Add(time.Hour))
	path := filepath.Join(dir, fileName("b"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil { // which cannot make room
		t.Fatal(err)
	}
	f.Put("a", bytes.Repeat([]byte("a"), 960), tomorrow())
	if !strings.Contains(log.String(), "cannot be kept") {
		t.Fatalf("it was kept: %s", &log)
	}
	wantAbsent(t, f, "a")
	wantAbsent(t, open(t, dir, roomy(), &log), "a")
}

// A name that another process has kept is removed, and replaced by nothing, like one's own.
func TestRemoveWhatAnotherHasKept(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	f, other := open(t, dir, roomy(), &log), open(t, dir, roomy(), &log)
	for _, name := range []string{"a", "b"} {
		other.Put(name, []byte("text"), tomorrow())
	}
	f.Remove("a")
	f.Put("b", []byte("over"), time.Now())
	wantAbsent(t, open(t, dir, roomy(), &log), "a", "b")
	if log.Len() > 0 {
		t.Errorf("the log says %s", &log)
	}
}

// The log is told once of each spell in which nothing can be kept.
func TestFailureIsToldOnce(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	f := open(t, dir, roomy(), &log)
	path := filepath.Join(dir, fileName("a"))
	for spell := range 3 {
		if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			f.Put("a", []byte("text"), tomorrow())
		}
		if n := strings.Count(log.String(), "level=WARN"); n != spell+1 {
			t.Errorf("after %d spells the log says %s", spell+1, &log)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		f.Put("a", []byte("text"), tomorrow())
		want(t, f, "a", "text")
		f.Remove("a")
	}
	if names := inFolder(t, dir); len(names) > 0 {
		t.Errorf("failures left %q", names)
	}
}

// What is not ours stays, and what a crash left goes when no other process can be at it.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * temporaryLife)
	for name, at := range map[string]time.Time{
		"README": old, ".new-other": time.Now(), ".new-old": old, strings.ToUpper(fileName("a")): old, fileName("b"): old,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, dir, roomy(), &bytes.Buffer{})
	left := []string{".new-other", strings.ToUpper(fileName("a")), "README"}
	slices.Sort(left)
	if names := inFolder(t, dir); !slices.Equal(names, left) {
		t.Errorf("the folder holds %q, want %q", names, left)
	}
	if files, bytes := f.Len(); files != 0 || bytes != 0 {
		t.Errorf("%d files, %d bytes", files, bytes)
	}
}

func TestWithoutALog(t *testing.T) {
	dir := t.TempDir()
	f, err := Open(dir, roomy(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	f.Put("a", []byte("1"), tomorrow()) // fails, in silence
	wantAbsent(t, f, "a")
}

func TestOpenTellsWhatIsNoFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{path, filepath.Join(path, "below")} {
		if f, err := Open(dir, roomy(), slog.New(slog.DiscardHandler)); err == nil {
			_ = f.Close()
			t.Errorf("%s is opened", dir)
		}
	}
}

// Who reads while others write gets one text or the other.
func TestTogether(t *testing.T) {
	f := open(t, t.TempDir(), roomy(), &bytes.Buffer{})
	texts := []string{strings.Repeat("a", 1<<12), strings.Repeat("b", 1<<13)}
	f.Put("name", []byte(texts[0]), tomorrow())
	var together sync.WaitGroup
	for n := range 4 {
		together.Go(func() {
			for i := range 50 {
				f.Put("name", []byte(texts[i%2]), tomorrow())
				if data, ok := f.Get("name"); !ok || !slices.Contains(texts, string(data)) {
					t.Errorf("%d: %d bytes, %v", n, len(data), ok)
				}
			}
		})
	}
	together.Wait()
}

// FuzzFile puts any bytes in the place of a file.
func FuzzFile(f *testing.F) {
	id := fileName("name")
	for _, content := range [][]byte{nil, []byte("text"), make([]byte, 32), sum(id, nil), append(sum(id, []byte("text")), "text"...), append(sum(fileName("other"), []byte("text")), "text"...)} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, id)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, tomorrow(), tomorrow()); err != nil {
			t.Fatal(err)
		}
		folder := open(t, dir, roomy(), &bytes.Buffer{})
		defer folder.Close()
		data, ok := folder.Get("name")
		if ok != (len(content) >= 32 && bytes.Equal(content, append(sum(id, data), data...))) {
			t.Errorf("%q gives %q, %v", content, data, ok)
		}
	})
}
