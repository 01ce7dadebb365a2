package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/bench"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Bounds of what can be asked of one machine.
const (
	maxConnections = 10_000
	maxRate        = 1_000_000
)

func (c *command) bench() *cli.Command {
	flags := append(flagsOf(benchSettings()), sourceFlags()...)
	return &cli.Command{
		Name:  "bench",
		Usage: "measure how many tokens a server gives, and how fast",
		Description: "Every request is a token request of its own, signed before it is measured. Exits with 1 unless all were answered\n" +
			"with 200. A server that runs already is asked with your seal, whose key must sign them all:\n\n" +
			"   waybill bench --server http://127.0.0.1:8080 --audience ID --client-id ID --key FILE --certificates FILE\n\n" +
			"With --spawn, the server is another process of this program, with a party and clients made for the purpose, and\n" +
			"its processor time is measured too. With --floor, so is a server that does no more than net/http and one RSA\n" +
			"verification, by turns with the first: the ratios are what can be compared between machines.\n\n" +
			"   waybill bench --spawn --floor\n" +
			"   waybill bench --spawn --clients 100000 --duration 1m\n" +
			"   waybill bench --spawn --chains cold --requests 5000 --connections 8 --floor\n" +
			"   waybill bench --spawn --rate 2000 --duration 30s --set limits.in_work=16\n\n" +
			"A closed loop sends a request as soon as a connection has its answer. With --rate the loop is open: requests are due at\n" +
			"equal distances, and latency counts from when a request was due, whether or not it could be sent.",
		Flags: append(flags,
			&cli.BoolFlag{Name: "spawn", Usage: "start a server of its own, on loopback, and stop it in the end"},
			&cli.StringSliceFlag{Name: "set", Usage: "with --spawn: `KEY=VALUE` of its configuration, such as state=memory; may be given several times"},
			&cli.IntFlag{Name: "clients", Usage: "with --spawn: `NUMBER` of clients, which ask by turns", Value: 1, Validator: within(1, bench.MaxClients)},
			oneOf(&cli.StringFlag{
				Name: "chains", Usage: "with --spawn: whether clients have asked before (warm), are new below CAs that are known (cold-leaf), or have CAs of their own (cold): `WHICH`",
				Value: string(bench.Warm),
			}, string(bench.Warm), string(bench.ColdLeaf), string(bench.Cold)),
			&cli.BoolFlag{Name: "floor", Usage: "measure the floor by turns, and print the ratios"},
			&cli.IntFlag{Name: "connections", Usage: "`NUMBER` of connections", Value: 32, Validator: within(1, maxConnections)},
			&cli.FloatFlag{Name: "rate", Usage: "open loop: `NUMBER` of requests that are due in a second", Validator: within(0.001, float64(maxRate))},
			&cli.IntFlag{Name: "requests", Usage: "`NUMBER` of requests in all", Value: 20_000, Validator: within(1, 1_000_000_000)},
			&cli.DurationFlag{Name: "duration", Usage: "how long to send requests, in place of their number: a `TIME` such as 30s", Validator: within(time.Millisecond, 24*time.Hour)},
			&cli.IntFlag{Name: "rounds", Usage: "`NUMBER` of windows over which they are spread, at least", Value: 5, Validator: within(1, 1000)},
			oneOf(&cli.StringFlag{Name: "output", Usage: "`FORMAT`: text or json", Value: "text"}, "text", "json"),
			&cli.StringSliceFlag{Name: "yes-load-this-host", Usage: "load this `HOST`, which is not the machine itself; may be given several times"}),
		Action: c.runBench,
	}
}

// benchSettings are those of a token, which is asked for in another way: with connections of its own.
func benchSettings() []setting {
	return slices.DeleteFunc(tokenSettings(), func(s setting) bool { return s.flag == "ca" })
}

// within wants a value between two others.
func within[T cmp.Ordered](least, most T) func(T) error {
	return func(v T) error {
		if v >= least && v <= most {
			return nil
		}
		return fmt.Errorf("want %v to %v, got %v", least, most, v)
	}
}

func (c *command) runBench(ctx context.Context, cmd *cli.Command) error {
	config, settings, err := benchConfig(cmd)
	if err != nil {
		return err
	}
	bar := newProgress(c.err)
	config.Progress = bar.show
	defer bar.clear()
	dir, err := os.MkdirTemp("", "waybill-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing in it is secret, and the system clears its temporary files
	place := c.benchServer
	if settings.Spawned {
		place = c.benchSpawned
	}
	target, stop, err := place(ctx, cmd, &config, dir)
	if err != nil {
		return err
	}
	defer stop()
	config.Targets = []*bench.Target{target}
	if cmd.Bool("floor") {
		floor, child, err := bench.StartFloor(ctx, target, dir)
		if err != nil {
			return err
		}
		defer child.Stop()
		config.Targets = append(config.Targets, floor)
	}
	measured, err := bench.Run(ctx, config)
	if err != nil {
		return err
	}
	bar.clear()
	report := bench.NewReport(settings, measured)
	if cmd.String("output") == "json" {
		err = c.printJSON(report)
	} else {
		err = report.WriteText(c.out)
	}
	if err == nil && !report.Good() {
		err = errNo
	}
	return err
}

// benchConfig is what the flags say of the load.
func benchConfig(cmd *cli.Command) (bench.Config, bench.Settings, error) {
	config := bench.Config{
		Connections: cmd.Int("connections"), Rate: cmd.Float("rate"),
		Requests: cmd.Int("requests"), Duration: cmd.Duration("duration"), Rounds: cmd.Int("rounds"),
	}
	settings := bench.Settings{
		Connections: config.Connections, Rate: config.Rate,
		Clients: cmd.Int("clients"), Chains: cmd.String("chains"), Spawned: cmd.Bool("spawn"),
	}
	var err error
	needless := []string{"set", "clients", "chains"}
	if settings.Spawned {
		needless = []string{"server", "token-endpoint", "audience", "client-id", "key", "key-password-file", "certificates", "alg", "profile", "yes-load-this-host"}
	}
	for _, name := range needless {
		if cmd.IsSet(name) && settings.Spawned {
			err = usagef("--%s is for a server that runs already, and --spawn starts one", name)
		} else if cmd.IsSet(name) {
			err = usagef("--%s goes with --spawn", name)
		}
	}
	cold := settings.Chains != string(bench.Warm)
	switch {
	case err != nil:
	case cmd.IsSet("requests") && cmd.IsSet("duration"):
		err = usagef("--requests and --duration are both given")
	case cold && (config.Duration > 0 || cmd.IsSet("clients")):
		err = usagef("--chains %s has a client for every request: give --requests alone", settings.Chains)
	case cold && config.Requests > bench.MaxClients:
		err = usagef("--chains %s: --requests can be %d at most", settings.Chains, bench.MaxClients)
	case cold:
		settings.Clients = config.Requests
	}
	if config.Duration > 0 {
		config.Requests = 0
	}
	return config, settings, err
}

// benchServer is a server that runs already.
func (c *command) benchServer(ctx context.Context, cmd *cli.Command, config *bench.Config, _ string) (*bench.Target, func(), error) {
	set, err := c.settings(cmd, benchSettings())
	if err != nil {
		return nil, nil, err
	}
	if err := set.missingForToken(); err != nil {
		return nil, nil, fmt.Errorf("%w; for a server of its own, which needs none of it, give --spawn", err)
	}
	for _, name := range []string{"server", "token-endpoint"} { // before anything is sent
		if address := set.get(name); address != "" {
			if _, _, err := c.loadable(ctx, cmd, config, address); err != nil {
				return nil, nil, err
			}
		}
	}
	described, s, err := c.clientConfig(ctx, set, nil)
	if err != nil {
		return nil, nil, err
	}
	stop := func() { _ = s.seal.Close() }
	endpoint := cmp.Or(described.TokenEndpoint, strings.TrimRight(described.Server, "/")+tokenendpoint.Path)
	u, addresses, err := c.loadable(ctx, cmd, config, endpoint)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return &bench.Target{
		Name: "server", URL: u, Addresses: addresses, Audience: described.Audience, Scope: described.Scope,
		Client: func(int) (*assertion.Maker, error) { return &s.maker, nil },
	}, stop, nil
}

// loadable looks up a server, which must be this machine or be named on the command line.
func (c *command) loadable(ctx context.Context, cmd *cli.Command, config *bench.Config, address string) (*url.URL, []netip.AddrPort, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, nil, usagef("want a URL such as http://127.0.0.1:8080, got %q", address)
	}
	found, err := bench.Resolve(ctx, u, cmd.StringSlice("yes-load-this-host"), net.DefaultResolver.LookupNetIP)
	load := fmt.Sprintf("%d token requests", config.Requests)
	if config.Duration > 0 {
		load = fmt.Sprintf("token requests for %v", config.Duration)
	}
	if config.Rate > 0 {
		load += fmt.Sprintf(", %g a second,", config.Rate)
	}
	load += fmt.Sprintf(" over %d connections", config.Connections)
	if elsewhere, ok := errors.AsType[*bench.ElsewhereError](err); ok {
		return nil, nil, usageError{hintedError{
			fmt.Errorf("%w, and this would send it %s", err, load),
			fmt.Sprintf("If that machine is yours to load, add --yes-load-this-host %s.", elsewhere.Host),
		}}
	}
	if err == nil && len(cmd.StringSlice("yes-load-this-host")) > 0 {
		fmt.Fprintf(c.err, "sending %s: %s\n", u.Host, load)
	}
	return u, found, err
}

// benchSpawned is a server that is started for the purpose.
func (c *command) benchSpawned(ctx context.Context, cmd *cli.Command, measured *bench.Config, dir string) (*bench.Target, func(), error) {
	scope, err := ishare.ParseScope(cmd.String("scope"))
	if err != nil {
		return nil, nil, usagef("--scope: %w", err)
	}
	for _, set := range cmd.StringSlice("set") {
		if key, _, ok := strings.Cut(set, "="); !ok || !config.HasKey(key) {
			return nil, nil, usagef("--set %q: want a key of the configuration, an equals sign and a value, such as limits.in_work=16", set)
		}
	}
	spawn := bench.SpawnConfig{
		Dir: dir, Clients: cmd.Int("clients"), Chains: bench.Chains(cmd.String("chains")), Scope: scope, Set: cmd.StringSlice("set"),
		Progress: func(done, of int) { measured.Progress("certifying clients", done, of) },
	}
	if spawn.Chains != bench.Warm {
		spawn.Clients = measured.Requests
	}
	target, child, err := bench.Spawn(ctx, spawn)
	if err != nil {
		return nil, nil, err
	}
	return target, child.Stop, nil
}

// benchFloor is the program as the child that --floor starts.
func (c *command) benchFloor() *cli.Command {
	return &cli.Command{
		Name: bench.FloorCommand, Hidden: true, Usage: "be the server that bench --floor measures", ArgsUsage: "KEY",
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return bench.ServeFloor(ctx, cmd.Args().First(), c.err)
		},
	}
}

// progress shows a bar on a terminal, and nothing elsewhere.
type progress struct {
	terminal io.Writer // nil: there is none

	mu    sync.Mutex
	doing string
	bar   *progressbar.ProgressBar
}

func newProgress(w io.Writer) *progress {
	if isTerminal(w) {
		return &progress{terminal: w}
	}
	return new(progress)
}

func (p *progress) show(doing string, done, of int) {
	if p.terminal == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil || p.doing != doing || p.bar.GetMax() != of {
		p.clearLocked()
		p.doing = doing
		p.bar = progressbar.NewOptions(of, progressbar.OptionSetWriter(p.terminal), progressbar.OptionSetDescription(doing),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set(done) // a terminal that has gone shows nothing
}

// clear takes the bar away.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
}

func (p *progress) clearLocked() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
