//go:build unix

package permission_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/permission"
)

// A tree makes files and folders below a folder of the test's own.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T) tree {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, passed := range []string{dir, filepath.Dir(dir)} { // so that others come to what is in it
		if err := os.Chmod(passed, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tree{t, dir}
}

func (f tree) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f tree) done(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// put makes a file with the mode, or a folder when the name ends with a slash.
func (f tree) put(name string, mode os.FileMode) {
	f.t.Helper()
	if folder, ok := strings.CutSuffix(name, "/"); ok {
		f.done(os.Mkdir(f.path(folder), 0o700))
	} else {
		f.done(os.WriteFile(f.path(name), nil, 0o600))
	}
	f.done(os.Chmod(f.path(name), mode)) // whatever the umask is
}

func (f tree) link(target, name string) {
	f.t.Helper()
	f.done(os.Symlink(target, f.path(name)))
}

// give makes an account with the number the owner of a file, and the group too.
func (f tree) give(name string, user, group int) {
	f.t.Helper()
	if os.Geteuid() != 0 {
		f.t.Skip("only root can give files away")
	}
	f.done(os.Lchown(f.path(name), user, group))
}

// short tells what was found in the tree: the name, and E, G, O or R for what everybody or the group may
// change, what belongs to another account, and what everybody or the group S may read.
func (f tree) short(found []permission.Finding) []string {
	f.t.Helper()
	told := []string{}
	for _, finding := range found {
		name, ok := strings.CutPrefix(finding.Path, f.dir+string(filepath.Separator))
		if !ok {
			continue // above the tree
		}
		letter, group, reads := "?", strings.Contains(finding.Message, "members of the group"), strings.Contains(finding.Message, "can read")
		switch {
		case group && reads:
			letter = "S"
		case group:
			letter = "G"
		case reads:
			letter = "R"
		case strings.Contains(finding.Message, "every account of this machine may"):
			letter = "E"
		case strings.Contains(finding.Message, "belongs to the account"):
			letter = "O"
		}
		if finding.Everybody != (letter == "E") {
			f.t.Errorf("%+v", finding)
		}
		if finding.Hint == "" || !strings.Contains(finding.Hint, permission.Quote(finding.Path)) {
			f.t.Errorf("%s: the mend is %q", name, finding.Hint)
		}
		told = append(told, name+" "+letter)
	}
	slices.Sort(told)
	return told
}

func TestOf(t *testing.T) {
	t.Parallel()
	const stranger, others = 54321, 54000
	group := os.Getegid()
	for name, c := range map[string]struct {
		make   func(f tree)
		path   string
		secret string
		want   []string
	}{
		"right":                        {make: func(f tree) { f.put("file", 0o644) }, path: "file"},
		"everybody":                    {make: func(f tree) { f.put("file", 0o646) }, path: "file", want: []string{"file E"}},
		"everybody, in a sound folder": {make: func(f tree) { f.put("a/", 0o700); f.put("a/file", 0o666) }, path: "a/file", want: []string{"a/file E"}},
		"secret":                       {make: func(f tree) { f.put("file", 0o640) }, path: "file", secret: "password"},
		"secret that all read":         {make: func(f tree) { f.put("file", 0o604) }, path: "file", secret: "password", want: []string{"file R"}},
		"secret that all read, out of their reach": {make: func(f tree) { f.put("a/", 0o700); f.put("a/b/", 0o755); f.put("a/b/file", 0o644) }, path: "a/b/file", secret: "password"},
		"link out of their reach to a secret that all read": {make: func(f tree) {
			f.put("a/", 0o700)
			f.put("file", 0o644)
			f.link("../file", "a/link")
		}, path: "a/link", secret: "password", want: []string{"a/link R"}},
		"secret that all read, for a group to reach": {make: func(f tree) {
			f.put("a/", 0o750)
			f.put("a/file", 0o604)
			f.give("a", 0, others)
			f.give("a/file", stranger, 0)
		}, path: "a/file", secret: "password", want: []string{"a/file O", "a/file S"}},
		"secret that a group reads": {make: func(f tree) { f.put("file", 0o640); f.give("file", stranger, others) }, path: "file", secret: "password", want: []string{"file O", "file S"}},
		"secret that a group reads, out of its reach": {make: func(f tree) {
			f.put("a/", 0o750)
			f.put("a/file", 0o640)
			f.give("a", 0, others+1)
			f.give("a/file", stranger, others)
		}, path: "a/file", secret: "password", want: []string{"a/file O"}},
		"secret that the owner's own group reads":                                     {make: func(f tree) { f.put("file", 0o640); f.give("file", stranger, stranger) }, path: "file", secret: "password", want: []string{"file O"}},
		"secret that root's group reads":                                              {make: func(f tree) { f.put("file", 0o640); f.give("file", stranger, 0) }, path: "file", secret: "password", want: []string{"file O"}},
		"secret of root for a group, as fsGroup, LoadCredential and ssl-cert have it": {make: func(f tree) { f.put("file", 0o440); f.give("file", 0, others) }, path: "file", secret: "private key"},
		"a credential of systemd": {make: func(f tree) {
			f.put("credentials/", 0o500)
			f.put("credentials/key", 0o440)
			f.give("credentials", stranger, stranger)
			f.give("credentials/key", stranger, others)
		}, path: "credentials/key", secret: "private key", want: []string{"credentials O", "credentials/key O"}},
		"a secret of Kubernetes without defaultMode": {make: func(f tree) {
			f.put("secret/", 0o777|os.ModeSticky)
			f.put("secret/..1/", 0o755)
			f.put("secret/..1/key", 0o644)
			f.link("..1", "secret/..data")
			f.link("..data/key", "secret/key")
		}, path: "secret/key", secret: "private key", want: []string{"secret/key R"}},
		"open folder":                {make: func(f tree) { f.put("a/", 0o707); f.put("a/file", 0o600) }, path: "a/file", want: []string{"a E"}},
		"open folder further up":     {make: func(f tree) { f.put("a/", 0o777); f.put("a/b/", 0o700); f.put("a/b/file", 0o600) }, path: "a/b/file", want: []string{"a E"}},
		"sticky folder":              {make: func(f tree) { f.put("a/", 0o777|os.ModeSticky); f.put("a/file", 0o600) }, path: "a/file"},
		"sticky folder of our own":   {make: func(f tree) { f.put("a/", 0o777|os.ModeSticky) }, path: "a", want: []string{"a E"}},
		"absent":                     {make: func(f tree) { f.put("a/", 0o777) }, path: "a/b/file", want: []string{"a E"}},
		"link out of an open folder": {make: func(f tree) { f.put("a/", 0o777); f.put("file", 0o600); f.link("../file", "a/link") }, path: "a/link", want: []string{"a E"}},
		"link into an open folder":   {make: func(f tree) { f.put("a/", 0o777); f.put("a/file", 0o600); f.link(f.path("a/file"), "link") }, path: "link", want: []string{"a E"}},
		"links over an open folder": {make: func(f tree) {
			f.put("a/", 0o777)
			f.put("file", 0o600)
			f.link("../file", "a/link")
			f.link("a/link", "link")
		}, path: "link", want: []string{"a E"}},
		"a secret as Kubernetes mounts it": {make: func(f tree) {
			f.put("secret/", 0o777|os.ModeSticky)
			f.put("secret/..2026_11_29/", 0o755)
			f.put("secret/..2026_11_29/key", 0o440)
			f.link("..2026_11_29", "secret/..data")
			f.link("..data/key", "secret/key")
		}, path: "secret/key", secret: "private key"},
		"links in a circle": {make: func(f tree) { f.link("two", "one"); f.link("one", "two") }, path: "one"},
		"group":             {make: func(f tree) { f.put("file", 0o660); f.give("file", 0, 12345) }, path: "file", want: []string{"file G"}},
		"folder of a group": {make: func(f tree) { f.put("a/", 0o770); f.give("a", 0, 12345) }, path: "a/file", want: []string{"a G"}},
		"root's own group":  {make: func(f tree) { f.put("file", 0o660); f.give("file", 0, 0) }, path: "file", want: []string{"file G"}},
		"group of one":      {make: func(f tree) { f.put("file", 0o660); f.give("file", stranger, stranger) }, path: "file", want: []string{"file O"}},
		"stranger":          {make: func(f tree) { f.put("file", 0o600); f.give("file", stranger, group) }, path: "file", want: []string{"file O"}},
		"stranger's folder": {make: func(f tree) { f.put("a/", 0o755); f.put("a/file", 0o600); f.give("a", stranger, group) }, path: "a/file", want: []string{"a O"}},
		"stranger's link": {make: func(f tree) {
			f.put("a/", 0o777|os.ModeSticky)
			f.put("file", 0o600)
			f.link("../file", "a/link")
			f.give("a/link", stranger, group)
		}, path: "a/link", want: []string{"a/link O"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newTree(t)
			c.make(f)
			if diff := cmp.Diff(append([]string{}, c.want...), f.short(permission.Of(f.path(c.path), c.secret))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	f := newTree(t)
	f.put("data/", 0o700)
	f.put("data/replay/", 0o700)
	f.put("data/replay/life", 0o600)
	if found := f.short(permission.Within(f.path("data"))); len(found) > 0 {
		t.Errorf("a sound folder: %q", found)
	}
	f.put("data/keys/", 0o777)
	f.put("data/replay/hand-over", 0o666)
	f.put("elsewhere", 0o666)
	f.link("../elsewhere", "data/link")
	f.link("data", "current")
	for _, dir := range []string{"data", "current"} {
		want := []string{"data/keys E", "data/replay/hand-over E", "elsewhere E"}
		if diff := cmp.Diff(want, f.short(permission.Within(f.path(dir)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
}

// However much there is to tell, what everybody may change is told.
func TestWithinIsBounded(t *testing.T) {
	t.Parallel()
	f := newTree(t)
	f.put("data/", 0o700)
	for i := range 100 {
		name := fmt.Sprintf("data/%03d", i)
		f.put(name, 0o600)
		f.give(name, 54321, 54321)
	}
	f.put("data/last", 0o666)
	if found := f.short(permission.Within(f.path("data"))); len(found) > 11 || !slices.Contains(found, "data/last E") {
		t.Errorf("%q", found)
	}
}

// A volume that every account may write to is told of and no reason to stop.
func TestVolume(t *testing.T) {
	t.Parallel()
	const volume = "/dev/shm" // of Linux, when it is there
	info, err := os.Stat(volume)
	if err != nil || info.Mode().Perm()&0o002 == 0 {
		t.Skip("no volume that everybody may write to")
	}
	found := permission.Of(volume, "")
	if len(found) == 0 || found[0].Everybody || !strings.Contains(found[0].Message, "this volume") {
		t.Errorf("%+v", found)
	}
}
