package sandbox_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/sandbox"
)

// TestMain lets more tests run at the same time than there are processors, since most of them wait:
// for what was told to be forgotten, for servers that do not answer.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil { // before the flags are read, so that they win
		panic(err)
	}
	m.Run()
	for _, closing := range atEnd {
		closing()
	}
}

// atEnd stops the shared data spaces. It is complete when all tests have ended.
var atEnd []func()

// shared are data spaces that tests share which turn no switch, because making one takes time.
var shared = map[sandbox.Framework]func() (*space, error){
	sandbox.Framework3: sync.OnceValues(func() (*space, error) { return openShared(sandbox.Framework3) }),
	sandbox.Framework2: sync.OnceValues(func() (*space, error) { return openShared(sandbox.Framework2) }),
}

var sharedMu sync.Mutex // guards atEnd

func openShared(framework sandbox.Framework) (*space, error) {
	dir, err := os.MkdirTemp("", "sandbox-")
	if err != nil {
		return nil, err
	}
	config := sandbox.ConfigForTest(dir)
	config.Framework = framework
	ctx, cancel := context.WithCancel(context.Background())
	s, err := sandbox.Open(ctx, config)
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	sharedMu.Lock()
	defer sharedMu.Unlock()
	atEnd = append(atEnd, func() {
		cancel()
		if err := errors.Join(<-done, os.RemoveAll(dir)); err != nil {
			panic(err)
		}
	})
	return &space{Sandbox: s}, nil
}

// share is a data space of the framework that is not the test's own.
func share(t *testing.T, framework sandbox.Framework) *space {
	t.Helper()
	s, err := shared[framework]()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// space is a data space that runs for as long as a test.
type space struct {
	*sandbox.Sandbox

	stop func()
}

// start runs a sandbox in a folder of its own. Changes apply to its configuration.
func start(t *testing.T, changes ...func(*sandbox.Config)) *space {
	t.Helper()
	return startIn(t, t.TempDir(), changes...)
}

func startIn(t *testing.T, dir string, changes ...func(*sandbox.Config)) *space {
	t.Helper()
	config := sandbox.ConfigForTest(dir)
	for _, change := range changes {
		change(&config)
	}
	s, err := sandbox.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
	t.Cleanup(stop)
	return &space{Sandbox: s, stop: stop}
}

func framework2(c *sandbox.Config) { c.Framework = sandbox.Framework2 }

// set turns a switch.
func (s *space) set(t *testing.T, name, value string) {
	t.Helper()
	if err := s.Set(name, value); err != nil {
		t.Fatal(err)
	}
}

// somebody is the participant with this folder.
func (s *space) somebody(t *testing.T, folder string) sandbox.Participant {
	t.Helper()
	for _, p := range s.Everybody {
		if p.Folder == folder {
			return p
		}
	}
	t.Fatalf("nobody lives in %s", folder)
	return sandbox.Participant{}
}

// seal reads a key and a chain.
func seal(t *testing.T, keyFile, chainFile string) (crypto.Signer, []*x509.Certificate) {
	t.Helper()
	block, _ := pem.Decode(read(t, keyFile))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(read(t, chainFile)); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		t.Fatalf("%s: a key of type %T", keyFile, key)
	}
	return signer, chain
}

// plain is a client without a token.
func plain() *http.Client { return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// client asks a server for tokens as a participant.
func (s *space) client(t *testing.T, as sandbox.Participant, server sandbox.Address) *client.Client {
	t.Helper()
	key, chain := seal(t, as.KeyFile, as.ChainFile)
	return newClient(t, client.Config{
		Server: server.URL, Audience: server.ID, ClientID: as.ID, Key: key, Certificates: chain,
	})
}

func newClient(t *testing.T, c client.Config) *client.Client {
	t.Helper()
	tokens, err := client.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tokens.Close() })
	return tokens
}

// identifiers are those of a participant, the canonical one first.
func identifiers(p sandbox.Participant) []ishare.PartyID {
	return append([]ishare.PartyID{p.ID}, p.AlsoKnownAs...)
}

// ruleOf is the rule by which a server refused.
func ruleOf(err error) string {
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refused.RuleID
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// decode reads a part of a JWT.
func decode(t *testing.T, part string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
