package accesstoken

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/durable"
)

// names lists the files of a folder.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// accept checks that the server takes the token.
func accept(tb testing.TB, i *Issuer, token string) {
	tb.Helper()
	if _, err := i.Check(tb.Context(), token); err != nil {
		tb.Fatal(err)
	}
}

// keyID reads the kid in a token's header.
func keyID(tb testing.TB, token string) string {
	tb.Helper()
	header, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
	if err != nil {
		tb.Fatal(err)
	}
	var h struct {
		Kid string `json:"kid"`
	}
	if err := json.Unmarshal(header, &h); err != nil {
		tb.Fatal(err)
	}
	return h.Kid
}

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "keys")
	openKeys(t, dir)
	want := map[string]fs.FileMode{".": 0o700, "enc-000001.jwk": 0o600, "sig-000001.jwk": 0o600}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %#o, want %#o", name, info.Mode().Perm(), mode)
		}
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("the folder holds %v, want two keys and nothing else", got)
	}
}

func TestTokensOutliveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	for _, format := range formats {
		token, _ := issue(t, newIssuer(t, format, openKeys(t, dir)))
		accept(t, newIssuer(t, format, openKeys(t, dir)), token)
	}
}

func TestForeignFolderRefused(t *testing.T) {
	for _, format := range formats {
		token, _ := issue(t, freshIssuer(t, format))
		refuse(t, freshIssuer(t, format), token, ErrInvalid)
	}
}

// Servers that start on an empty folder at the same instant end up with the
// same keys.
func TestSimultaneousFirstStart(t *testing.T) {
	const servers = 16
	for range 10 {
		dir := filepath.Join(t.TempDir(), "keys")
		rings := make([]*KeyRing, servers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for n := range servers {
			wg.Go(func() {
				<-start
				rings[n], _ = OpenKeys(dir, slog.Default())
			})
		}
		close(start)
		wg.Wait()
		if slices.Contains(rings, nil) {
			t.Fatal("a server did not start")
		}
		for _, format := range formats {
			for n := range servers {
				token, _ := issue(t, newIssuer(t, format, rings[n]))
				accept(t, newIssuer(t, format, rings[(n+1)%servers]), token)
			}
		}
		if got := names(t, dir); !slices.Equal(got, []string{"enc-000001.jwk", "sig-000001.jwk"}) {
			t.Fatalf("the folder holds %v, want one key of each use", got)
		}
	}
}

// withdraw removes all keys, as an operator does who wants all tokens dead.
func withdraw(tb testing.TB, dir string) {
	tb.Helper()
	for _, name := range names(tb, dir) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			tb.Fatal(err)
		}
	}
}

// A server meets a token of another one whose key it has not read yet.
func TestUnknownKidReadsTheFolderAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a := newIssuer(t, Opaque, openKeys(t, dir))
		old, _ := issue(t, a)
		withdraw(t, dir)
		b := newIssuer(t, Opaque, openKeys(t, dir))
		token, _ := issue(t, b)
		accept(t, a, token)
		refuse(t, a, old, ErrInvalid)
	})
}

// Strangers cannot make the server read its folder at will.
func TestUnknownKidReadsAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a := newIssuer(t, Opaque, openKeys(t, dir))
		foreign, _ := issue(t, freshIssuer(t, Opaque))
		refuse(t, a, foreign, ErrInvalid)
		withdraw(t, dir)
		token, _ := issue(t, newIssuer(t, Opaque, openKeys(t, dir)))
		for range 1000 {
			refuse(t, a, token, ErrInvalid)
		}
		time.Sleep(rereadPause - time.Millisecond)
		refuse(t, a, token, ErrInvalid)
		time.Sleep(time.Millisecond)
		accept(t, a, token)
	})
}

// Many tokens with a new kid at once are all accepted, by one reading.
func TestUnknownKidShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a := newIssuer(t, Opaque, openKeys(t, dir))
	withdraw(t, dir)
	token, _ := issue(t, newIssuer(t, Opaque, openKeys(t, dir)))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := a.Check(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// When the folder cannot be read, tokens with known keys are judged as ever, and
// about others nothing is claimed.
func TestFolderOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a := newIssuer(t, Opaque, openKeys(t, dir))
		own, _ := issue(t, a)
		foreign, _ := issue(t, freshIssuer(t, Opaque))
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time without a reading
			c, err := a.Check(t.Context(), foreign)
			if c != nil || err == nil || errors.Is(err, ErrInvalid) || errors.Is(err, ErrExpired) {
				t.Errorf("Check = %v, %v; want an error of ours", c, err)
			}
		}
		accept(t, a, own)
		issue(t, a)
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rereadPause)
		refuse(t, a, foreign, ErrInvalid)
		if err := a.keys.Problem(); err != nil {
			t.Errorf("Problem = %v after the folder is back", err)
		}
	})
}

// Another folder at the path has the keys that count, and nothing is made, replaced or removed in it: it may
// be that of another party. With the folder that was opened all goes on, and so does a ring that is opened on the other.
func TestAnotherFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		theirs := filepath.Join(t.TempDir(), "keys")
		openKeys(t, theirs)
		time.Sleep(rotateAfter)
		other := newIssuer(t, Opaque, openKeys(t, theirs))
		if err := os.WriteFile(filepath.Join(theirs, durable.TemporaryPrefix+"X"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		swap := func(moves ...[2]string) {
			for _, m := range moves {
				if err := os.Rename(m[0], m[1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		ours := newIssuer(t, Opaque, openKeys(t, dir))
		run(t, ours.keys)
		own, _ := issue(t, ours)
		before := names(t, theirs)
		swap([2]string{dir, dir + ".away"}, [2]string{theirs, dir})
		time.Sleep(rotateAfter + retireAfter + time.Hour) // a key is due, another would be dead, and the file left by a crash is old
		if after := names(t, dir); !slices.Equal(before, after) {
			t.Errorf("the folder held %v, and now %v", before, after)
		}
		if err := ours.keys.Problem(); !errors.Is(err, errOtherFolder) || !strings.HasPrefix(err.Error(), dir+": ") {
			t.Errorf("Problem = %v", err)
		}
		token, _ := issue(t, other)
		accept(t, ours, token)
		refuse(t, ours, own, ErrInvalid)
		openKeys(t, dir)
		if after := names(t, dir); slices.Equal(before, after) {
			t.Errorf("a ring that is opened on it leaves it as %v", after)
		}
		swap([2]string{dir, theirs}, [2]string{dir + ".away", dir})
		time.Sleep(2 * maintainEvery)
		if err := ours.keys.Problem(); err != nil {
			t.Errorf("Problem = %v after the folder is back", err)
		}
		if after := names(t, dir); !slices.Contains(after, "enc-000002.jwk") {
			t.Errorf("no key is made: %v", after)
		}
	})
}

// Where a volume is not mounted there is a folder without keys, which withdraws nothing.
func TestAnEmptyFolderInPlaceOfTheKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	synctest.Test(t, func(t *testing.T) {
		a := newIssuer(t, Opaque, openKeys(t, dir))
		run(t, a.keys)
		own, _ := issue(t, a)
		if err := errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * maintainEvery)
		if err := a.keys.Problem(); !errors.Is(err, errNoKeys) || len(names(t, dir)) > 0 {
			t.Errorf("Problem = %v, and there is %v", err, names(t, dir))
		}
		accept(t, a, own)
		later, _ := issue(t, a)
		accept(t, a, later)
		if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * maintainEvery)
		if err := a.keys.Problem(); err != nil {
			t.Errorf("Problem = %v after the folder is back", err)
		}
		accept(t, a, later)
	})
}

func TestCheckGivesUpWithItsCaller(t *testing.T) {
	a := freshIssuer(t, Opaque)
	foreign, _ := issue(t, freshIssuer(t, Opaque))
	a.keys.mu.Lock()                                                     // a folder on a dead network drive
	defer a.keys.reloads.Do("", func() (any, error) { return nil, nil }) // wait for the reading
	defer a.keys.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := a.Check(ctx, foreign); !errors.Is(err, context.Canceled) || c != nil {
		t.Errorf("Check = %v, %v; want context.Canceled", c, err)
	}
}

// run keeps house in the background of a synctest bubble.
func run(t *testing.T, keys *KeyRing) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- keys.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRotation(t *testing.T) {
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "keys")
				a, b := newIssuer(t, format, openKeys(t, dir)), newIssuer(t, format, openKeys(t, dir))
				a.lifetime, b.lifetime = MaxLifetime, MaxLifetime
				run(t, a.keys)
				run(t, b.keys)
				first, _ := issue(t, a)

				time.Sleep(rotateAfter + 2*maintainEvery)
				if got := len(names(t, dir)); got != 4 {
					t.Fatalf("%d key files after a day, want 4", got)
				}
				settlingToken, _ := issue(t, a)
				if keyID(t, settlingToken) != keyID(t, first) {
					t.Error("a new key is used before every server can know it")
				}

				time.Sleep(activationDelay)
				second, _ := issue(t, a)
				if keyID(t, second) == keyID(t, first) {
					t.Error("the old key is still in use")
				}
				accept(t, b, second)
				refuse(t, b, first, ErrExpired)

				// The last token of the old key lives its whole life.
				time.Sleep(MaxLifetime - activationDelay - time.Minute)
				accept(t, a, settlingToken)
				accept(t, b, settlingToken)

				time.Sleep(activationDelay + clockMargin + 2*maintainEvery)
				if got := names(t, dir); slices.Contains(got, "enc-000001.jwk") || slices.Contains(got, "sig-000001.jwk") {
					t.Errorf("the folder still holds the dead keys: %v", got)
				}
				refuse(t, a, first, ErrInvalid)
				refuse(t, b, first, ErrInvalid)
			})
		})
	}
}

// Four days on two servers: never more than three keys of a use, and every token
// good at both servers for as long as it lives.
func TestFourDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a, b := newIssuer(t, Opaque, openKeys(t, dir)), newIssuer(t, Opaque, openKeys(t, dir))
		a.lifetime = MaxLifetime
		run(t, a.keys)
		run(t, b.keys)
		var living []string
		for range 4 * 24 / 3 {
			token, _ := issue(t, a)
			living = append(living, token)
			if len(living) > 8 {
				living = living[1:]
			}
			time.Sleep(3*time.Hour - time.Second)
			for _, token := range living {
				accept(t, b, token)
			}
			if got := names(t, dir); len(got) > 6 {
				t.Fatalf("the folder holds %v", got)
			}
		}
	})
}

// A server that was away for a week makes a new key at once, and does not use
// it at once.
func TestRotationAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		before, _ := issue(t, newIssuer(t, Opaque, openKeys(t, dir)))
		time.Sleep(7 * 24 * time.Hour)
		a := newIssuer(t, Opaque, openKeys(t, dir))
		if got := len(names(t, dir)); got != 4 {
			t.Errorf("%d key files, want 4", got)
		}
		after, _ := issue(t, a)
		if keyID(t, after) != keyID(t, before) {
			t.Error("the new key is used at once")
		}
		time.Sleep(activationDelay)
		later, _ := issue(t, a)
		if keyID(t, later) == keyID(t, before) {
			t.Error("the old key is used for ever")
		}
	})
}

// A key made by a clock that was years ahead does not stay for years.
func TestKeyFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		f := testFolder(t, dir)
		for _, u := range []use{sealing, signing} {
			if err := f.add(keyName{u, 1}, time.Now().AddDate(10, 0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		a := newIssuer(t, Opaque, openKeys(t, dir))
		ahead, _ := issue(t, a)
		time.Sleep(activationDelay)
		now, _ := issue(t, a)
		if keyID(t, now) == keyID(t, ahead) {
			t.Error("the key from the future is still in use")
		}
		accept(t, a, ahead)
	})
}

func testFolder(tb testing.TB, dir string) *folder {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	f, err := openFolder(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.root.Close() })
	return f
}

// A key that made many tokens gets a successor early, and stops before it has
// made too many.
func TestKeyWearsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a := newIssuer(t, Opaque, openKeys(t, dir))
		key := a.keys.set.Load().ages[sealing][0]
		key.uses.Store(usesDue)
		if err := a.keys.maintain(time.Now()); err != nil || len(names(t, dir)) != 2 {
			t.Fatalf("%v, %v: a successor before its time", err, names(t, dir))
		}
		issue(t, a)
		if err := a.keys.maintain(time.Now()); err != nil || len(names(t, dir)) != 3 {
			t.Fatalf("%v, %v: no successor", err, names(t, dir))
		}
		if a.keys.set.Load().ages[sealing][0] != key {
			t.Fatal("the count is lost when the folder is read again")
		}
		key.uses.Store(usesMax - 1)
		token, _ := issue(t, a)
		if token, _, err := a.Issue(t.Context(), grant()); err == nil || token != "" {
			t.Fatalf("Issue = %q, %v; want an error", token, err)
		}
		accept(t, a, token)
		time.Sleep(activationDelay)
		issue(t, a)
	})
}

// A file of the version before has no sum: another key in it, of the same kid, is found
// as long as the first one is known.
func TestAnotherKeyOfTheSameKid(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys := openKeys(t, dir)
	path := filepath.Join(dir, "enc-000001.jwk")
	holding := func(secret byte) string {
		return jwkFile(t, jose.JSONWebKey{Key: bytes.Repeat([]byte{secret}, sealingKeySize), KeyID: "kid", Use: "enc", Algorithm: "A256GCM"})
	}
	one, two := holding(1), holding(2)
	put := func(file string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		keys.refresh(time.Now())
	}
	put(one)
	if err := keys.Problem(); err != nil {
		t.Errorf("a file without a sum, of another kid: %v", err)
	}
	token, _ := issue(t, newIssuer(t, Opaque, keys))
	put(two)
	if err := keys.Problem(); !errors.Is(err, errOtherKey) {
		t.Errorf("Problem = %v", err)
	}
	accept(t, newIssuer(t, Opaque, keys), token)
	put(one)
	if err := keys.Problem(); err != nil {
		t.Errorf("Problem = %v after the file is back", err)
	}
}

// spoils are ways to change a key folder for the worse.
var spoils = map[string]struct {
	spoil func(dir string) error
	want  string
}{
	"file readable by the group": {func(dir string) error {
		return os.Chmod(filepath.Join(dir, "enc-000001.jwk"), 0o640)
	}, "enc-000001.jwk: mode 0640 lets others"},
	"file writable by the world": {func(dir string) error {
		return os.Chmod(filepath.Join(dir, "enc-000001.jwk"), 0o602)
	}, "enc-000001.jwk: mode 0602 lets others"},
	"file of another kind": {func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "README"), nil, 0o600)
	}, "README: not a key file"},
	"backup copy": {func(dir string) error {
		return os.Rename(filepath.Join(dir, "enc-000001.jwk"), filepath.Join(dir, "enc-000001.jwk.bak"))
	}, "enc-000001.jwk.bak: not a key file"},
	"number spelled otherwise": {func(dir string) error {
		return os.Rename(filepath.Join(dir, "enc-000001.jwk"), filepath.Join(dir, "enc-1.jwk"))
	}, "enc-1.jwk: not a key file"},
	"folder in the folder": {func(dir string) error {
		return os.Mkdir(filepath.Join(dir, "enc-000002.jwk"), 0o700)
	}, "enc-000002.jwk: not a key file"},
	"symbolic link": {func(dir string) error {
		return os.Symlink("enc-000001.jwk", filepath.Join(dir, "enc-000002.jwk"))
	}, "enc-000002.jwk: not a key file"},
	"copy under another number": {func(dir string) error {
		return copyKey(dir, "enc-000001.jwk", "enc-000002.jwk")
	}, "enc-000002.jwk: another file holds a key of the same kid"},
	"sealing key as a signing key": {func(dir string) error {
		return copyKey(dir, "enc-000001.jwk", "sig-000002.jwk")
	}, "sig-000002.jwk: use is not"},
	"cut short": {func(dir string) error {
		return os.Truncate(filepath.Join(dir, "enc-000001.jwk"), 100)
	}, "enc-000001.jwk: not a JSON object"},
	"empty": {func(dir string) error {
		return os.Truncate(filepath.Join(dir, "enc-000001.jwk"), 0)
	}, "enc-000001.jwk: not a JSON object"},
	"flipped bit": {func(dir string) error {
		path := filepath.Join(dir, "enc-000001.jwk")
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.Replace(data, []byte(`"kid":`), []byte(`"kie":"x","kid":`), 1), 0o600)
	}, "enc-000001.jwk: damaged"},
	"huge": {func(dir string) error {
		return os.Truncate(filepath.Join(dir, "enc-000001.jwk"), 1<<30)
	}, "enc-000001.jwk: over 16384 bytes"},
}

func copyKey(dir, from, to string) error {
	data, err := os.ReadFile(filepath.Join(dir, from))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, to), data, 0o600)
}

func TestDoubtfulFolderRefusedAtOpen(t *testing.T) {
	for name, test := range spoils {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			openKeys(t, dir)
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			before := names(t, dir)
			_, err := OpenKeys(dir, slog.Default())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("OpenKeys: %v; want %q", err, test.want)
			}
			if after := names(t, dir); !slices.Equal(before, after) {
				t.Errorf("a refused folder was changed from %v to %v", before, after)
			}
		})
	}
}

// A server that runs already reports what is doubtful once, does not use it,
// and goes on.
func TestDoubtfulFilesIgnoredLater(t *testing.T) {
	for name, test := range spoils {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "keys")
				var log bytes.Buffer
				keys, err := OpenKeys(dir, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				a := newIssuer(t, Opaque, keys)
				token, _ := issue(t, a)
				run(t, a.keys)
				if err := test.spoil(dir); err != nil {
					t.Fatal(err)
				}
				// The key is withdrawn by its file's going away, or may be known to others.
				lost := strings.HasPrefix(test.want, "enc-000001.jwk: mode") || strings.HasPrefix(test.want, "enc-000001.jwk.bak") || strings.HasPrefix(test.want, "enc-1")
				time.Sleep(3 * maintainEvery)
				synctest.Wait()
				if lost {
					refuse(t, a, token, ErrInvalid)
				} else {
					accept(t, a, token)
				}
				used := keyID(t, token)
				token, _ = issue(t, a)
				accept(t, a, token)
				if strings.HasPrefix(test.want, "enc-") && !strings.HasPrefix(test.want, "enc-000002") && keyID(t, token) == used {
					t.Error("the key makes tokens still, which another server cannot read")
				}
				if got := strings.Count(log.String(), test.want); got != 1 {
					t.Errorf("the log holds %q %d times, want once:\n%s", test.want, got, &log)
				}
				if err := keys.Problem(); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Problem = %v", err)
				}
			})
		})
	}
}

func TestFolderOpenToOthersRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	openKeys(t, dir)
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(dir, slog.Default()); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("OpenKeys: %v; want a hint to chmod 700", err)
	}
}

// A nil logger is silent, also when there is something to tell.
func TestOpenKeysWithoutLogger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys, err := OpenKeys(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	keys.refresh(time.Now())
	if keys.Problem() == nil {
		t.Error("no problem where there is no folder")
	}
}

func TestOpenKeysRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "keys")} {
		if keys, err := OpenKeys(dir, slog.Default()); err == nil || keys != nil {
			t.Errorf("OpenKeys(%q) = %v, %v; want an error", dir, keys, err)
		}
	}
}

// A crash while a key is written leaves a file that stops nobody and goes away.
func TestLeftOversOfACrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	openKeys(t, dir)
	for name, age := range map[string]time.Duration{durable.TemporaryPrefix + "old": 2 * temporaryLife, durable.TemporaryPrefix + "young": 0} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(`{"kty":"oct"`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	openKeys(t, dir)
	want := []string{".new-young", "enc-000001.jwk", "sig-000001.jwk"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the folder holds %v, want %v", got, want)
	}
}

// A name that an unsound file holds does not stop rotation.
func TestTakenNameIsPassedOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys := openKeys(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "enc-000002.jwk"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys.set.Load().ages[sealing][0].uses.Store(usesMax)
	keys.refresh(time.Now())
	if got := names(t, dir); !slices.Contains(got, "enc-000003.jwk") {
		t.Errorf("the folder holds %v, want a third sealing key", got)
	}
}

func TestPublicJWKS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a := newIssuer(t, JWT, openKeys(t, dir))
		time.Sleep(25 * time.Hour)
		if err := a.keys.maintain(time.Now()); err != nil {
			t.Fatal(err)
		}
		data := a.keys.PublicJWKS()
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(data, &set); err != nil {
			t.Fatal(err)
		}
		if len(set.Keys) != 2 {
			t.Fatalf("%d keys, want the two that sign or will", len(set.Keys))
		}
		for _, k := range set.Keys {
			if !k.IsPublic() || k.Algorithm != "ES256" || k.Use != "sig" || k.KeyID == "" {
				t.Errorf("%+v is not a public ES256 key for signatures", k)
			}
		}
		for _, word := range []string{`"d"`, `"k"`, "oct", a.keys.set.Load().ages[sealing][0].kid} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("the JWK Set holds %s", word)
			}
		}
		// A stranger verifies a token with nothing but the set.
		token, _ := issue(t, a)
		object, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := object.Verify(set); err != nil {
			t.Error(err)
		}
		data[0] = 'x'
		if bytes.Equal(data, a.keys.PublicJWKS()) {
			t.Error("the caller's copy is the ring's own")
		}
	})
}

// Issuing, checking and housekeeping at the same time.
func TestConcurrentUse(t *testing.T) {
	issuers := []*Issuer{freshIssuer(t, Opaque)}
	issuers = append(issuers, newIssuer(t, JWT, issuers[0].keys))
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 20 {
				token, _, err := issuers[n%2].Issue(t.Context(), grant())
				if err == nil {
					_, err = issuers[(n+1)%2].Check(t.Context(), token)
				}
				if err != nil {
					t.Error(err)
				}
				issuers[0].keys.refresh(time.Now())
				issuers[0].keys.PublicJWKS()
			}
		})
	}
	wg.Wait()
}

// Looking at a folder finds what opening it would, and leaves it as it was.
func TestCheckKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := CheckKeys(dir); err != nil {
		t.Errorf("no folder yet: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("looking made the folder")
	}
	if _, err := OpenKeys(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckKeys(dir); err != nil {
		t.Errorf("a good folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stranger"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckKeys(dir); err == nil {
		t.Error("a file that is no key was passed over")
	}
}
