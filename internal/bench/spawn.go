package bench

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// A SpawnConfig says what server to start, and what asks it.
type SpawnConfig struct {
	// Dir is an empty folder for all files, of server and floor. They are of no use afterwards.
	Dir string
	// Clients is how many there are, with Chains as the server is to know them.
	Clients int
	Chains  Chains
	// Scope is what they ask for.
	Scope ishare.Scope
	// Set are keys of the configuration with their values, such as state=memory. Nothing of it comes from the environment.
	Set []string
	// Progress is told how many clients have their certificates.
	Progress func(done, of int)
}

// Spawn starts the command serve of this program on loopback, for a party that was made for the purpose. The server is
// to be stopped.
func Spawn(ctx context.Context, c SpawnConfig) (*Target, *Child, error) {
	environment := environWithout("WAYBILL_")
	for _, set := range c.Set {
		key, value, _ := strings.Cut(set, "=")
		environment = append(environment, "WAYBILL_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"="+value)
	}
	population, err := NewPopulation(ctx, c.Clients, c.Chains, c.Progress)
	if err != nil {
		return nil, nil, err
	}
	file, err := population.Write(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	child, err := Start(ctx, []string{"serve", "--config", file, "--first-start"}, environment, filepath.Join(c.Dir, "serve.log"))
	if err != nil {
		return nil, nil, err
	}
	if err := ready(ctx, child.internal.String(), child.ended, readyTimeout); err != nil { // as a store that it shares may not be
		child.Stop()
		return nil, nil, err
	}
	t := child.target("waybill serve")
	t.Audience, t.Scope, t.Client = population.Audience(), c.Scope, population.Client
	if c.Chains == Warm {
		t.WarmUp = c.Clients
	} else {
		t.Known = func(int) (*assertion.Maker, error) { return population.Known(0) }
	}
	return t, child, nil
}

// FloorCommand is the command of this program that calls [ServeFloor], with the key in base64 as its argument.
const FloorCommand = "bench-floor"

// StartFloor starts the floor. What it is sent, a known client of the other target signs with RS256.
func StartFloor(ctx context.Context, other *Target, dir string) (*Target, *Child, error) {
	maker, err := other.known()(0)
	if err != nil {
		return nil, nil, err
	}
	signer := *maker
	signer.Algorithm = jws.RS256
	key, err := x509.MarshalPKIXPublicKey(signer.Certificates[0].PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("bench: floor: %w", err)
	}
	args := []string{FloorCommand, base64.StdEncoding.EncodeToString(key)}
	// Its garbage is collected as that of any Go program that does not say how.
	child, err := Start(ctx, args, environWithout("GOGC=", "GOMEMLIMIT="), filepath.Join(dir, "floor.log"))
	if err != nil {
		return nil, nil, err
	}
	t := child.target("floor")
	t.Audience, t.Scope = other.Audience, other.Scope
	t.Client = func(int) (*assertion.Maker, error) { return &signer, nil }
	return t, child, nil
}

// target is the child as a server to load.
func (c *Child) target(name string) *Target {
	return &Target{
		Name: name, URL: &url.URL{Scheme: "http", Host: c.Address.String(), Path: ishare.TokenPath},
		Addresses: []netip.AddrPort{c.Address}, PID: c.PID,
	}
}

// environWithout is the environment without the variables that begin so.
func environWithout(prefixes ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(variable, prefix) })
	})
}
