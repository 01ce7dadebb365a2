package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/testservice"
)

func allNodes() []node { return nodes(new(command).root()) }

// words splits an example as a shell does, up to where its output goes.
func words(line string) []string {
	var found []string
	for _, match := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		if match[2] == "|" || match[2] == ">" {
			break
		}
		found = append(found, strings.Trim(match[1]+match[2], "<()"))
	}
	if len(found) > 0 && found[0] == "source" {
		found = found[1:]
	}
	return found
}

// Every command has an example in its help, which has the flags that there are.
func TestExamples(t *testing.T) {
	t.Parallel()
	all := examples()
	var known []string
	for _, n := range allNodes() {
		if n.name() == "" {
			continue
		}
		known = append(known, n.name())
		if len(all[n.name()]) == 0 {
			t.Errorf("waybill %s has no example; see examples.go", n.name())
		}
		for _, line := range all[n.name()] {
			if !strings.Contains(n.command.Description, "\n   "+line) {
				t.Errorf("waybill %s does not show %q", n.name(), line)
			}
		}
	}
	for path, lines := range all {
		if !slices.Contains(known, path) {
			t.Errorf("there are examples of %q, which is no command", path)
		}
		for _, line := range lines {
			checkExample(t, path, line)
		}
	}
}

func checkExample(t *testing.T, path, line string) {
	t.Helper()
	typed := words(line)
	if len(typed) == 0 || typed[0] != "waybill" {
		t.Errorf("%q does not call waybill", line)
		return
	}
	typed = typed[1:]
	var at node
	for _, n := range allNodes() { // those below come later
		if len(n.path) <= len(typed) && slices.Equal(n.path, typed[:len(n.path)]) {
			at = n
		}
	}
	if at.name() != path && !strings.HasPrefix(at.name(), path+" ") {
		t.Errorf("%q is an example of %q, and stands at %q", line, at.name(), path)
	}
	for _, word := range typed {
		if strings.HasPrefix(word, "-") && !slices.ContainsFunc(at.flags, func(f flagDoc) bool { return slices.Contains(f.spelled(), word) }) {
			t.Errorf("%q: waybill %s has no flag %s", line, at.name(), word)
		}
	}
}

// The manual page tells of every command and every flag, and groff has nothing to say against it.
func TestManual(t *testing.T) {
	t.Parallel()
	testservice.Program(t, "groff")
	page := manual(allNodes())
	groff := exec.Command("groff", "-ww", "-man", "-Tascii", "-P-cbou")
	groff.Stdin = strings.NewReader(page)
	var warnings bytes.Buffer
	groff.Stderr = &warnings
	shown, err := groff.Output()
	if err != nil || warnings.Len() > 0 {
		t.Fatalf("%v: %s", err, &warnings)
	}
	sections := make(map[string]string) // by their headings
	heading := ""
	for line := range strings.Lines(string(shown)) {
		if name, ok := strings.CutPrefix(line, "   waybill"); ok {
			heading = strings.TrimSpace(name)
		}
		sections[heading] += line
	}
	for _, n := range allNodes() {
		section, ok := sections[strings.TrimSpace(n.name()+" "+strings.TrimSpace(n.command.ArgsUsage))]
		if !ok {
			t.Errorf("the page does not tell of %q", n.name())
			continue
		}
		for _, f := range n.flags {
			want := strings.Join(strings.Fields(strings.Join(f.spelled(), " "+f.value+", ")+" "+f.value), " ")
			if want = strings.ReplaceAll(want, " ,", ","); !strings.Contains(section, "\n       "+want+"\n") && !strings.Contains(section, "\n       "+want+" ") {
				t.Errorf("waybill %s: the page does not tell of %q", n.name(), want)
			}
		}
	}
	for name, want := range map[string]string{"token": "(default: RS256)", "init": "(default: waybill.yaml)", "bench": "(default: 20000)"} {
		if text := strings.Join(strings.Fields(sections[name]), " "); !strings.Contains(text, want) {
			t.Errorf("waybill %s: the page does not tell of %s: %s", name, want, text)
		}
	}
}

// completions is what is offered at the end of each line.
var completions = map[string][]string{
	"waybill tok":                       {"token"},
	"waybill ":                          {"assertion", "audit", "bench", "check", "completion", "explain", "health", "help", "init", "keys", "man", "probe", "profile", "request", "sandbox", "serve", "token", "version"},
	"waybill --v":                       {"--version"},
	"waybill keys ":                     {"add", "list", "retire"},
	"waybill keys retire --f":           {"--force"},
	"waybill profile add --client":      {"--client-id"},
	"waybill token --profile keys --ou": {"--output"}, // a value is no command
	"waybill sandbox show --d":          {"--dir"},    // from above
	"waybill sandbox show --listen":     {},           // which stays above
	"waybill token --bogus":             {},
	"waybill completion ":               {"bash", "fish", "zsh"},
	"waybill token --output ":           {"curl", "json", "token"},
	"waybill keys list --output j":      {"json"}, // from above
	"waybill assertion --alg RS3":       {"RS384"},
	"waybill assertion --break claim.i": {"claim.iat", "claim.iss"},
	"waybill probe --only jwt.c":        {"jwt.compact"},
	"waybill probe --only off":          {"official"},
	"waybill token --profile pro":       {"provider"},
	"waybill request -p ":               {"default", "provider"},
}

// checkCompletions runs a program for each line, which is its last argument. The lines of one shell are besides.
func checkCompletions(t *testing.T, besides map[string][]string, complete func(line []string) *exec.Cmd) {
	t.Helper()
	home, settings, here := t.TempDir(), t.TempDir(), t.TempDir()
	profiles := filepath.Join(settings, "waybill", "profiles")
	if err := os.MkdirAll(profiles, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(profiles, "default.yaml"), "")
	write(t, filepath.Join(profiles, "provider.yaml"), "")
	all := maps.Clone(completions)
	maps.Copy(all, besides)
	for line, want := range all {
		cmd := complete(strings.Split(line, " "))
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+settings, "XDG_DATA_HOME="+home)
		cmd.Dir = here // where there are no files to complete
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v, %s", line, err, out)
			continue
		}
		got := []string{}
		for offered := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSuffix(offered, "\n"), "\t")
			if word != "" {
				got = append(got, word)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q:\n%s", line, diff)
		}
	}
}

// completionFile writes the script of a shell.
func completionFile(t *testing.T, shell string) string {
	t.Helper()
	testservice.Program(t, shell)
	status, script, said := commandLine(t, "completion", shell)
	if status != statusDone || said != "" {
		t.Fatalf("status %d, %s", status, said)
	}
	path := filepath.Join(t.TempDir(), "waybill."+shell)
	write(t, path, script)
	return path
}

func TestBashCompletion(t *testing.T) {
	t.Parallel()
	script := completionFile(t, "bash")
	cut := map[string][]string{"waybill token --output =": {"curl", "json", "token"}, "waybill token --output = j": {"json"}} // as bash does
	checkCompletions(t, cut, func(line []string) *exec.Cmd {
		return exec.Command("bash", slices.Concat([]string{"--norc", "-c", `. "$0" && complete -p waybill >/dev/null
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _waybill; printf '%s\n' "${COMPREPLY[@]}"`, script}, line)...)
	})
}

// The functions that zsh has for the purpose need a terminal: they are replaced by ones that print what they get.
func TestZshCompletion(t *testing.T) {
	t.Parallel()
	script := completionFile(t, "zsh")
	checkCompletions(t, map[string][]string{"waybill token --output=j": {"json"}}, func(line []string) *exec.Cmd {
		return exec.Command("zsh", slices.Concat([]string{"-f", "-c", `compdef() { :; }
_files() { :; }
compset() { words[CURRENT]=${words[CURRENT]#*=}; }
_describe() { local all=(${(P)@[-1]}); for word in $all; do [[ $word == $words[CURRENT]* ]] && print -r -- ${word%%:*}; done; true; }
. "$0" && words=("$@") CURRENT=$# && _waybill`, script}, line)...)
	})
}

func TestFishCompletion(t *testing.T) {
	t.Parallel()
	script := completionFile(t, "fish")
	checkCompletions(t, map[string][]string{"waybill token --output=j": {"--output=json"}}, func(line []string) *exec.Cmd {
		return exec.Command("fish", "--no-config", "-c", `source $argv[1]; complete -C (string join ' ' -- $argv[2..-1])`, script, strings.Join(line, " "))
	})
}
