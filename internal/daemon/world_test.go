package daemon_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/internal/openapitest"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// The provider of these tests.
const (
	providerID = isharetest.ProviderID
	alias      = "EU.EORI.NL000000000"
)

// TestMain lets more tests run at the same time than there are processors, since most of them wait:
// for limits to pass, for files to be looked at again, for proxies.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil { // before the flags are read, so that they win
		panic(err)
	}
	m.Run()
}

// A cast is who takes part.
type cast struct {
	ca                 *isharetest.CA
	provider, consumer *isharetest.Party
}

// players are made once, because their keys take time. Nothing changes them.
var players = sync.OnceValue(func() cast {
	ca := isharetest.NewCA()
	return cast{
		ca:       ca,
		provider: ca.Party(providerID, "Some Provider"),
		consumer: ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer", isharetest.AlsoKnownAs("EU.EORI.NL000000001")),
	}
})

// everyone is what the participants' file says unless a test writes another.
func everyone() []*isharetest.Party {
	return []*isharetest.Party{players().provider, players().consumer}
}

// newHome makes a folder with everything that the configuration of [parse] names.
func newHome(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask is: others must not write to it
		t.Fatal(err)
	}
	seal := testca.Identity{Key: players().provider.Key, Chain: players().provider.Certificates}
	if err := seal.Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "root.pem"), players().ca.RootPEM())
	writeParties(t, dir, everyone()...)
	return dir
}

func writeParties(t *testing.T, dir string, parties ...*isharetest.Party) {
	t.Helper()
	var records []*ishare.Party
	for _, p := range parties {
		records = append(records, p.Record)
	}
	b, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "parties.json"), b)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const configuration = `
party: {id: ` + providerID + `, also_known_as: [` + alias + `], key: key.pem, certificates: chain.pem}
listen: {public: "127.0.0.1:0", internal: "127.0.0.1:0"}
participants: {file: parties.json}
trust: {anchors: [root.pem], revocation: off}
data: data
scopes: {orders: read orders}
`

// parse reads the configuration as if it stood in the folder. Variables such as
// WAYBILL_POLICY_LEEWAY=2s change it.
func parse(t *testing.T, dir string, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(configuration), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A server is a daemon that runs.
type server struct {
	*daemon.Daemon

	url, internal string
	log           *transcript
	described     *http.Client // fails on answers that openapi.json does not describe
	stop          func() error // waits for the end, and gives what Run gave
}

// start runs a daemon until the test ends or stops it, prepared in some ways.
func start(t *testing.T, options daemon.Options, cfg *config.Config, prepare ...func(*daemon.Daemon)) *server {
	t.Helper()
	s := &server{log: &transcript{}}
	options.Log = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if s.Daemon, err = daemon.Open(t.Context(), cfg, options); err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(s.Daemon)
	}
	scheme := "http://"
	if cfg.Listen.TLS != nil {
		scheme = "https://"
	}
	s.url, s.internal = scheme+s.PublicAddr().String(), "http://"+s.InternalAddr().String()
	s.described = described(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// startNewborn runs a daemon that serves at once.
func startNewborn(t *testing.T, environ ...string) *server {
	t.Helper()
	return start(t, daemon.Options{NoHistory: true}, parse(t, newHome(t), environ...))
}

// plain makes a client with connections of its own.
func plain(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func described(t *testing.T) *http.Client {
	t.Helper()
	document, err := os.ReadFile("../../provider/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	transport, err := openapitest.NewTransport(document, plain(t).Transport)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: transport}
}

// send makes a token request, whose answer must be a described one.
func (s *server) send(t *testing.T, r *isharetest.Request) *isharetest.Answer {
	t.Helper()
	status, header, body := exchange(t, s.described, r.HTTP(s.url))
	a := &isharetest.Answer{Status: status, Header: header}
	if err := json.Unmarshal(body, a); err != nil {
		t.Fatalf("status %d, %q: %v", status, body, err)
	}
	return a
}

// token gets an access token for the consumer.
func (s *server) token(t *testing.T) string {
	t.Helper()
	a := s.send(t, players().consumer.Request(providerID))
	if err := a.Meets(nil); err != nil {
		t.Fatal(err)
	}
	return a.AccessToken
}

func exchange(t *testing.T, client *http.Client, r *http.Request) (status int, header http.Header, body []byte) {
	t.Helper()
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, body
}

// get asks with a client and the name and value of header fields.
func get(t *testing.T, client *http.Client, url string, fields ...string) (status int, header http.Header, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for field := range slices.Chunk(fields, 2) {
		r.Header.Set(field[0], field[1])
	}
	return exchange(t, client, r)
}

// A transcript is a log that can be read while it is written.
type transcript struct{ logtest.Buffer }

// records are the events with a message.
func (t *transcript) records(tb testing.TB, message string) []map[string]any {
	tb.Helper()
	var found []map[string]any
	for line := range bytes.Lines([]byte(t.String())) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			tb.Fatalf("the log holds %q: %v", line, err)
		}
		if record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// newKey makes an RSA key that shares nothing with those of the players.
func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
