package hostile

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/isharetest"
)

// While a dependency is out of reach, in whatever way, a reload and a restart change nothing for a client that is known; and
// soon after it is back, one that is not known is served.
func TestRegistryOutages(t *testing.T) {
	short := form(t)
	t.Parallel()
	s := newSpace(t)
	s.turn(t, "former-consumer.standing", "active")
	for _, mode := range []string{refused, hanging, garbage, failing} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, s.Registry.URL)
			server := newServer(t, s.world, serverConfig{registry: f.url(), cache: time.Second})
			server.outlive(t, s, s.Seals["former-consumer"].party(), short, func(out bool) {
				f.turn(t, map[bool]string{true: mode, false: normal}[out])
			})
		})
	}
}

// The same of OCSP and the lists at once.
func TestRevocationOutages(t *testing.T) {
	short := form(t)
	t.Parallel()
	s := newSpace(t)
	s.turn(t, "former-consumer.standing", "active")
	for _, choice := range []string{"off", "slow", "error", "malformed"} {
		t.Run(choice, func(t *testing.T) {
			server := newServer(t, s.world, serverConfig{registry: s.Registry.URL})
			server.outlive(t, s, s.Seals["former-consumer"].party(), short, func(out bool) {
				for _, service := range []string{"ocsp", "crl"} {
					s.turn(t, service, map[bool]string{true: choice, false: normal}[out])
				}
			})
		})
	}
}

// outlive has the server go through an outage, a reload and a restart in its midst. The newcomer asks all the while, and
// so keeps the server trying.
func (s *server) outlive(t *testing.T, sp *space, newcomer *isharetest.Party, short bool, turn func(out bool)) {
	t.Helper()
	known := sp.world.Consumer.party()
	suspended := sp.Seals["suspended-consumer"].party()
	s.ready(t, part{World: sp.world})
	s.refuses(t, sp.world, suspended, "party.not-active")
	turn(true)
	ctx, stop := context.WithCancel(t.Context())
	pestering := make(chan struct{})
	go func() {
		defer close(pestering)
		for pause(ctx, 200*time.Millisecond) {
			if a, err := send(s.base, newcomer.Request(sp.Audience)); told(a, err) == served {
				t.Error("a client is served about whom nobody could be asked")
			}
		}
	}()
	as := func(when string) {
		t.Helper()
		for range 3 {
			began := time.Now()
			a, err := send(s.base, known.Request(sp.Audience))
			if outcome := told(a, err); outcome != served {
				t.Errorf("%s, a known client is answered with %s after %s", when, outcome, round(time.Since(began)))
			}
			pause(t.Context(), 500*time.Millisecond)
		}
		a, err := send(s.base, suspended.Request(sp.Audience))
		if outcome := told(a, err); outcome == served {
			t.Errorf("%s, a suspended client is served", when)
		}
	}
	as("in the outage")
	s.reloaded(t)
	as("after a reload")
	s.stop(t)
	s.start(t)
	as("after a restart")
	stop()
	<-pestering
	turn(false)
	began, most := time.Now(), recovery
	if short {
		most = recoverySlow
	}
	var last string
	for last != served && time.Since(began) < longEnough {
		a, err := send(s.base, newcomer.Request(sp.Audience))
		last = told(a, err)
		pause(t.Context(), 20*time.Millisecond)
	}
	took := time.Since(began)
	fmt.Fprintf(os.Stdout, "%s: recovery after %s\n", t.Name(), took.Round(10*time.Millisecond))
	if took > most {
		t.Errorf("recovery after %s; at last %s", took, last)
	}
}

// refuses waits until the server has learnt by which rule a party is refused.
func (s *server) refuses(t *testing.T, w world, p *isharetest.Party, rule string) {
	t.Helper()
	await(t, "a party is refused by "+rule, func() bool {
		a, err := send(s.base, p.Request(w.Audience))
		return told(a, err) == rule
	})
}

// reloaded has the server read its configuration again, and waits until it says that it did.
func (s *server) reloaded(t *testing.T) {
	t.Helper()
	before := strings.Count(string(must(os.ReadFile(s.log))), `"msg":"reloaded"`)
	s.hangup()
	await(t, "the configuration is read again", func() bool {
		return strings.Count(string(must(os.ReadFile(s.log))), `"msg":"reloaded"`) > before
	})
}

// However often the configuration is read again, no moment exists in which a listed client is refused.
func TestReloads(t *testing.T) {
	short := form(t)
	t.Parallel()
	s := newSpace(t)
	server := newServer(t, s.world, serverConfig{registry: s.Registry.URL, cache: time.Second})
	p := part{World: s.world, Public: server.public, Inner: server.inner, Rate: 100, For: time.Minute}
	if short {
		p.For = 10 * time.Second
	}
	server.ready(t, p)
	before := server.measure(t)
	good := start(t, "client", p)
	ctx, stop := context.WithTimeout(t.Context(), p.For)
	defer stop()
	hangups := 0
	for ; pause(ctx, 50*time.Millisecond); hangups++ {
		server.cmd.Process.Signal(syscall.SIGHUP)
	}
	var r record
	good.finish(t, &r)
	after := server.measure(t)
	reloads := strings.Count(string(must(os.ReadFile(server.log))), `"msg":"reloaded"`)
	fmt.Fprintf(os.Stdout, "%d times SIGHUP, %d reloads; %d requests: %s; p50 %s, p99 %s; MiB %d, then %d\n",
		hangups, reloads, r.Sent, counted(r.Outcomes), round(r.Median), round(r.P99), before.memory>>10, after.most>>10)
	if r.lost() > 0 || r.Sent == 0 || reloads == 0 {
		t.Errorf("of %d requests, with %d reloads: %v", r.Sent, reloads, r.Outcomes)
	}
	if after.descriptors > before.descriptors+spare {
		t.Errorf("%d descriptors are left, after %d before", after.descriptors, before.descriptors)
	}
	if n := server.goroutines(); n > 100 {
		t.Errorf("%d goroutines are left", n)
	}
}
