// Package docs_test holds the pages against the tree.
package docs_test

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/config"
)

const root = ".."

// files lists files of the tree by the end of their names, without what is hidden and what a run leaves behind.
func files(t *testing.T, end string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "waybill-sandbox"):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(name, end):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s|]*)(#[^)\s]*)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// anchors are those that renderers make of the headings of a page.
func anchors(page string) []string {
	var all []string
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		all = append(all, "#"+strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return r
			}
			return -1
		}, strings.ToLower(match[1])))
	}
	return all
}

// TestLinks: what a page points to is there.
func TestLinks(t *testing.T) {
	for _, page := range files(t, ".md") {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(match[1], ":") || match[1]+match[2] == "" { // somewhere else, or no link
				continue
			}
			there := page
			if match[1] != "" {
				there = filepath.Join(filepath.Dir(page), match[1])
			}
			if _, err := os.Stat(there); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if match[2] != "" && strings.HasSuffix(there, ".md") && !slices.Contains(anchors(read(t, there)), match[2]) {
				t.Errorf("%s: %s has no heading %s", page, there, match[2])
			}
		}
	}
}

// A picture is shown as Markdown or as HTML: with what is said to whoever does not see it, and its file.
var (
	shownPicture = regexp.MustCompile(`!\[([^\]]*)\]\(([^)\s]+)\)|<img alt="([^"]*)" src="([^"]+)"`)
	otherPicture = regexp.MustCompile(`<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">`)
)

// TestPictures: each picture of a page is there, says in words what it shows, and is small. Each file of a picture is on a page.
func TestPictures(t *testing.T) {
	shown := map[string]bool{}
	for _, page := range files(t, ".md") {
		text, dir := read(t, page), filepath.Dir(page)
		for _, match := range shownPicture.FindAllStringSubmatch(text, -1) {
			words, file := match[1]+match[3], filepath.Join(dir, match[2]+match[4])
			if strings.Contains(match[2]+match[4], ":") { // somewhere else
				continue
			}
			shown[file] = true
			if len(strings.Fields(words)) < 8 {
				t.Errorf("%s: of %s it says no more than %q", page, file, words)
			}
		}
		for _, match := range otherPicture.FindAllStringSubmatch(text, -1) {
			shown[filepath.Join(dir, match[1])] = true
		}
	}
	for _, file := range slices.Concat(files(t, ".svg"), files(t, ".png")) {
		if !shown[file] {
			t.Errorf("no page shows %s", file)
		}
		if size := len(read(t, file)); size > 150<<10 {
			t.Errorf("%s has %d bytes", file, size)
		}
	}
	for file := range shown {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
		light, isPNG := strings.CutSuffix(file, ".png")
		if isPNG && !strings.HasSuffix(light, "-dark") && !shown[light+"-dark.png"] {
			t.Errorf("no page shows %s in the dark", file)
		}
	}
}

// TestDrawings: a drawing of ours is good in light and dark, says what it shows, and needs nothing else. That of the profile is the
// profiler's.
func TestDrawings(t *testing.T) {
	for _, file := range files(t, ".svg") {
		if filepath.Base(file) == "profile.svg" {
			continue
		}
		text := read(t, file)
		if !strings.Contains(text, "@media (prefers-color-scheme: dark)") {
			t.Errorf("%s has no colours for the dark", file)
		}
		said := map[string]bool{}
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			element, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			said[element.Name.Local] = true
			for _, a := range element.Attr {
				if a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "url(") && !strings.Contains(a.Value, "url(#") {
					t.Errorf("%s: %s has %s=%q", file, element.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
		if !said["title"] || !said["desc"] || !said["text"] || said["script"] || said["image"] || said["foreignObject"] {
			t.Errorf("%s has the elements %v", file, slices.Sorted(maps.Keys(said)))
		}
	}
}

// fragments is a program around pieces of Go: each sees what a page takes for granted.
const fragments = `package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
)

var (
	_ = time.Hour
	_ = accesstoken.New
	_ = guard.Require
)

func main() {}
`

// TestPrograms: the Go that pages show compiles, programs as they are and pieces in a program.
func TestPrograms(t *testing.T) {
	pieces := fragments
	var programs []block
	for _, b := range blocks(t) {
		switch {
		case b.language != "go":
		case strings.HasPrefix(b.text, "package "):
			programs = append(programs, b)
		default:
			pieces += "\nfunc _(ctx context.Context, log *slog.Logger, mux *http.ServeMux, tokens *accesstoken.Issuer, orders http.Handler, err error) {\n\t{\n" +
				b.text + "\n\t_, _ = tokens, err\n\t}\n}\n"
		}
	}
	if len(programs) == 0 || pieces == fragments {
		t.Fatal("the pages show no program, or no piece of one")
	}
	for _, b := range append(programs, block{page: "pieces", text: pieces}) {
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		vet := exec.CommandContext(t.Context(), "go", "vet", file)
		vet.Dir = root
		if said, err := vet.CombinedOutput(); err != nil {
			t.Errorf("%s: %v:\n%s", b.page, err, said)
		}
	}
}

// minimal is the least that a configuration must say.
const minimal = `party: {id: "did:ishare:EU.NL.NTRNL-10000000", key: key.pem, certificates: chain.pem}
participants: {file: parties.yaml}
trust: {anchors: [root.pem]}
`

// TestConfigurations: what pages show of a configuration is one, and all YAML and JSON can be read. Parts of a configuration are
// put into one that says the rest.
func TestConfigurations(t *testing.T) {
	var whole, parts int
	for _, b := range blocks(t) {
		var members map[string]any
		switch {
		case b.language == "json":
			if err := json.Unmarshal([]byte(b.text), new(any)); err != nil {
				t.Errorf("%s\n%v", b, err)
			}
			continue
		case b.language != "yaml" || yaml.Unmarshal([]byte(b.text), &members) != nil: // or a list
			if b.language == "yaml" && yaml.Unmarshal([]byte(b.text), new(any)) != nil {
				t.Errorf("%s\ncannot be read", b)
			}
			continue
		}
		ours := false
		for f := range reflect.TypeFor[config.Config]().Fields() {
			ours = ours || f.IsExported() && members[f.Tag.Get("yaml")] != nil
		}
		if !ours || strings.HasPrefix(b.page, "docs/guard/") { // which shows those of other programs
			continue
		}
		text := b.text
		for line := range strings.Lines(minimal) {
			if name, _, _ := strings.Cut(line, ":"); members[name] == nil {
				text += "\n" + line
			}
		}
		if text == b.text {
			whole++
		} else {
			parts++
		}
		if _, err := config.Parse("waybill.yaml", []byte(text), nil); err != nil {
			t.Errorf("%s\n%v", b, err)
		}
	}
	if whole == 0 || parts == 0 {
		t.Errorf("the pages show %d configurations, and %d parts of one", whole, parts)
	}
}

// TestLanguages: each kind of block is one that something looks at, or that is for the eye.
func TestLanguages(t *testing.T) {
	known := map[string]string{
		"sh": "TestSnippets", "console": "internal/daemon, in docs/guard only", "go": "TestPrograms", "yaml": "TestConfigurations", "json": "TestConfigurations",
		"js": ".ci/clients", "python": ".ci/clients", "java": ".ci/clients", "csharp": ".ci/clients holds it to its file",
		"nginx": "internal/daemon", "haproxy": "internal/daemon", "lua": "internal/daemon",
		"": "a picture", "text": "what is printed, or a file of docs/guard", "http": "what is answered",
		"ini": "settings of systemd, and of PostgreSQL as pgtest makes them", "sql": "for an administrator of PostgreSQL; internal/pgtest",
	}
	for _, b := range blocks(t) {
		if known[b.language] == "" {
			t.Errorf("%s\nnobody looks at %q", b, b.language)
		}
	}
}

var row = regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\|")

// TestPackages: the table of docs/architecture.md has every package, once, and no other.
func TestPackages(t *testing.T) {
	page := read(t, "architecture.md")
	_, page, _ = strings.Cut(page, "\n## Packages\n")
	page, glossary, _ := strings.Cut(page, "\n## Glossary\n")
	if glossary == "" {
		t.Fatal("there is no table of packages before a glossary")
	}
	// Told in the row of the package that they belong to.
	told := []string{"replay/replaytest", "accesstoken/accesstokentest", "internal/pkcs11/softhsm"}
	for _, name := range told {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s is not told of", name)
		}
	}
	var want, got []string
	for _, file := range files(t, ".go") {
		name, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		if name = filepath.ToSlash(name); name != "docs" && !slices.Contains(told, name) {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, match := range row.FindAllStringSubmatch(page, -1) {
		got = append(got, match[1])
	}
	slices.Sort(got)
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not in the table", name)
		}
	}
	for i, name := range got {
		if !slices.Contains(want, name) || i > 0 && got[i-1] == name {
			t.Errorf("%s is in the table and no package, or there twice", name)
		}
	}
}

var target = regexp.MustCompile("`make ([a-z]+)`")

// TestTargets: the targets of the Makefile that pages name are there.
func TestTargets(t *testing.T) {
	makefile := read(t, filepath.Join(root, "Makefile"))
	for _, match := range target.FindAllStringSubmatch(read(t, filepath.Join(root, "CONTRIBUTING.md")), -1) {
		if !strings.Contains(makefile, "\n"+match[1]+":") {
			t.Errorf("there is no target %s", match[1])
		}
	}
}
