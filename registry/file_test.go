package registry

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
)

const (
	onlyOne = "- {id: did:x:1, name: One}\n"
	onlyTwo = "- {id: did:x:2, name: Two}\n"
	broken  = "- {id: did:x:3\n"
)

// logbook is a log that a test can read while others write.
type logbook struct{ logtest.Buffer }

func (l *logbook) count(s string) int { return strings.Count(l.String(), s) }

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openFile(t *testing.T, text string) (*File, string, *logbook) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parties.yaml")
	writeFile(t, path, text)
	var log logbook
	f, err := OpenFile(path, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	return f, path, &log
}

func knows(f *File, id ishare.PartyID) bool {
	_, err := f.Party(context.Background(), id)
	return err == nil
}

func TestOpenFile(t *testing.T) {
	t.Parallel()
	f, _, _ := openFile(t, twoPartiesYAML)
	if p, err := f.Party(t.Context(), "EU.EORI.NL1"); err != nil || p.ID != "did:ishare:EU.NL.NTRNL-1" {
		t.Errorf("Party by alias = %v, %v", p, err)
	}
	if _, err := f.Party(t.Context(), "did:x:9"); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
	if s := f.Status(); s.Parties != 2 || s.Err != nil || s.Loaded.IsZero() || !s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestOpenFileFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	writeFile(t, bad, broken)
	if _, err := OpenFile(bad, slog.Default()); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("error %v does not name the file", err)
	}
	if _, err := OpenFile(filepath.Join(dir, "none.yaml"), slog.Default()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	if _, err := OpenFile(dir, slog.Default()); err == nil {
		t.Error("a folder was accepted")
	}
}

func TestReadFileIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "parties.yaml")
	writeFile(t, path, onlyOne)
	length := int64(len(onlyOne))
	if data, err := readFile(path, length); err != nil || string(data) != onlyOne {
		t.Errorf("at the limit: %q, %v", data, err)
	}
	if _, err := readFile(path, length-1); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v, want one about the length", err)
	}
}

func TestReloadKeepsOldRecordsOfBrokenFile(t *testing.T) {
	t.Parallel()
	f, path, log := openFile(t, onlyOne)
	loaded := f.Status().Loaded
	trouble := map[string]func(){
		"syntax":   func() { writeFile(t, path, broken) },
		"conflict": func() { writeFile(t, path, onlyTwo+onlyTwo) },
		"gone":     func() { os.Remove(path) },
	}
	for _, name := range []string{"syntax", "conflict", "gone"} {
		trouble[name]()
		for range 3 {
			if err := f.Reload(); err == nil || !errors.Is(f.Status().Err, err) {
				t.Fatalf("%s: Reload = %v, status %+v", name, err, f.Status())
			}
		}
		if s := f.Status(); !knows(f, "did:x:1") || s.Parties != 1 || !s.Loaded.Equal(loaded) || s.Since.IsZero() {
			t.Fatalf("%s: old records are not in use: %+v", name, s)
		}
	}
	if n := log.count("level=ERROR"); n != len(trouble) {
		t.Errorf("%d errors logged, want each once:\n%s", n, log.String())
	}

	writeFile(t, path, onlyOne) // exactly what it was before
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if s := f.Status(); s.Err != nil || !s.Since.IsZero() {
		t.Errorf("status after the mend: %+v", s)
	}
}

func TestStatusSinceIsWhenTroubleBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, path, _ := openFile(t, onlyOne)
		began := time.Now()
		writeFile(t, path, broken)
		_ = f.Reload()
		time.Sleep(time.Hour)
		writeFile(t, path, broken+broken)
		_ = f.Reload()
		if s := f.Status(); !s.Since.Equal(began) {
			t.Errorf("since %v, want %v", s.Since, began)
		}
	})
}

// running starts Run in a synctest bubble and lets it look at the file once.
func running(t *testing.T, f *File) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	pass(10 * time.Second)
}

// pass lets time go by and everything that was due in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRunTakesChangedFile(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, path, text string){
		"written in place": writeFile,
		"renamed over": func(t *testing.T, path, text string) {
			t.Helper()
			writeFile(t, path+".new", text)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
		"removed and made again": func(t *testing.T, path, text string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Second)
			writeFile(t, path, text)
		},
		"same time": func(t *testing.T, path, text string) {
			t.Helper()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, text+"# longer\n")
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
		"same size, same time": func(t *testing.T, path, text string) {
			t.Helper()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, text[:len(text)-1]+" ")
			pass(2 * pollInterval) // read, and found to be the same list
			writeFile(t, path, text)
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, change := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, path, _ := openFile(t, onlyOne)
				running(t, f)
				change(t, path, onlyTwo)
				pass(3 * pollInterval)
				if knows(f, "did:x:1") || !knows(f, "did:x:2") {
					t.Error("the new records are not in use")
				}
			})
		})
	}
}

// A second write within one tick of the file system's clock changes nothing that
// can be asked about a file, and happens after the first has been read.
func TestRunReadsAgainWhatMayHaveChangedUnseen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, path, _ := openFile(t, onlyOne)
		running(t, f)
		writeFile(t, path, onlyTwo)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		pass(2 * pollInterval)
		if !knows(f, "did:x:2") {
			t.Fatal("the first change was not taken")
		}
		writeFile(t, path, onlyOne)
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		pass(pollInterval)
		if !knows(f, "did:x:1") {
			t.Error("the second change was not taken")
		}
	})
}

// Kubernetes swaps a symbolic link to the folder that holds the file.
func TestRunFollowsSwappedSymlink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for name, text := range map[string]string{"v1": onlyOne, "v2": onlyTwo} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, name, "parties.yaml"), text)
		}
		link := func(target, name string) {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		link("v1", "..data")
		link(filepath.Join("..data", "parties.yaml"), "parties.yaml")
		f, err := OpenFile(filepath.Join(dir, "parties.yaml"), new(logbook).logger())
		if err != nil {
			t.Fatal(err)
		}
		running(t, f)
		link("v2", "..data_tmp")
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		pass(3 * pollInterval)
		if !knows(f, "did:x:2") || knows(f, "did:x:1") {
			t.Error("the new records are not in use")
		}
	})
}

func TestRunDoesNotOvertakeSlowWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, path, log := openFile(t, onlyOne)
		running(t, f)
		text := ""
		for range 10 { // each half is a valid list of fewer parties
			text += "# more to come\n"
			writeFile(t, path, text+onlyTwo)
			pass(pollInterval)
			if !knows(f, "did:x:1") {
				t.Fatal("half a file was taken")
			}
		}
		pass(pollInterval)
		if !knows(f, "did:x:2") {
			t.Error("the whole file was not taken")
		}
		if n := log.count("party records read"); n != 1 {
			t.Errorf("read %d times", n)
		}
	})
}

func TestRunReportsBrokenFileOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, path, log := openFile(t, onlyOne)
		running(t, f)
		writeFile(t, path, broken)
		pass(time.Hour)
		if !knows(f, "did:x:1") || f.Status().Err == nil {
			t.Errorf("status %+v", f.Status())
		}
		if n := log.count("level=ERROR"); n != 1 {
			t.Errorf("%d errors logged, want 1:\n%s", n, log.String())
		}
		writeFile(t, path, onlyTwo)
		pass(3 * pollInterval)
		if !knows(f, "did:x:2") || f.Status().Err != nil {
			t.Errorf("status after the mend %+v", f.Status())
		}
	})
}

func TestRunReportsMissingFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, path, log := openFile(t, onlyOne)
		running(t, f)
		os.Remove(path)
		pass(time.Hour)
		if !knows(f, "did:x:1") || !errors.Is(f.Status().Err, fs.ErrNotExist) || log.count("level=ERROR") != 1 {
			t.Errorf("status %+v, log:\n%s", f.Status(), log.String())
		}
	})
}

// Readers see the old records or the new ones, never none.
func TestReadersDuringReload(t *testing.T) {
	t.Parallel()
	f, path, _ := openFile(t, onlyOne)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !knows(f, "did:x:1") {
					t.Error("the party was away for a moment")
					return
				}
			}
		})
	}
	for range 100 {
		writeFile(t, path, onlyOne+onlyTwo)
		if err := f.Reload(); err != nil {
			t.Error(err)
		}
		writeFile(t, path, onlyOne)
		if err := f.Reload(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

func BenchmarkFileParty(b *testing.B) {
	path := filepath.Join(b.TempDir(), "parties.yaml")
	if err := os.WriteFile(path, []byte(twoPartiesYAML), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := OpenFile(path, slog.Default())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.Party(b.Context(), "EU.EORI.NL1"); err != nil {
				b.Error(err)
			}
		}
	})
}

// The page about the configuration shows a file that can be used.
func TestDocumentedFile(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## A file of participants")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	path := filepath.Join(t.TempDir(), "parties.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := OpenFile(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	party, err := file.Party(t.Context(), "EU.EORI.NL000000001")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	const certificate = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
	if err := party.Compliant(at); err != nil || !party.Certified(certificate, at) {
		t.Errorf("%v, %+v", err, party)
	}
}
