package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/internal/testservice"
)

// longEnough is a time limit for what must happen at all, however busy the machine.
const longEnough = time.Minute

// TestScript runs the scripts, each in a folder of its own with the files of the cast.
// Besides what testscript has, they can say:
//
//	status N COMMAND…    run the command, which must exit with this status
//	fill FILE…           put variables of the environment into files
//	waitfor FILE REGEXP  wait until the file matches
//	serving FILE         wait until this log of waybill serve says where; set URL and INTERNAL
//	pasted N STATUS      run the command that the sandbox has printed into the file out under this number
//	take VARIABLE FILE REGEXP  set a variable to the first submatch of the file, which is waited for
//	p12 KEY CHAIN FILE   write a key and its chain as PKCS#12 with the password
//	api [ENDPOINT]       start an API of somebody else's, whose capabilities name this token endpoint; set API
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scripts("testdata/script"))
}

func scripts(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Condition:           condition,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":  cmdStatus,
			"fill":    cmdFill,
			"waitfor": cmdWaitFor,
			"serving": cmdServing,
			"pasted":  cmdPasted,
			"take":    cmdTake,
			"p12":     cmdP12,
			"api":     cmdAPI,
		},
	}
}

func setUp(env *testscript.Env) error {
	if err := writeFiles(env.WorkDir); err != nil {
		return err
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { taken.Close() })
	env.Setenv("TAKEN", taken.Addr().String())
	// An assertion that is made soon, or not quite so soon, is good at this time.
	now := time.Now().UTC().Add(assertion.Lifetime / 2)
	env.Setenv("NOW", now.Format(time.RFC3339))
	env.Setenv("LATER", now.Add(time.Hour).Format(time.RFC3339))
	env.Setenv("PROVIDER", providerID)
	env.Setenv("CONSUMER", consumerID)
	env.Setenv("FORMER", formerID)
	env.Setenv("PASSWORD", password)
	return nil
}

// condition knows whether no folder is closed to whoever runs this, whether this is
// the build that reads keys in hardware, and whether a program is there that tests
// need: service:curl.
func condition(name string) (bool, error) {
	program, isService := strings.CutPrefix(name, "service:")
	switch {
	case name == "root":
		return os.Geteuid() == 0, nil
	case name == "pkcs11":
		return readsHardware, nil
	case !isService:
		return false, fmt.Errorf("there is no condition %s", name)
	}
	_, err := exec.LookPath(program)
	if err != nil && testservice.Required() {
		return false, fmt.Errorf("WAYBILL_TEST_SERVICES=require: %w", err)
	}
	return err == nil, nil
}

// check fails the script unless a command ended with the status.
func check(ts *testscript.TestScript, want string, err error) {
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit status %d, want %s", got, want)
	}
}

func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND…")
	}
	check(ts, args[0], ts.Exec(args[1], args[2:]...))
}

func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	for _, file := range args {
		filled := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(filled), 0o600))
	}
}

// await asks again and again, a while after the other.
func await(so func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(longEnough); !so(); {
		select {
		case <-tick.C:
		case <-late:
			return false
		}
	}
	return true
}

func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE REGEXP")
	}
	waitFor(ts, args[0], args[1])
}

// waitFor gives the first submatches of the file.
func waitFor(ts *testscript.TestScript, file, expression string) []string {
	pattern := regexp.MustCompile("(?m)" + expression)
	var content []byte
	var found []string
	if !await(func() bool {
		content, _ = os.ReadFile(ts.MkAbs(file)) // it may not be there yet
		found = pattern.FindStringSubmatch(string(content))
		return found != nil
	}) {
		ts.Fatalf("%s does not match %s:\n%s", file, expression, content)
	}
	return found
}

func cmdServing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serving FILE")
	}
	line := waitFor(ts, args[0], `^.*"msg":"serving".*$`)[0]
	public, internal, err := addresses([]byte(line))
	ts.Check(err)
	ts.Setenv("URL", public)
	ts.Setenv("INTERNAL", internal)
}

// addresses takes the URLs of a server from the line of its log that says them.
func addresses(line []byte) (public, internal string, err error) {
	var serving struct{ Public, Internal string }
	if err := json.Unmarshal(line, &serving); err != nil {
		return "", "", err
	}
	return "http://" + serving.Public, "http://" + serving.Internal, nil
}

func cmdPasted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pasted N STATUS")
	}
	command, err := printed(ts.ReadFile("out"), args[0])
	ts.Check(err)
	check(ts, args[1], ts.Exec("sh", "-c", command))
}

func cmdTake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: take VARIABLE FILE REGEXP")
	}
	ts.Setenv(args[0], waitFor(ts, args[1], args[2])[1])
}

func cmdP12(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: p12 KEY CHAIN FILE")
	}
	seal, err := testca.LoadIdentity(ts.MkAbs(args[0]), ts.MkAbs(args[1]))
	ts.Check(err)
	file, err := pkcs12.Modern.Encode(seal.Key, seal.Chain[0], seal.Chain[1:], password)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), file, 0o600))
}

// printed is the command below the heading with the number.
func printed(out, number string) (string, error) {
	_, rest, found := strings.Cut(out, "\n# "+number+". ")
	_, rest, more := strings.Cut(rest, "\n")
	command, _, _ := strings.Cut(rest, "\n\n")
	if !found || !more || command == "" {
		return "", fmt.Errorf("the sandbox has printed no command %s", number)
	}
	return command, nil
}
