package hostile

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/internal/shipped"
)

// Environment of these tests.
const (
	formVariable = "WAYBILL_HOSTILE"      // short or full; absent: they are skipped
	roleVariable = "WAYBILL_HOSTILE_ROLE" // set in processes that the tests start
)

// TestMain is the tests, or what plays a part in them: clients and attackers are processes of their own, so that
// neither waits for the other's garbage collector.
func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		var err error
		if scratch, err = os.MkdirTemp("", "waybill-hostile-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(scratch)
		m.Run()
		return
	}
	if err := play(role, os.Stdin, os.Stdout); err != nil {
		panic(err) // the parent reads it
	}
}

// scratch is a folder for what all tests share.
var scratch string

// A part is what a process is told on its standard input, which ends when it is to stop.
type part struct {
	World  world
	Public string // address
	Inner  string // address of the internal listener
	Roots  string // file; empty: plain HTTP
	Short  bool
	Rate   int // requests a second
	For    time.Duration
}

func play(role string, in io.Reader, out io.Writer) error {
	var p part
	if err := gob.NewDecoder(in).Decode(&p); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		io.Copy(io.Discard, in)
		stop()
	}()
	var result any
	if role == "client" {
		result = (&client{part: p}).run(ctx)
	} else {
		result = attackAs(ctx, role, p)
	}
	return gob.NewEncoder(out).Encode(result)
}

// A player is a process that plays a part.
type player struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	said  chan []byte
	wrong *logtest.Buffer
}

// start has a process play a part. Attackers give way to others: in life, they have machines of their own.
func start(tb testing.TB, role string, p part) *player {
	tb.Helper()
	command := []string{os.Args[0]}
	if role != "client" {
		command = append([]string{"nice", "-n", "10"}, command...)
	}
	command = onCores(others(), command)
	a := &player{cmd: exec.Command(command[0], command[1:]...), said: make(chan []byte, 1), wrong: &logtest.Buffer{}}
	a.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	a.cmd.Stderr = a.wrong
	output := must(a.cmd.StdoutPipe())
	a.input = must(a.cmd.StdinPipe())
	if err := a.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if err := gob.NewEncoder(a.input).Encode(p); err != nil {
		tb.Fatal(err)
	}
	go func() {
		said, _ := io.ReadAll(output)
		a.said <- said
	}()
	tb.Cleanup(func() { a.cmd.Process.Kill() }) // it may be gone
	return a
}

// end has the process stop and tell its result.
func (a *player) end(tb testing.TB, result any) {
	tb.Helper()
	a.input.Close()
	a.finish(tb, result)
}

// finish waits until the process has told its result.
func (a *player) finish(tb testing.TB, result any) {
	tb.Helper()
	select {
	case said := <-a.said:
		err := a.cmd.Wait()
		if err := errors.Join(err, gob.NewDecoder(bytes.NewReader(said)).Decode(result)); err != nil {
			tb.Fatalf("%v: %v\n%s", a.cmd.Args, err, a.wrong)
		}
	case <-time.After(2 * time.Minute):
		tb.Fatalf("%v does not end\n%s", a.cmd.Args, a.wrong)
	}
}

// form says whether the short form is wanted, and skips the test when none is.
func form(tb testing.TB) (short bool) {
	tb.Helper()
	switch os.Getenv(formVariable) {
	case "short":
		return true
	case "full":
		return false
	}
	tb.Skip("takes minutes; " + formVariable + "=short or full runs it, as .ci/hostile and .ci/soak do")
	return false
}

// program is the program as it is shipped.
var program = sync.OnceValues(func() (string, error) { return shipped.Program(scratch) })

// onCores has a command run on some of the processors, where that can be said.
func onCores(cores string, command []string) []string {
	if cores == "" {
		return command
	}
	return append([]string{"taskset", "-c", cores}, command...)
}

// own and others divide the processors between the server and everybody else, who in life would not be on
// its machine. One processor, or a system without taskset, cannot be divided.
func own() string {
	if n := runtime.NumCPU(); n > 1 && divisible() {
		return "0-" + strconv.Itoa(n/2-1)
	}
	return ""
}

func others() string {
	if n := runtime.NumCPU(); n > 1 && divisible() {
		return strconv.Itoa(n/2) + "-" + strconv.Itoa(n-1)
	}
	return ""
}

var divisible = sync.OnceValue(func() bool { return exec.Command("taskset", "-c", "0", "true").Run() == nil })

// must is for what can only go wrong when the machine is not fit for the tests.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// pause waits, and reports false when ctx is done first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
