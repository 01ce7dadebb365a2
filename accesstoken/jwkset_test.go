package accesstoken

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// newSetFile makes a JWK Set with the first keys.
func newSetFile(tb testing.TB) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "keys.json")
	if _, err := AddKeys(path, 0); err != nil {
		tb.Fatal(err)
	}
	return path
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// put gives a file other content at once, as who exchanges it does.
func put(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := errors.Join(os.WriteFile(path+".put", data, 0o600), os.Rename(path+".put", path)); err != nil {
		tb.Fatal(err)
	}
}

// Servers that have the same keys, as a file or as text, take each other's tokens, and change nothing.
func TestKeySet(t *testing.T) {
	path := newSetFile(t)
	before := readFile(t, path)
	sources := []string{path, string(before), "\n " + string(before)}
	for _, format := range formats {
		for _, one := range sources {
			for _, other := range sources {
				token, _ := issue(t, newIssuer(t, format, openKeys(t, one)))
				ring := openKeys(t, other)
				accept(t, newIssuer(t, format, ring), token)
				if err := ring.Problem(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if after := readFile(t, path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("beside the file there is %v", got)
	}
}

// A server never makes, replaces or removes a key in a set, however old it is, and tells so.
func TestKeySetGrowsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := newSetFile(t)
		before := readFile(t, path)
		var log bytes.Buffer
		keys, err := OpenKeys(path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		run(t, keys)
		a := newIssuer(t, JWT, keys)
		time.Sleep(setRotateAfter)
		if err := keys.Problem(); err != nil {
			t.Errorf("after 30 days: %v", err)
		}
		time.Sleep(2 * maintainEvery)
		for _, u := range uses {
			if err := keys.Problem(); err == nil || !strings.Contains(err.Error(), keys.set.Load().ages[u][0].kid) || !strings.Contains(err.Error(), "waybill keys add --keys '"+path+"'") {
				t.Errorf("use %s: Problem = %v", u, err)
			}
		}
		if problem, err := CheckKeys(path); err != nil || problem == nil || problem.Error() != keys.Problem().Error() {
			t.Errorf("CheckKeys = %v, %v", problem, err)
		}
		if openKeys(t, path).Problem() == nil {
			t.Error("a server that starts tells nothing")
		}
		time.Sleep(setRotateAfter)
		token, _ := issue(t, a)
		accept(t, a, token)
		if got := readFile(t, path); !bytes.Equal(before, got) {
			t.Error("the file was changed")
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("told %d times in the log", n)
		}
		if _, err := AddKeys(path, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(maintainEvery)
		synctest.Wait()
		if err := keys.Problem(); err != nil {
			t.Errorf("with new keys: %v", err)
		}
		if problem, err := CheckKeys(path); problem != nil || err != nil {
			t.Errorf("CheckKeys = %v, %v", problem, err)
		}
	})
}

// How many tokens a key has made is known through changes of the file, and it stops in time.
func TestKeyOfASetWearsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := newSetFile(t)
		a := newIssuer(t, Opaque, openKeys(t, path))
		worn := a.keys.set.Load().ages[sealing][0]
		worn.uses.Store(usesDue)
		a.keys.refresh(time.Now())
		if err := a.keys.Problem(); err != nil {
			t.Errorf("Problem before its time: %v", err)
		}
		issue(t, a)
		a.keys.refresh(time.Now())
		if err := a.keys.Problem(); err == nil || !strings.Contains(err.Error(), worn.kid+", has made over 134217728 tokens") {
			t.Errorf("Problem = %v", err)
		}
		if _, err := AddKeys(path, MinKeyDelay, "enc"); err != nil {
			t.Fatal(err)
		}
		a.keys.refresh(time.Now())
		if err := a.keys.Problem(); err != nil || len(a.keys.set.Load().ages[sealing]) != 2 {
			t.Errorf("with a successor: %v", err)
		}
		put(t, path, append([]byte("\n"), readFile(t, path)...)) // laid out otherwise
		a.keys.refresh(time.Now())
		worn.uses.Store(usesMax)
		if token, _, err := a.Issue(t.Context(), grant()); err == nil || token != "" {
			t.Errorf("Issue = %q, %v; want an error", token, err)
		}
		time.Sleep(MinKeyDelay)
		issue(t, a)
	})
}

type setSpoil struct {
	spoil func(path string, data []byte) error
	want  string
}

// setSpoils are ways to change a key set for the worse. With each the old keys stay in force.
var setSpoils = map[string]setSpoil{
	"removed": {func(path string, _ []byte) error { return os.Remove(path) }, "mend: waybill keys add --keys "},
	"empty":   {func(path string, _ []byte) error { return os.Truncate(path, 0) }, "keys.json: not "},
	"cut short": {func(path string, data []byte) error {
		return os.Truncate(path, int64(len(data)/2))
	}, "keys.json: not JSON, as byte "},
	"folder": {func(path string, _ []byte) error {
		return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
	}, ""},
	"no keys":        edited(`{"keys":[]}`, `holds no key with use "enc"`),
	"keys is null":   edited(`{"keys":null}`, `holds no key with use "enc"`),
	"null":           edited(`null`, `holds no key with use "enc"`),
	"list":           edited(`[]`, "not a JSON object with a list of keys"),
	"other member":   edited(`{"keys":[],"key":[]}`, "not a JSON object with a list of keys"),
	"member twice":   edited(`{"keys":[],"keys":[]}`, "not JSON"),
	"no list":        edited(`{"keys":{}}`, "not a JSON object with a list of keys"),
	"key is text":    edited(`{"keys":["enc"]}`, "keys[0]: not a JSON object"),
	"another use":    replaced(`"use": "enc"`, `"use": "ENC"`, "keys[0]: not a JSON object with use"),
	"no use":         replaced(`"use": "enc"`, `"usage": "enc"`, "keys[0]: not a JSON object with use"),
	"damaged":        replaced(`"created": "2`, `"created": "3`, "keys[0]: damaged"),
	"damaged member": replaced(`"kid"`, `"kie":"x","kid"`, "keys[0]: damaged"),
	"signing key as a sealing key": {func(path string, data []byte) error {
		return os.WriteFile(path, bytes.ReplaceAll(data, []byte(`"use": "sig"`), []byte(`"use": "enc"`)), 0o600)
	}, "keys[1]: damaged"},
	"no signing key": {func(path string, data []byte) error {
		at := bytes.LastIndex(data, []byte(",\n    {"))
		return os.WriteFile(path, append(data[:at:at], "]}"...), 0o600)
	}, `holds no key with use "sig" (mend: waybill keys add --keys `},
	"key twice": {func(path string, data []byte) error {
		var set keySetFile
		if err := json.Unmarshal(data, &set); err != nil {
			return err
		}
		set.Keys = append(set.Keys, set.Keys[0])
		doubled, err := json.Marshal(set)
		return errors.Join(err, os.WriteFile(path, doubled, 0o600))
	}, "keys[2]: another key has the kid "},
	"another key of the same kid": {func(path string, data []byte) error {
		var set keySetFile
		if err := json.Unmarshal(data, &set); err != nil {
			return err
		}
		var kid struct {
			Kid string `json:"kid"`
		}
		if err := json.Unmarshal(set.Keys[0], &kid); err != nil {
			return err
		}
		jwk := jose.JSONWebKey{Key: make([]byte, sealingKeySize), KeyID: kid.Kid, Use: "enc", Algorithm: "A256GCM"}
		text, err := jwk.MarshalJSON()
		if err != nil {
			return err
		}
		if set.Keys[0], err = json.Marshal(keyFile{Created: time.Now(), JWK: text}); err != nil {
			return err
		}
		data, err = json.Marshal(set)
		return errors.Join(err, os.WriteFile(path, data, 0o600))
	}, "it holds another key of the same kid than before"},
	"readable by every account": {func(path string, _ []byte) error { return os.Chmod(path, 0o644) }, "mode 0644 lets others read or change the key (mend: "},
	"writable by the group":     {func(path string, _ []byte) error { return os.Chmod(path, 0o660) }, "mode 0660 lets others"},
	"huge":                      {func(path string, _ []byte) error { return os.Truncate(path, 1<<30) }, "over 65536 bytes"},
}

func edited(text, want string) setSpoil {
	return setSpoil{func(path string, _ []byte) error { return os.WriteFile(path, []byte(text), 0o600) }, want}
}

func replaced(old, text, want string) setSpoil {
	return setSpoil{func(path string, data []byte) error {
		return os.WriteFile(path, bytes.Replace(data, []byte(old), []byte(text), 1), 0o600)
	}, want}
}

func TestDoubtfulKeySetRefusedAtOpen(t *testing.T) {
	for name, test := range setSpoils {
		t.Run(name, func(t *testing.T) {
			path := newSetFile(t)
			if err := test.spoil(path, readFile(t, path)); err != nil {
				t.Fatal(err)
			}
			if name == "folder" || name == "another key of the same kid" {
				return // which are good to begin with
			}
			for what, try := range map[string]func() error{
				"OpenKeys":  func() error { _, err := OpenKeys(path, nil); return err },
				"CheckKeys": func() error { _, err := CheckKeys(path); return err },
				"ListKeys":  func() error { _, err := ListKeys(path); return err },
			} {
				if err := try(); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: %v; want %q", what, err, test.want)
				}
			}
		})
	}
}

// A server that runs keeps all keys that it has, tells what is wrong once, and claims nothing about keys that it may not know.
func TestDoubtfulKeySetLater(t *testing.T) {
	for name, test := range setSpoils {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := newSetFile(t)
				good := readFile(t, path)
				var log bytes.Buffer
				keys, err := OpenKeys(path, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				run(t, keys)
				a := newIssuer(t, Opaque, keys)
				token, _ := issue(t, a)
				foreign, _ := issue(t, freshIssuer(t, Opaque))
				if err := test.spoil(path, bytes.Clone(good)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * maintainEvery)
				synctest.Wait()
				if err := keys.Problem(); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Problem = %v, want %q", err, test.want)
				}
				if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
					t.Errorf("told %d times:\n%s", n, &log)
				}
				accept(t, a, token)
				token, _ = issue(t, a)
				accept(t, a, token)
				if _, err := a.Check(t.Context(), foreign); err == nil || errors.Is(err, ErrInvalid) {
					t.Errorf("a token with a key that is not known: %v; want an error of ours", err)
				}
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				put(t, path, good)
				time.Sleep(maintainEvery)
				synctest.Wait()
				if err := keys.Problem(); err != nil {
					t.Errorf("Problem = %v after the file is back", err)
				}
				refuse(t, a, foreign, ErrInvalid)
				for _, secret := range secrets(t, good) {
					if strings.Contains(log.String(), secret) {
						t.Error("the log holds a key")
					}
				}
			})
		})
	}
}

// secrets are the private members of a set.
func secrets(tb testing.TB, data []byte) []string {
	tb.Helper()
	var set struct {
		Keys []struct {
			K string `json:"k"`
			D string `json:"d"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		tb.Fatal(err)
	}
	var list []string
	for _, k := range set.Keys {
		if k.K+k.D == "" {
			tb.Fatal("a key without a secret")
		}
		list = append(list, k.K+k.D)
	}
	return list
}

// A text that is wrong is refused, and no part of it is told.
func TestDoubtfulTextRefused(t *testing.T) {
	good := readFile(t, newSetFile(t))
	for name, text := range map[string]string{
		"cut short":   string(good[:len(good)-4]),
		"damaged":     strings.Replace(string(good), `"created": "2`, `"created": "3`, 1),
		"more behind": string(good) + string(good),
		"no keys":     "{}",
	} {
		for what, try := range map[string]func() error{
			"OpenKeys":  func() error { _, err := OpenKeys(text, nil); return err },
			"CheckKeys": func() error { _, err := CheckKeys(text); return err },
			"ListKeys":  func() error { _, err := ListKeys(text); return err },
			"AddKeys":   func() error { _, err := AddKeys(text, 0); return err },
			"RetireKey": func() error { _, err := RetireKey(text, "x", true); return err },
		} {
			err := try()
			if err == nil || strings.Contains(err.Error(), "created") || strings.Contains(err.Error(), `"k"`) {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			for _, secret := range secrets(t, good) {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s, %s: the error holds a key", name, what)
				}
			}
		}
	}
}

// A Kubernetes Secret is a folder of links: those of the files stay, and one link to a folder is exchanged. The group,
// which is fsGroup, may read it.
func TestSecretOfKubernetes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such links")
	}
	synctest.Test(t, func(t *testing.T) {
		made, mount := newSetFile(t), t.TempDir()
		publish := func(version string) {
			t.Helper()
			dir := filepath.Join(mount, version)
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "keys.json"), readFile(t, made), 0o440),
				os.Symlink(version, filepath.Join(mount, "..data_tmp")), os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data"))); err != nil {
				t.Fatal(err)
			}
		}
		publish("..1")
		path := filepath.Join(mount, "keys.json")
		if err := os.Symlink(filepath.Join("..data", "keys.json"), path); err != nil {
			t.Fatal(err)
		}
		a, b := newIssuer(t, Opaque, openKeys(t, path)), newIssuer(t, Opaque, openKeys(t, made))
		run(t, a.keys)
		first, _ := issue(t, b)
		accept(t, a, first)
		if _, err := AddKeys(made, MinKeyDelay); err != nil {
			t.Fatal(err)
		}
		publish("..2")
		if err := os.RemoveAll(filepath.Join(mount, "..1")); err != nil {
			t.Fatal(err)
		}
		run(t, b.keys)
		time.Sleep(MinKeyDelay + maintainEvery)
		synctest.Wait()
		second, _ := issue(t, b)
		if keyID(t, second) == keyID(t, first) {
			t.Fatal("the old key is in use")
		}
		accept(t, a, second)
		if err := a.keys.Problem(); err != nil {
			t.Error(err)
		}
	})
}

// A token with a key that came a moment ago is accepted by a server that has not read it, but strangers cannot make it read at will.
func TestUnknownKidReadsTheSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := newSetFile(t)
		a := newIssuer(t, Opaque, openKeys(t, path))
		foreign, _ := issue(t, freshIssuer(t, Opaque))
		refuse(t, a, foreign, ErrInvalid)
		if _, err := AddKeys(path, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultKeySetDelay) // and no Run
		a.keys.rereadLimiter.Allow()
		token, _ := issue(t, newIssuer(t, Opaque, openKeys(t, path)))
		refuse(t, a, token, ErrInvalid)
		time.Sleep(rereadPause)
		accept(t, a, token)
	})
}

func TestIsKeySet(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(filepath.Join(dir, "folder.json"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]bool{
		`{"keys":[]}`: true, "\n{\n": true, file: true, filepath.Join(dir, "nothing.json"): true, "nothing.jwks": true,
		dir: false, filepath.Join(dir, "folder.json"): false, filepath.Join(dir, "nothing"): false, "": false,
	} {
		if got := IsKeySet(source); got != want {
			t.Errorf("IsKeySet(%q) = %v", source, got)
		}
	}
}

// Whatever is taken for a set makes tokens and reads them back, and can be written and read again.
func FuzzParseKeySet(f *testing.F) {
	good := readFile(f, newSetFile(f))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"created":"2026-01-01T00:00:00Z","kty":"oct","use":"enc","alg":"A256GCM","kid":"k","k":""}]}`))
	f.Add([]byte(`{"keys":[{"use":"enc"},{"use":"sig"},null,1]}`))
	f.Add(bytes.ReplaceAll(good, []byte(`"use": "sig"`), []byte(`"use": "enc"`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := parseKeySet("keys.json", data, newKeySet())
		if err != nil {
			return
		}
		for _, u := range uses {
			for _, k := range set.ages[u] {
				token, err := k.seal([]byte("payload"))
				if err != nil {
					t.Fatal(err)
				}
				if ref, err := inspect(token); err != nil || set.byRef[ref] != k {
					t.Fatalf("inspect = %+v, %v", ref, err)
				}
				if payload, err := k.open(token); err != nil || string(payload) != "payload" {
					t.Fatalf("open = %q, %v", payload, err)
				}
			}
		}
		written, err := set.changed(keyChange{})
		if err != nil {
			return // too long
		}
		again, err := parseKeySet("keys.json", written, set)
		if err != nil || len(again.byRef) != len(set.byRef) {
			t.Fatalf("what is written again is not taken: %v", err)
		}
	})
}
