//go:build linux

package replicas

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/shipped"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// Environment of these tests.
const (
	formVariable   = "WAYBILL_REPLICAS"        // full, or absent
	roundsVariable = "WAYBILL_REPLICAS_ROUNDS" // of the full form, where 100 take too long
)

const (
	provider ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000000"
	consumer ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000001"

	// leeway is short, since the tests wait for it.
	leeway = time.Second

	// longEnough is a time limit for what must happen at all, however busy the machine.
	longEnough = 2 * time.Minute
)

// configuration is that of all servers. What differs is in their environment.
const configuration = `
party: {id: "did:ishare:EU.NL.NTRNL-10000000", key: provider-key.pem, certificates: provider.pem}
listen: {public: "127.0.0.1:0", internal: "127.0.0.1:0"}
participants: {file: parties.json}
trust: {anchors: [root.pem], revocation: off}
policy: {leeway: 1s}
`

// scratch is a folder with the configuration and the program.
var scratch string

// TestMain has more tests run at the same time than there are processors, since most of them wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil { // before the flags are read, so that they win
		panic(err)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "waybill-replicas-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(scratch)
	m.Run()
}

// sizes are how much is done.
type sizes struct {
	rounds    int // assertions that are presented while nothing disturbs
	at        int // presentations of each, at once
	disturbed int // the same while something disturbs
	lost      int // the same while a replica of Redis takes the place of its primary
	repeats   int // of each disturbance
}

func size() sizes {
	if os.Getenv(formVariable) != "full" {
		return sizes{rounds: 3, at: 600, disturbed: 30, lost: 12, repeats: 1}
	}
	rounds, err := strconv.Atoi(os.Getenv(roundsVariable))
	if err != nil {
		rounds = 100
	}
	return sizes{rounds: rounds, at: 10_000, disturbed: 10_000, lost: 300, repeats: 3}
}

// client is who asks for tokens. It is made once, with the folder of the configuration, because keys take time.
var client = sync.OnceValues(func() (*isharetest.Party, error) {
	ca := isharetest.NewCA()
	us, client := ca.Party(provider, "Some Provider"), ca.Party(consumer, "Some Consumer")
	key, errKey := x509.MarshalPKCS8PrivateKey(us.Key)
	parties, errParties := json.Marshal([]*ishare.Party{us.Record, client.Record})
	err := errors.Join(errKey, errParties)
	for name, content := range map[string][]byte{
		"waybill.yaml":     []byte(configuration),
		"root.pem":         ca.RootPEM(),
		"provider.pem":     testca.EncodeCertificates(us.Certificates...),
		"provider-key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"parties.json":     parties,
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(scratch, name), content, 0o600))
	}
	return client, err
})

// program is the program as it is shipped.
var program = sync.OnceValues(func() (string, error) { return shipped.Program(scratch) })

// await asks again and again until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(longEnough); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
