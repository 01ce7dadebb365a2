package bench

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

// Chains are what a server that was spawned has seen of a client's certificates before a measured request.
type Chains string

const (
	// Warm is everything: the client has asked before.
	Warm Chains = "warm"
	// ColdLeaf is the certificates of the CAs. Every request comes from a client that has never asked.
	ColdLeaf Chains = "cold-leaf"
	// Cold is the trust anchor alone: every request comes with a sub CA, an issuing CA and a seal that are new.
	Cold Chains = "cold"
)

const (
	// MaxClients is for how many clients records fit into the file that a server reads.
	MaxClients = 100_000

	// Sizes of keys, as in the real PKI.
	caBits, sealBits = 4096, 2048

	// maxKeys is how many keys the clients have among them. Certificates are never shared.
	maxKeys = 64

	firstNumber = 10_000_000 // of the party that serves; the clients follow
)

// A Population is a party that serves, and its clients, below a certificate authority with keys that sign quickly and protect
// nothing.
type Population struct {
	chains  Chains
	keys    []*testca.OddKey
	ca      *testca.CA // for its templates
	levels  [3]*testca.Identity
	members []member
}

// A member is a client. It is kept as DER, because parsed certificates of many clients fill the memory.
type member struct {
	leaf, issuing, sub []byte // those of the CAs are nil where they are the common ones
}

// NewPopulation makes a number of clients, at most [MaxClients]. With chains that are cold there is one more, whom the
// server may get to know.
func NewPopulation(ctx context.Context, clients int, chains Chains, progress func(done, of int)) (*Population, error) {
	p := &Population{chains: chains}
	if chains != Warm {
		clients++
	}
	var err error
	if p.ca, err = testca.New(testca.Config{Name: "Waybill Bench", NewKey: testca.PooledKey}); err != nil {
		return nil, err
	}
	for _, level := range testca.Levels() {
		key, err := testca.NewOddKey(caBits, publicExponent)
		if err == nil && level == testca.Root {
			p.levels[level], err = testca.SelfSign(p.ca.Template(level), key)
		} else if err == nil {
			p.levels[level], err = p.levels[level-1].Issue(p.ca.Template(level), key)
		}
		if err != nil {
			return nil, err
		}
	}
	for range min(clients, maxKeys) {
		key, err := testca.NewOddKey(sealBits, publicExponent)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, key)
	}
	p.members = make([]member, clients)
	var next, done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < clients && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := p.certify(i); err != nil {
					return err
				}
				progress(int(done.Add(1)), clients)
			}
			return ctx.Err()
		})
	}
	return p, group.Wait()
}

const publicExponent = 65537

// certify makes the certificates of a client.
func (p *Population) certify(i int) (err error) {
	m, issuer := &p.members[i], p.levels[testca.Issuing]
	if p.chains == Cold && i > 0 {
		sub, err := p.levels[testca.Root].Issue(p.ca.Template(testca.Sub), p.levels[testca.Sub].Key)
		if err != nil {
			return err
		}
		if issuer, err = sub.Issue(p.ca.Template(testca.Issuing), issuer.Key); err != nil {
			return err
		}
		m.sub, m.issuing = sub.Certificate().Raw, issuer.Certificate().Raw
	}
	seal, err := p.ca.Seal(testca.SealRequest{
		Organization: fmt.Sprintf("Client %d", i+1), Identifier: identifier(i + 1), Key: p.keys[i%len(p.keys)], Issuer: issuer,
	})
	if err != nil {
		return err
	}
	m.leaf = seal.Certificate().Raw
	return nil
}

func identifier(i int) string { return fmt.Sprintf("NTRNL-%d", firstNumber+i) }

func partyID(i int) ishare.PartyID { return ishare.PartyID("did:ishare:EU.NL." + identifier(i)) }

// Audience is the party that serves.
func (p *Population) Audience() ishare.PartyID { return partyID(0) }

// Client makes the i-th request that is measured: the clients by turns, or each once when chains are cold.
func (p *Population) Client(i int) (*assertion.Maker, error) {
	if p.chains != Warm {
		i++
	}
	return p.Known(i)
}

// Known makes a request of the client with the number modulo that of all, whom the server may get to know. Of clients
// with cold chains that is number 0 alone.
func (p *Population) Known(i int) (*assertion.Maker, error) {
	i %= len(p.members)
	m := p.members[i]
	chain := p.levels[testca.Issuing].Chain
	if m.sub != nil {
		chain = []*x509.Certificate{nil, nil, p.levels[testca.Root].Certificate()}
		var issuingErr, subErr error
		chain[0], issuingErr = x509.ParseCertificate(m.issuing)
		chain[1], subErr = x509.ParseCertificate(m.sub)
		if err := errors.Join(issuingErr, subErr); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	leaf, err := x509.ParseCertificate(m.leaf)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return &assertion.Maker{
		ClientID: partyID(i + 1), Key: p.keys[i%len(p.keys)], Certificates: append([]*x509.Certificate{leaf}, chain...),
	}, nil
}

// Write writes what the party needs to serve into a folder, and returns the configuration file.
func (p *Population) Write(dir string) (string, error) {
	server, err := p.ca.Seal(testca.SealRequest{Organization: "Server", Identifier: identifier(0), Issuer: p.levels[testca.Issuing]})
	if err != nil {
		return "", err
	}
	if err := server.Save(filepath.Join(dir, "party-key.pem"), filepath.Join(dir, "party-chain.pem")); err != nil {
		return "", err
	}
	parties, err := json.Marshal(p.records())
	if err != nil {
		return "", fmt.Errorf("bench: party records: %w", err)
	}
	configuration := fmt.Sprintf(`party: {id: %q, key: party-key.pem, certificates: party-chain.pem}
listen: {public: "127.0.0.1:0", internal: "127.0.0.1:0"}
participants: {file: parties.json}
trust: {anchors: [root.pem], revocation: off}
data: data/
`, p.Audience())
	for name, content := range map[string][]byte{
		"root.pem":     testca.EncodeCertificates(p.levels[testca.Root].Certificate()),
		"parties.json": parties,
		"waybill.yaml": []byte(configuration),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", fmt.Errorf("bench: %w", err)
		}
	}
	return filepath.Join(dir, "waybill.yaml"), nil
}

// records say of every client that it is in good standing, and which seal is its own.
func (p *Population) records() []*ishare.Party {
	now := time.Now().UTC().Truncate(time.Second)
	claim := ishare.Claim{Status: "active", Start: now.AddDate(-1, 0, 0), End: now.AddDate(1, 0, 0)}
	compliance, seal := claim, claim
	compliance.Type, compliance.FrameworkID = ishare.ClaimFrameworkCompliance, ishare.FrameworkISHARE
	seal.Type = ishare.ClaimX509Certificate
	records := make([]*ishare.Party, len(p.members))
	for i, m := range p.members {
		seal.X5T = ishare.Thumbprint(m.leaf)
		records[i] = &ishare.Party{ID: partyID(i + 1), Name: identifier(i + 1), Claims: []ishare.Claim{compliance, seal}}
	}
	return records
}
