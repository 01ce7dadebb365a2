package accesstoken

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/waybill-token/waybill/internal/durable"
)

// sources are where an operator changes keys: a folder, and a set. Both are empty.
func sources(tb testing.TB) map[string]string {
	tb.Helper()
	dir := tb.TempDir()
	return map[string]string{"folder": filepath.Join(dir, "new", "keys"), "set": filepath.Join(dir, "new", "keys.json")}
}

// states are those of the keys of a use, the oldest first.
func states(list []KeyInfo, u use) (states []KeyState) {
	for _, k := range list {
		if k.Use == string(u) {
			states = append(states, k.State)
		}
	}
	return states
}

// The three steps: a new key only checks, then it makes tokens, and when all of before have expired the old one goes.
func TestThreeSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for kind, source := range sources(t) {
			delay := map[string]time.Duration{"folder": MinKeyDelay, "set": DefaultKeySetDelay}[kind]
			want := func(list []KeyInfo, err error, want ...KeyState) {
				t.Helper()
				for _, u := range uses {
					if got := states(list, u); err != nil || !slices.Equal(got, want) {
						t.Fatalf("%s: keys with use %s are %v, %v; want %v", kind, u, got, err, want)
					}
				}
				if again, err := ListKeys(source); err != nil || !slices.Equal(again, list) {
					t.Fatalf("%s: ListKeys = %v, %v; want %v", kind, again, err, list)
				}
			}
			list, err := AddKeys(source, 0)
			want(list, err, KeyActive)
			first := list
			list, err = AddKeys(source, 0)
			want(list, err, KeyActive, KeyPreActivation)
			if got := list[1].Active.Sub(list[1].Created); got != delay {
				t.Errorf("%s: it makes tokens after %s", kind, got)
			}
			refused := func(id string) {
				t.Helper()
				if list, err := RetireKey(source, id, false); !errors.Is(err, ErrKeyInUse) || list != nil {
					t.Errorf("%s: RetireKey = %v, %v; want ErrKeyInUse", kind, list, err)
				}
			}
			refused(list[0].ID)
			refused(list[1].ID)
			time.Sleep(delay - time.Second)
			list, err = ListKeys(source)
			want(list, err, KeyActive, KeyPreActivation)
			time.Sleep(2 * time.Second)
			list, err = ListKeys(source)
			want(list, err, KeyDeactivated, KeyActive)
			if got := list[0].Until.Sub(list[1].Active); got != MaxLifetime+clockMargin {
				t.Errorf("%s: tokens of the old key are good for %s", kind, got)
			}
			refused(list[0].ID)
			refused(list[1].ID)
			time.Sleep(time.Until(list[0].Until) - time.Second)
			refused(list[0].ID)
			time.Sleep(time.Second)
			for _, k := range first {
				list, err = RetireKey(source, k.ID, false)
			}
			want(list, err, KeyActive)
		}
	})
}

// By force a key goes at once, and its tokens with it; the last key of a use stays even so.
func TestRetireByForce(t *testing.T) {
	for kind, source := range sources(t) {
		if _, err := AddKeys(source, 0); err != nil {
			t.Fatal(err)
		}
		a := newIssuer(t, Opaque, openKeys(t, source))
		token, _ := issue(t, a)
		stolen := keyID(t, token)
		if list, err := RetireKey(source, stolen, true); err == nil || list != nil || !strings.Contains(err.Error(), `the only one with use "enc"`) {
			t.Errorf("%s: the last key: %v, %v", kind, list, err)
		}
		if _, err := AddKeys(source, 0, "enc"); err != nil {
			t.Fatal(err)
		}
		if _, err := RetireKey(source, "nobody", true); err == nil {
			t.Errorf("%s: a key that is not there", kind)
		}
		if _, err := RetireKey(source, stolen, true); err != nil {
			t.Error(err)
		}
		a.keys.refresh(time.Now())
		refuse(t, a, token, ErrInvalid)
		token, _ = issue(t, a)
		accept(t, a, token)
	}
}

func TestAddKeysRefuses(t *testing.T) {
	for kind, source := range sources(t) {
		for what, try := range map[string]func() ([]KeyInfo, error){
			"too soon":         func() ([]KeyInfo, error) { return AddKeys(source, MinKeyDelay-1) },
			"before":           func() ([]KeyInfo, error) { return AddKeys(source, -1) },
			"too late":         func() ([]KeyInfo, error) { return AddKeys(source, MaxKeyDelay+1) },
			"an unknown use":   func() ([]KeyInfo, error) { return AddKeys(source, 0, "enc", "ENC") },
			"no use":           func() ([]KeyInfo, error) { return AddKeys(source, 0, "") },
			"retire of nobody": func() ([]KeyInfo, error) { return RetireKey(source, "x", true) },
		} {
			if list, err := try(); err == nil || list != nil {
				t.Errorf("%s, %s: %v, %v", kind, what, list, err)
			}
		}
	}
	set := sources(t)["set"]
	if _, err := AddKeys(set, 0, "enc"); err == nil || !strings.Contains(err.Error(), `holds no key with use "sig"`) {
		t.Errorf("a set of half the keys: %v", err)
	}
	if _, err := os.Stat(set); err == nil {
		t.Error("it was made")
	}
}

// What a server would refuse is not changed.
func TestAddToDoubtful(t *testing.T) {
	for name, test := range setSpoils {
		path := newSetFile(t)
		if err := test.spoil(path, readFile(t, path)); err != nil {
			t.Fatal(err)
		}
		if slices.Contains([]string{"removed", "folder", "no keys", "keys is null", "null", "no signing key", "another key of the same kid"}, name) {
			continue // which keys can be added to
		}
		before, _ := os.Stat(path)
		if _, err := AddKeys(path, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
			t.Errorf("%s: the file was changed", name)
		}
	}
	for name, test := range spoils {
		dir := filepath.Join(t.TempDir(), "keys")
		openKeys(t, dir)
		if err := test.spoil(dir); err != nil {
			t.Fatal(err)
		}
		before := names(t, dir)
		if _, err := AddKeys(dir, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
		if after := names(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: the folder held %v, and now %v", name, before, after)
		}
	}
}

// A set that lacks a use, as when somebody has taken a key out by hand, is mended by adding.
func TestAddMendsASet(t *testing.T) {
	path := newSetFile(t)
	if err := setSpoils["no signing key"].spoil(path, readFile(t, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := AddKeys(path, 0, "sig"); err != nil {
		t.Fatal(err)
	}
	issue(t, newIssuer(t, JWT, openKeys(t, path)))
}

// A clock that is behind would make a key older than those that are there: it would never make a token, or too soon.
func TestAddWithAClockThatIsBehind(t *testing.T) {
	dir := t.TempDir()
	sources := []string{filepath.Join(dir, "keys"), filepath.Join(dir, "keys.json")}
	for _, source := range sources {
		if _, err := AddKeys(source, 0); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		for _, source := range sources {
			if _, err := AddKeys(source, 0); err == nil || !strings.Contains(err.Error(), "after the time of this machine's clock") {
				t.Errorf("%s: %v", source, err)
			}
		}
	})
}

// No file is made where every account of the machine could exchange it.
func TestNoKeysWhereEverybodyWrites(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes")
	}
	dir := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := AddKeys(filepath.Join(dir, "keys.json"), 0); err == nil || !strings.Contains(err.Error(), "every account of this machine may exchange what is in it") {
		t.Errorf("AddKeys: %v", err)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("there is %v", got)
	}
}

// The file is its owner's alone when it is made; later its mode, and the link by which it is named, stay as somebody has set them.
func TestModeOfASet(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes")
	}
	path := newSetFile(t)
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o600, 0o640, 0o400} {
		if mode != 0o600 {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if info, err := os.Stat(path); err != nil || info.Mode() != mode {
				t.Errorf("mode %v, %v; want %v", info.Mode(), err, mode)
			}
			if _, err := AddKeys(link, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is %v, %v", info, err)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("there is %v", got)
	}
}

// Of several who add at once, those who are told that it is done have done it.
func TestAddAtOnce(t *testing.T) {
	const operators = 8
	for kind, source := range sources(t) {
		first, err := AddKeys(source, 0)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		added := len(first)
		var working sync.WaitGroup
		for range operators {
			working.Go(func() {
				_, err := AddKeys(source, 0)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					added += len(uses)
				case kind == "folder":
					t.Error(err)
				}
			})
		}
		working.Wait()
		if list, err := ListKeys(source); err != nil || len(list) != added {
			t.Errorf("%s: %d keys, %v; want %d", kind, len(list), err, added)
		}
	}
	path := newSetFile(t)
	other, err := durable.Claim(filepath.Dir(path), ".keys.json.lock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	if _, err := AddKeys(path, 0); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("while another changes it: %v", err)
	}
}

// A folder in which an operator adds and retires keys goes on by itself.
func TestOperatorBesideServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		a, b := newIssuer(t, Opaque, openKeys(t, dir)), newIssuer(t, Opaque, openKeys(t, dir))
		run(t, a.keys)
		run(t, b.keys)
		time.Sleep(12 * time.Hour)
		if _, err := AddKeys(dir, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		old, _ := issue(t, a)
		time.Sleep(2*time.Hour - time.Minute)
		if token, _ := issue(t, b); keyID(t, token) != keyID(t, old) {
			t.Error("the new key makes tokens before its time")
		}
		time.Sleep(2 * time.Minute)
		token, _ := issue(t, b)
		if keyID(t, token) == keyID(t, old) {
			t.Error("the new key makes no tokens")
		}
		accept(t, a, token)
		for range 100 {
			time.Sleep(time.Hour)
			token, _ := issue(t, a)
			accept(t, b, token)
		}
		if list, err := ListKeys(dir); err != nil || len(list) < 4 || len(list) > 6 {
			t.Errorf("%d keys, %v", len(list), err)
		}
	})
}

// A replica has a copy of a set, as a file that it reads again, or as text that it is started with.
type replica struct {
	*Issuer

	path   string // empty: text
	format Format
}

// receive gives the replica the set as it is now.
func (r *replica) receive(t *testing.T, data []byte) {
	t.Helper()
	source := string(data)
	if r.path != "" {
		put(t, r.path, data)
		if r.Issuer != nil {
			return
		}
		source = r.path
	}
	keys, err := OpenKeys(source, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.Issuer = newIssuer(t, r.format, keys)
	r.lifetime = MaxLifetime
}

// Whatever operators do in whatever order, as long as every replica has a new set before its keys make tokens, and nobody
// uses force: each token is good at every replica, for as long as it lives.
func TestNoTokenIsRefusedInARotation(t *testing.T) {
	replaced := 0
	rapid.Check(t, func(r *rapid.T) {
		var failed any
		synctest.Test(t, func(t *testing.T) {
			defer func() { failed = recover() }() // for rapid, which is outside
			replaced += rotate(t, r)
		})
		if failed != nil {
			panic(failed)
		}
	})
	if replaced < 100 {
		t.Errorf("keys took the place of others %d times: nothing is shown", replaced)
	}
}

// rotate has operators at work, and returns how often a key took the place of another at a replica.
func rotate(t *testing.T, r *rapid.T) (replaced int) {
	t.Helper()
	path := newSetFile(t)
	replicas := make([]*replica, 3)
	for i := range replicas {
		replicas[i] = &replica{format: formats[i%2]}
		if i > 0 {
			replicas[i].path = filepath.Join(t.TempDir(), "keys.json")
		}
		replicas[i].receive(t, readFile(t, path))
	}
	seconds := func(most int) {
		time.Sleep(time.Duration(rapid.IntRange(0, most).Draw(r, "seconds")) * time.Second)
	}
	living := map[string]made{}
	for range rapid.IntRange(3, 8).Draw(r, "steps") {
		list, err := ListKeys(path)
		if err != nil {
			r.Fatal(err)
		}
		if rapid.Bool().Draw(r, "retire") {
			at := rapid.IntRange(0, len(list)-1).Draw(r, "key")
			if _, err := RetireKey(path, list[at].ID, false); err != nil && !errors.Is(err, ErrKeyInUse) && !strings.Contains(err.Error(), "the only one") {
				r.Fatal(err)
			}
		} else if len(list) < 12 {
			after := rapid.SampledFrom([]time.Duration{0, MinKeyDelay, 6 * time.Hour, MaxKeyDelay}).Draw(r, "after")
			if _, err := AddKeys(path, after, rapid.SampledFrom([][]string{nil, {"enc"}, {"sig"}}).Draw(r, "use")...); err != nil {
				r.Fatal(err)
			}
		}
		// Each replica gets it at its own moment, and reads it up to a minute later.
		for _, i := range rapid.Permutation([]int{0, 1, 2}).Draw(r, "order") {
			seconds(30)
			replicas[i].receive(t, readFile(t, path))
			serveEverywhere(r, replicas, living)
			seconds(60)
			replicas[i].keys.refresh(time.Now())
			serveEverywhere(r, replicas, living)
		}
		for range rapid.IntRange(1, 3).Draw(r, "waits") {
			list, err := ListKeys(path)
			if err != nil {
				r.Fatal(err)
			}
			waits := []time.Duration{time.Minute, 7 * time.Hour}
			for _, k := range list { // what happens about then is what matters
				for _, at := range []time.Time{k.Active, k.Until} {
					if wait := time.Until(at); wait > time.Second {
						waits = append(waits, wait-time.Second, wait)
					}
				}
			}
			time.Sleep(rapid.SampledFrom(waits).Draw(r, "wait"))
			serveEverywhere(r, replicas, living)
		}
	}
	return len(living) - len(replicas)
}

// A made token is the newest that a replica has made with a key: the one that lives longest.
type made struct {
	token   string
	expires time.Time
}

// serveEverywhere makes a token at each replica, and checks all that live at each.
func serveEverywhere(r *rapid.T, replicas []*replica, living map[string]made) {
	for i, replica := range replicas {
		token, issued, err := replica.Issue(context.Background(), grant())
		if err != nil {
			r.Fatal(err)
		}
		ref, err := inspect(token)
		if err != nil {
			r.Fatal(err)
		}
		living[fmt.Sprint(i, ref.kid)] = made{token, issued.Expires}
	}
	for _, m := range living {
		for i, replica := range replicas {
			if _, err := replica.Check(context.Background(), m.token); err != nil && time.Now().Before(m.expires) {
				r.Fatalf("replica %d: %v", i, err)
			}
		}
	}
}

// The same under load: two replicas, one of which gets each set later, and clients that never pause.
func TestRotationUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := newSetFile(t)
		replicas := []*replica{
			{path: filepath.Join(t.TempDir(), "keys.json"), format: Opaque},
			{path: filepath.Join(t.TempDir(), "keys.json"), format: JWT},
		}
		for _, r := range replicas {
			r.receive(t, readFile(t, path))
			run(t, r.keys)
		}
		over := make(chan struct{})
		var clients sync.WaitGroup
		for i, maker := range replicas {
			clients.Go(func() {
				var tokens []string
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					case <-time.After(20 * time.Second):
					}
					token, _, err := maker.Issue(t.Context(), grant())
					if err != nil {
						t.Error(err)
						return
					}
					if tokens = append(tokens, token); len(tokens) == 4000 { // 22 hours
						tokens = tokens[1:]
					}
					for _, token := range []string{token, tokens[0], tokens[n%len(tokens)]} {
						if _, err := replicas[1-i].Check(t.Context(), token); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		distribute := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range replicas {
				time.Sleep(2 * time.Minute)
				r.receive(t, readFile(t, path))
			}
		}
		first, err := ListKeys(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = AddKeys(path, MinKeyDelay+time.Minute)
		distribute(err)
		time.Sleep(MinKeyDelay + retireAfter)
		for _, k := range first {
			_, err = RetireKey(path, k.ID, false)
			distribute(err)
		}
		time.Sleep(time.Hour)
		close(over)
		clients.Wait()
		for _, r := range replicas {
			if got := len(r.keys.set.Load().byRef); got != 2 {
				t.Errorf("%d keys, want the two new ones", got)
			}
			if bytes.Contains(r.keys.PublicJWKS(), []byte(first[1].ID)) {
				t.Error("the retired key is published")
			}
		}
	})
}
