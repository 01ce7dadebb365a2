package replay_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/replay"
)

// childFolder makes the test binary a process that keeps a store in the folder.
const childFolder = "WAYBILL_REPLAY_TEST_FOLDER"

// childLeeway is short, since the test waits for it.
const childLeeway = time.Second

func TestMain(m *testing.M) {
	dir, ok := os.LookupEnv(childFolder)
	if !ok {
		m.Run()
		return
	}
	if err := serve(dir, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// serve answers one pair a line, some at a time, for as long as it lives.
func serve(dir string, in io.Reader, out io.Writer) error {
	m, err := replay.Open(childConfig(dir))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "open")
	pairs := make(chan string)
	for range 4 {
		go func() {
			for line := range pairs {
				fmt.Fprintln(out, answer(m, line), line)
			}
		}()
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		pairs <- lines.Text()
	}
	return lines.Err()
}

func childConfig(dir string) replay.Config {
	return replay.Config{Dir: dir, Leeway: childLeeway, NoHistory: true}
}

func answer(m *replay.Memory, line string) string {
	p, err := parsePair(line)
	if err != nil {
		return "error"
	}
	first, err := m.UseAt(time.Now(), p)
	var unsure *replay.UndecidedError
	switch {
	case errors.As(err, &unsure):
		return "unsure"
	case err != nil:
		return "error"
	case first:
		return "yes"
	}
	return "no"
}

// parsePair reads a jti and a time of issue in nanoseconds.
func parsePair(line string) (replay.Pair, error) {
	var jti string
	var issued int64
	if _, err := fmt.Sscan(line, &jti, &issued); err != nil {
		return replay.Pair{}, err
	}
	at := time.Unix(0, issued)
	return replay.Pair{Issuer: "did:ishare:A", JTI: jti, IssuedAt: at, Until: at.Add(30*time.Second + childLeeway)}, nil
}

// A child is a process that keeps a store.
type child struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	if !c.out.Scan() || c.out.Text() != "open" {
		t.Fatalf("the process does not open its store: %q", c.out.Text())
	}
	return c
}

// feed presents the old pairs and then new ones, every second one of a client whose
// clock runs ahead by the leeway, until the process is gone.
func (c *child) feed(round int, old []string) {
	for _, line := range old {
		fmt.Fprintln(c.in, line)
	}
	for i := 0; ; i++ {
		at := time.Now().Add(time.Duration(i%2) * childLeeway)
		if _, err := fmt.Fprintf(c.in, "%d/%d %d\n", round, i, at.UnixNano()); err != nil {
			return
		}
	}
}

// TestKilled kills a process that is letting pairs in, again and again, and lets its
// successor see every pair that was let in before.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := map[string]bool{}
	for round := range 4 {
		old := slices.Collect(maps.Keys(in))
		c := startChild(t, dir)
		if _, err := replay.Open(childConfig(dir)); !errors.Is(err, replay.ErrInUse) {
			t.Fatalf("two processes in one folder: %v", err)
		}
		var feeding sync.WaitGroup
		feeding.Go(func() { c.feed(round, old) })
		if again := c.killAfter(t, in, len(old), 300); again != len(old) {
			t.Errorf("round %d: %d of %d old pairs were answered", round, again, len(old))
		}
		feeding.Wait()
		c.cmd.Wait() // it was killed, and says so
	}
	m := open(t, childConfig(dir))
	for line := range in {
		if got := answer(m, line); got != "unsure" {
			t.Errorf("%s: %s, want unsure", line, got)
		}
	}
}

// killAfter reads answers, kills the process when the old pairs have been answered, of which one
// may be overtaken by many new ones, and some more have been let in, and reads what it said until
// then. It returns how many answers were about pairs that
// had been let in before.
func (c *child) killAfter(t *testing.T, in map[string]bool, old, more int) (again int) {
	t.Helper()
	for enough := len(in) + more; c.out.Scan(); {
		what, line, _ := strings.Cut(c.out.Text(), " ")
		switch {
		case what == "error":
			t.Errorf("%s: error", line)
		case what == "yes" && in[line]:
			t.Errorf("%s was let in twice", line)
		case in[line]:
			again++
		case what == "yes":
			in[line] = true
		}
		if len(in) >= enough && again >= old || len(in) == 10*enough { // the latter when one is never answered
			c.cmd.Process.Kill()
		}
	}
	return again
}
