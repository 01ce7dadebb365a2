//go:build linux

package state

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/pgtest"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/replay"
)

// A flood presents copies of assertions to several stores, and keeps what it has presented and how often each was let in.
type flood struct {
	stores []*Store
	stop   context.CancelFunc
	group  sync.WaitGroup

	mu    sync.Mutex
	pairs []replay.Pair
	yes   map[string]int
}

// floodClients present pairs at the same time. An error lets them wait for floodPause.
const (
	floodClients = 4
	floodPause   = 5 * time.Millisecond
)

// startFlood begins with clients that present new pairs, and pairs of any client again.
func startFlood(t *testing.T, stores ...*Store) *flood {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	f := &flood{stores: stores, stop: stop, yes: map[string]int{}}
	t.Cleanup(stop)
	for range floodClients {
		f.group.Go(func() {
			for ctx.Err() == nil {
				p := newest()
				f.mu.Lock()
				old := p
				if len(f.pairs) > 0 {
					old = f.pairs[len(f.pairs)/2]
				}
				f.pairs = append(f.pairs, p)
				f.mu.Unlock()
				for _, s := range stores {
					f.present(ctx, s, p)
					f.present(ctx, s, old)
				}
			}
		})
	}
	return f
}

func (f *flood) present(ctx context.Context, s *Store, p replay.Pair) {
	first, err := s.Use(ctx, p)
	if err != nil {
		<-time.After(floodPause)
	}
	if first {
		f.mu.Lock()
		f.yes[p.JTI]++
		f.mu.Unlock()
	}
}

// accepted is how many were let in so far.
func (f *flood) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.yes)
}

// more waits until a number of others are let in.
func (f *flood) more(t *testing.T, n int) {
	t.Helper()
	before := f.accepted()
	redistest.Until(t, "assertions are accepted", func() bool { return f.accepted() >= before+n })
}

// end presents once more everything that was presented, and none may have been let in twice.
func (f *flood) end(t *testing.T) {
	t.Helper()
	f.stop()
	f.group.Wait()
	var group sync.WaitGroup
	for part := range floodClients {
		group.Go(func() {
			for i := part; i < len(f.pairs); i += floodClients {
				f.present(t.Context(), f.stores[i%len(f.stores)], f.pairs[i])
			}
		})
	}
	group.Wait()
	for jti, yes := range f.yes {
		if yes > 1 {
			t.Errorf("%s was let in %d times", jti, yes)
		}
	}
	t.Logf("%d of %d pairs were let in", len(f.yes), len(f.pairs))
}

// A server that is killed under load and comes back has forgotten nothing: no pair is let in twice, and there is none that
// it cannot judge.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	n := newTenant(t, server, server.URL())
	n.vouch(t)
	a, b := start(t, n.config), start(t, n.config)
	from := a.AcceptsIssuedFrom()
	f := startFlood(t, a, b)
	for range 3 {
		f.more(t, 100)
		server.Kill()
		redistest.Until(t, "it is a problem", func() bool { return a.Problem() != nil && b.Problem() != nil })
		server.Restart()
		usable(t, a)
		usable(t, b)
	}
	f.more(t, 100)
	f.end(t)
	if again := a.AcceptsIssuedFrom(); !again.Equal(from) {
		t.Errorf("pairs are judged from %v on, and were from %v", again, from)
	}
}

// A standby for which commits waited takes over with all that was used.
func TestPostgresSynchronousStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, "synchronous_standby_names=s1")
	standby := primary.Standby("s1", "synchronous_standby_names=")
	n := newTenant(t, primary, primary.URL(standby))
	n.vouch(t)
	a, b := start(t, n.config), start(t, n.config)
	from := a.AcceptsIssuedFrom()
	if err := a.Revocations().Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "A"}); err != nil {
		t.Fatal(err)
	}
	f := startFlood(t, a, b)
	f.more(t, 200)
	primary.Kill()
	standby.Promote()
	usable(t, a)
	usable(t, b)
	f.more(t, 200)
	f.end(t)
	if again := b.AcceptsIssuedFrom(); !again.Equal(from) {
		t.Errorf("pairs are judged from %v on, and were from %v", again, from)
	}
	if revoked, err := start(t, n.config).Revocations().Revoked(t.Context(), &accesstoken.Claims{ID: "A"}); !revoked || err != nil {
		t.Errorf("what was revoked: %v, %v", revoked, err)
	}
	// Nothing waits for the new primary's commits; a fail-over of it would not go unnoticed.
	if got := (&tenant{standby, n.config, n.schema}).change(t, "SELECT synchronous::text FROM waybill.epoch"); got != "false" {
		t.Errorf("commits wait for a standby: %s", got)
	}
}

// A standby for which nothing waited may lack what was used last. What was issued before it took over is not judged.
func TestPostgresAsynchronousStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	n := newTenant(t, primary, primary.URL())
	n.vouch(t)
	standby := primary.Standby("s1")
	n.config.URL = config(t, primary.URL(standby)).URL
	a := start(t, n.config)
	f := startFlood(t, a)
	f.more(t, 200)
	standby.Stop() // it lacks what follows
	f.more(t, 200)
	lost := newest()
	if first, err := a.Use(t.Context(), lost); !first || err != nil {
		t.Fatal(first, err)
	}
	primary.Kill()
	standby.Restart()
	standby.Promote()
	var undecided *replay.UndecidedError
	redistest.Until(t, "the lost pair is undecided", func() bool {
		first, err := a.Use(t.Context(), lost)
		if first {
			t.Fatal("a pair that was lost is let in again")
		}
		return errors.As(err, &undecided)
	})
	if undecided.RetryAfter > 10*time.Second+2*ClockMargin {
		t.Errorf("clients are to wait for %v", undecided.RetryAfter)
	}
	redistest.Until(t, "assertions of after that are judged", func() bool { return time.Now().After(a.AcceptsIssuedFrom().Add(-10 * time.Second)) })
	f.more(t, 200)
	f.end(t)
}

// Whoever turns the waiting for a standby on or off while servers run has the epoch know it.
func TestPostgresSettingsChange(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	standby := primary.Standby("s1")
	n := newTenant(t, primary, primary.URL(standby))
	p := n.open(t)
	before := attested(t, p)
	for _, c := range []struct {
		setting string
		waits   bool
	}{{"'s1'", true}, {"''", false}, {"'s1'", true}} {
		if got := n.change(t, "SELECT synchronous::text FROM waybill.epoch"); (got == "true") == c.waits {
			t.Fatalf("commits wait already: %s", got)
		}
		primary.SQL("ALTER SYSTEM SET synchronous_standby_names = " + c.setting)
		primary.SQL("SELECT pg_reload_conf()")
		redistest.Until(t, "pairs are refused as commits wait for something else", func() bool {
			now := time.Now()
			_, err := p.use(t.Context(), before, pair(rand.Text()).Key(), now, now.Add(time.Minute))
			return errors.Is(err, errOtherEpoch)
		})
		if after := attested(t, p); after.id != before.id {
			t.Errorf("with %s another epoch begins", c.setting)
		}
	}
	primary.Kill()
	standby.Promote()
	standby.SQL("ALTER SYSTEM SET synchronous_standby_names = ''")
	var after *epoch
	redistest.Until(t, "the standby is asked", func() bool {
		epochs, _, err := p.attest(t.Context(), true)
		if err == nil {
			after = epochs[0]
		}
		return err == nil
	})
	if after.id != before.id {
		t.Error("another epoch begins where a standby has taken over that had everything")
	}
}

// While the standby is away that commits wait for, nothing is accepted, and no token passes by what the server may not know
// any more: the standby may have taken over elsewhere.
func TestPostgresWithoutItsStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, "synchronous_standby_names=s1")
	standby := primary.Standby("s1")
	n := newTenant(t, primary, primary.URL())
	n.vouch(t)
	s, p := start(t, n.config), n.open(t)
	e := attested(t, p)
	usable(t, s)
	standby.Pause()
	redistest.Until(t, "the store is out of reach", func() bool { return s.Problem() != nil })
	if first, err := s.Use(t.Context(), newest()); first || err == nil {
		t.Errorf("a pair: %v, %v", first, err)
	}
	redistest.Until(t, "tokens are refused", func() bool {
		_, err := s.Revocations().Revoked(t.Context(), &accesstoken.Claims{ID: "A"})
		return errors.Is(err, accesstoken.ErrTokenRevocationsOld)
	})
	// An administrator can end the waiting, and the commit then succeeds. It is no yes all the same.
	redistest.Until(t, "a commit is cancelled", func() bool {
		answer := make(chan error, 1)
		go func() {
			now := time.Now()
			first, err := p.use(t.Context(), e, pair(rand.Text()).Key(), now, now.Add(time.Minute))
			if first {
				t.Error("a yes that only this server knows")
			}
			answer <- err
		}()
		for {
			select {
			case err := <-answer:
				return errors.Is(err, errWarned)
			default:
				primary.SQL("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
			}
		}
	})
	standby.Resume()
	usable(t, s)
	mustBeFirst(t, s)
}

func mustBeFirst(t *testing.T, s *Store) {
	t.Helper()
	redistest.Until(t, "a pair is accepted", func() bool {
		first, _ := s.Use(t.Context(), newest())
		return first
	})
}

// A gate is a proxy before a server that can hold back what the server answers.
type gate struct {
	url  string
	mu   sync.Mutex
	open chan struct{} // closed while answers pass
}

func newGate(t *testing.T, server *pgtest.Server) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &gate{url: "postgres://postgres@" + l.Addr().String() + "/postgres?sslmode=disable", open: make(chan struct{})}
	close(g.open)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			behind, err := net.Dial("unix", server.Socket())
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				io.Copy(behind, client)
				behind.Close()
			}()
			go func() {
				io.Copy(client, g.answers(behind))
				client.Close()
			}()
		}
	}()
	return g
}

// answers waits, where the gate is closed, before each piece of an answer.
func (g *gate) answers(from io.Reader) io.Reader { return gateReader{g, from} }

type gateReader struct {
	g    *gate
	from io.Reader
}

func (r gateReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.g.mu.Lock()
	open := r.g.open
	r.g.mu.Unlock()
	<-open
	return n, err
}

// hold has no answer pass until the returned function is called.
func (g *gate) hold() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.open = held
	return func() { close(held) }
}

// A pair whose answer is lost counts as used; a frozen server gets errors; and both are used again as soon as they answer.
func TestPostgresCutOff(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	g := newGate(t, server)
	n := newTenant(t, server, g.url)
	n.vouch(t)
	s := start(t, n.config)
	usable(t, s)
	mustBeFirst(t, s) // or the connection is tried out before it is used again
	lost := newest()
	release := g.hold()
	if first, err := s.Use(t.Context(), lost); first || err == nil {
		t.Errorf("without an answer: %v, %v", first, err)
	}
	redistest.Until(t, "the store is out of reach", func() bool { return s.Problem() != nil })
	release()
	usable(t, s)
	if first, err := s.Use(t.Context(), lost); first || err != nil {
		t.Errorf("a pair whose answer was lost: %v, %v", first, err)
	}
	server.Pause()
	if first, err := s.Use(t.Context(), newest()); first || err == nil {
		t.Errorf("a frozen server: %v, %v", first, err)
	}
	redistest.Until(t, "the store is out of reach", func() bool { return s.Problem() != nil })
	server.Resume()
	usable(t, s)
	mustBeFirst(t, s)
}

// What one server revokes, the others know soon, and one that starts later too.
func TestPostgresRevocations(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	n := newTenant(t, server, server.URL())
	n.vouch(t)
	a, b := start(t, n.config), start(t, n.config)
	if err := a.Revocations().Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "A"}); err != nil {
		t.Fatal(err)
	}
	revoked := func(s *Store) bool {
		is, err := s.Revocations().Revoked(t.Context(), &accesstoken.Claims{ID: "A"})
		return is && err == nil
	}
	redistest.Until(t, "the other server knows", func() bool { return revoked(b) })
	redistest.Until(t, "a new server knows", func() bool { return revoked(start(t, n.config)) })
	n.change(t, "TRUNCATE waybill.epoch, waybill.revoked")
	redistest.Until(t, "the log has it again", func() bool { return n.change(t, "SELECT count(*) FROM waybill.revoked") == "1" })
}

// However slow the making of the tables, which a question about the store is not worth waiting for, it comes to its end.
func TestPostgresThatIsSlow(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	server.SQL(`CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); END';
		CREATE EVENT TRIGGER wait ON ddl_command_start EXECUTE FUNCTION wait()`)
	usable(t, start(t, config(t, server.URL())))
}
