//go:build linux

package state

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/accesstoken/accesstokentest"
	"github.com/waybill-token/waybill/internal/pgtest"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/replay/replaytest"
)

// A tenant is a party of a test's own in a server of PostgreSQL.
type tenant struct {
	*pgtest.Server
	config Config
	schema string // where its tables are
}

func newTenant(tb testing.TB, server *pgtest.Server, url string) *tenant {
	tb.Helper()
	c := config(tb, url)
	c.Party = ishare.PartyID("urn:party:" + rand.Text())
	return &tenant{server, c, strings.ReplaceAll(c.namespace(), ":", "_")}
}

// open gives the back end alone.
func (n *tenant) open(tb testing.TB) *postgres {
	tb.Helper()
	b, err := open(tb.Context(), &n.config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.close)
	return b.(*postgres) //nolint:forcetypeassert // it is
}

// vouch makes the tenant begin with an epoch of long ago, in which nothing was revoked, so that a test need not wait.
func (n *tenant) vouch(tb testing.TB) {
	tb.Helper()
	attested(tb, n.open(tb))
	n.change(tb, "UPDATE waybill.epoch SET since = '2020-01-01', complete = true")
}

// change runs statements in which the schema is called waybill.
func (n *tenant) change(tb testing.TB, statements string) string {
	tb.Helper()
	return n.SQL(strings.ReplaceAll(statements, "waybill.", n.schema+"."))
}

// attested asks for the epoch.
func attested(tb testing.TB, p *postgres) *epoch {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), pollTimeout)
	defer cancel()
	epochs, now, err := p.attest(ctx, true)
	if err != nil {
		tb.Fatal(err)
	}
	if len(epochs) != 1 || epochs[0].bucket != 0 || time.Since(now).Abs() > ClockTolerance {
		tb.Fatalf("the epochs are %v, and it is %v", epochs, now)
	}
	return epochs[0]
}

// What needs no server that is killed or set up otherwise shares one.
func TestPostgres(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	for name, test := range map[string]func(*testing.T, *tenant){
		"conformance":          testPostgresConforms,
		"copies":               testPostgresCopies,
		"first starts":         testPostgresFirstStarts,
		"only asked":           testPostgresOnlyAsked,
		"a role without right": testPostgresRoleWithoutRights,
		"the epoch":            testPostgresEpoch,
		"the clock":            testPostgresClock,
		"one statement":        testPostgresBatch,
		"what is over":         testPostgresForgets,
		"an unfit session":     testPostgresUnfitSession,
		"the log":              testPostgresLog,
		"the log as it grows":  testPostgresLogAsItGrows,
	} {
		t.Run(name, func(t *testing.T) { test(t, newTenant(t, server, server.URL())) })
	}
}

func testPostgresConforms(t *testing.T, n *tenant) {
	t.Helper()
	n.vouch(t)
	s := start(t, n.config)
	t.Run("pairs", func(t *testing.T) {
		replaytest.Run(t, 1000, func(*testing.T) replay.Store { return s })
	})
	t.Run("revocations", func(t *testing.T) {
		accesstokentest.Run(t, func(*testing.T) accesstoken.TokenRevocations { return s.Revocations() })
	})
	other := start(t, n.config)
	t.Run("pairs of two servers", func(t *testing.T) {
		replaytest.RunShared(t, 1000, func(*testing.T) []replay.Store { return []replay.Store{s, other} })
	})
	t.Run("revocations of two servers", func(t *testing.T) {
		accesstokentest.RunShared(t, func(*testing.T) []accesstoken.TokenRevocations {
			return []accesstoken.TokenRevocations{s.Revocations(), other.Revocations()}
		})
	})
}

// Of thousands of copies of an assertion that reach three servers at once, one is let in.
func testPostgresCopies(t *testing.T, n *tenant) {
	t.Helper()
	n.vouch(t)
	var stores []*Store
	for range 3 {
		stores = append(stores, start(t, n.config))
	}
	for round := range 10 {
		p := pair(fmt.Sprint("round ", round))
		var group sync.WaitGroup
		answers := make(chan bool, 10_000)
		var late atomic.Int64 // a machine that has much else to do
		for i := range cap(answers) {
			group.Go(func() {
				first, err := stores[i%len(stores)].Use(t.Context(), p)
				if errors.Is(err, errOtherTime) || errors.Is(err, context.DeadlineExceeded) {
					late.Add(1)
				} else if err != nil {
					t.Error(err)
				}
				answers <- first
			})
		}
		group.Wait()
		close(answers)
		yes := 0
		for first := range answers {
			if first {
				yes++
			}
		}
		if yes > 1 || yes == 0 && late.Load() == 0 {
			t.Errorf("round %d: %d of %d copies are let in, %d too late", round, yes, cap(answers), late.Load())
		}
	}
}

// Who only asks whether a server could be used leaves nothing in it.
func testPostgresOnlyAsked(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	if epochs, now, err := p.attest(t.Context(), false); len(epochs) > 0 || now.IsZero() || err != nil {
		t.Error(epochs, now, err)
	}
	if got := n.SQL("SELECT count(*) FROM pg_namespace WHERE nspname = '" + n.schema + "'"); got != "0" {
		t.Error("a schema was made")
	}
	e := attested(t, p)
	if epochs, _, err := p.attest(t.Context(), false); len(epochs) != 1 || epochs[0].id != e.id || err != nil {
		t.Error(epochs, err)
	}
	n.change(t, "UPDATE waybill.epoch SET timeline = '00000000'")
	if epochs, _, err := p.attest(t.Context(), false); len(epochs) > 0 || err != nil {
		t.Error(epochs, err)
	}
	if got := n.change(t, "SELECT timeline FROM waybill.epoch"); got != "00000000" {
		t.Error("an epoch was begun")
	}
}

// Servers that start together on an empty database make the tables once, and agree on the epoch.
func testPostgresFirstStarts(t *testing.T, n *tenant) {
	t.Helper()
	for range 5 {
		ids := make([]string, 4)
		var group sync.WaitGroup
		for i := range ids {
			p := n.open(t)
			group.Go(func() {
				epochs, _, err := p.attest(t.Context(), true)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = epochs[0].id
			})
		}
		group.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("the epochs differ: %v", ids)
			}
		}
		n.SQL("DROP SCHEMA " + n.schema + " CASCADE")
	}
}

// A server that cannot be relied upon is not, and the problem says why.
func TestPostgresProblems(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	n := newTenant(t, server, server.URL())
	p := n.open(t)
	e := attested(t, p)
	for _, c := range []struct{ harm, mend, problem string }{
		{"ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", "fsync"},
		{"ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM RESET full_page_writes", "full_page_writes"},
		{"UPDATE waybill.epoch SET schema_version = 99", "UPDATE waybill.epoch SET schema_version = 1", "newer program"},
		{"ALTER TABLE waybill.used RENAME TO away", "ALTER TABLE waybill.away RENAME TO used", "used"},
	} {
		t.Run(c.harm, func(t *testing.T) {
			trouble := func() error {
				now := time.Now()
				first, err := p.use(t.Context(), e, pair(rand.Text()).Key(), now, now.Add(time.Minute))
				if first && err != nil {
					t.Error("a yes with an error")
				}
				_, _, attestErr := p.attest(t.Context(), true)
				return cmp.Or(attestErr, err)
			}
			n.change(t, c.harm)
			n.SQL("SELECT pg_reload_conf()")
			redistest.Until(t, "the problem is told", func() bool {
				err := trouble()
				return err != nil && strings.Contains(err.Error(), c.problem)
			})
			n.change(t, c.mend)
			n.SQL("SELECT pg_reload_conf()")
			redistest.Until(t, "there is no problem", func() bool { return trouble() == nil })
		})
	}
}

// Nothing is used where a commit may be lost, be it that nobody has noticed yet.
func testPostgresUnfitSession(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	e := attested(t, p)
	for _, setting := range []string{"off", "local"} {
		err := p.acknowledged(t.Context(), func(c *pgx.Conn) error {
			_, err := c.Exec(t.Context(), "SET synchronous_commit = "+setting)
			return err
		})
		now := time.Now()
		if first, useErr := p.use(t.Context(), e, pair(setting).Key(), now, now.Add(time.Minute)); err != nil || first || !errors.Is(useErr, errOtherEpoch) {
			t.Errorf("synchronous_commit %s: %v, %v, %v", setting, err, first, useErr)
		}
	}
}

// A role that may not make the tables is told what to have done, and that is enough.
func testPostgresRoleWithoutRights(t *testing.T, n *tenant) {
	t.Helper()
	n.SQL(`CREATE ROLE "Way bill" LOGIN`)
	p := newTenant(t, n.Server, n.URLAs("Way bill")).open(t)
	_, _, checkErr := p.attest(t.Context(), false)
	_, _, err := p.attest(t.Context(), true)
	if err == nil || checkErr == nil || checkErr.Error() != err.Error() {
		t.Fatalf("a role without rights: %v, and when it is only asked: %v", err, checkErr)
	}
	_, mend, _ := strings.Cut(err.Error(), "run in this database: ")
	mend, _, found := strings.Cut(mend, ";")
	if !found {
		t.Fatalf("%q has no mend", err)
	}
	n.SQL(mend)
	e := attested(t, p)
	now := time.Now()
	if first, err := p.use(t.Context(), e, replay.Key{}, now, now.Add(time.Minute)); !first || err != nil {
		t.Error(first, err)
	}
}

// An epoch goes on only where nothing can have been lost.
func testPostgresEpoch(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	for name, c := range map[string]struct {
		change string
		goesOn bool
	}{
		"nothing":                              {"SELECT 1", true},
		"commits waited for a standby":         {"UPDATE waybill.epoch SET synchronous = true", true},
		"a standby has taken over":             {"UPDATE waybill.epoch SET timeline = '00000000'", false},
		"a standby for which commits waited":   {"UPDATE waybill.epoch SET timeline = '00000000', synchronous = true", true},
		"a copy in another server":             {"UPDATE waybill.epoch SET system = 1", false},
		"the same, where commits had waited":   {"UPDATE waybill.epoch SET system = 1, synchronous = true", false},
		"the row is gone":                      {"TRUNCATE waybill.epoch, waybill.used, waybill.revoked", false},
		"the row is gone, and nothing besides": {"DELETE FROM waybill.epoch", false},
		"numbers that are taken":               {"UPDATE waybill.epoch SET appended = 0, system = 1", false},
	} {
		t.Run(name, func(t *testing.T) {
			before := attested(t, p)
			add := func(e *epoch, text string) {
				t.Helper()
				line := accesstoken.TokenRevocationLine{Text: text, Until: time.Now().Add(time.Hour)}
				if err := p.append(t.Context(), e, []accesstoken.TokenRevocationLine{line}); err != nil {
					t.Fatal(err)
				}
			}
			add(before, "before "+name)
			n.change(t, c.change)
			now := time.Now()
			if first, err := p.use(t.Context(), before, pair(name).Key(), now, now.Add(time.Minute)); name != "nothing" && (first || !errors.Is(err, errOtherEpoch)) {
				t.Errorf("a pair in an epoch that is not that of the server: %v, %v", first, err)
			}
			after := attested(t, p)
			if goesOn := before.id == after.id && before.since.Equal(after.since); goesOn != c.goesOn {
				t.Errorf("the epoch goes on: %v", goesOn)
			}
			if before.id != after.id && !after.since.After(before.since) {
				t.Errorf("an epoch begins at %v, and the one before at %v", after.since, before.since)
			}
			if _, _, complete, err := p.read(t.Context(), after, 0); complete != c.goesOn || err != nil {
				t.Errorf("the log is complete: %v, %v", complete, err)
			}
			if first, err := p.use(t.Context(), after, pair("then "+name).Key(), now, now.Add(time.Minute)); !first || err != nil {
				t.Errorf("a pair in the present epoch: %v, %v", first, err)
			}
			add(after, "after "+name)
			if lines, _, _, err := p.read(t.Context(), after, 0); !slices.Contains(lines, "after "+name) || err != nil {
				t.Errorf("a line of the present epoch is missing in %q, %v", lines, err)
			}
		})
	}
}

// Of several questions about one pair in one statement, the first that is still asked gets the yes.
func testPostgresBatch(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	e := attested(t, p)
	now := time.Now()
	left, leave := context.WithCancel(t.Context())
	leave()
	slow := now.Add(-2 * ClockTolerance)
	var batch []*pairQuestion
	var answers []chan pairAnswer
	ask := func(ctx context.Context, epoch, jti string, at time.Time) {
		answers = append(answers, make(chan pairAnswer, 1))
		until := now.Add(time.Minute + time.Duration(len(batch))*time.Second)
		batch = append(batch, &pairQuestion{ctx, epoch, pair(jti).Key(), at, until, answers[len(answers)-1]})
	}
	ask(left, e.id, "A", now)
	ask(t.Context(), "8f14e45f-ceea-467f-a0e6-8f14e45fceea", "A", now)
	ask(t.Context(), e.id, "A", slow)
	ask(t.Context(), e.id, "A", now)
	ask(t.Context(), e.id, "A", now)
	ask(t.Context(), e.id, "B", now)
	p.answer(t.Context(), batch)
	for i, want := range []pairAnswer{{}, {err: errOtherEpoch}, {err: errOtherTime}, {first: true}, {}, {first: true}} {
		if i == 0 {
			continue // who has left gets no answer
		}
		if got := <-answers[i]; got.first != want.first || !errors.Is(got.err, want.err) {
			t.Errorf("question %d: %v, want %v", i, got, want)
		}
	}
	if len(answers[0]) > 0 {
		t.Error("there is an answer for somebody who has left")
	}
	key := pair("A").Key()
	var enough bool
	if err := p.ask(t.Context(), `SELECT until >= $2 FROM waybill.used WHERE key = $1`, []any{key[:], now.Add(time.Minute + 4*time.Second - time.Millisecond)}, &enough); err != nil || !enough {
		t.Errorf("the pair is not remembered for as long as any of its questions: %v", err)
	}
}

// A clock that differs from the server's gets no yes.
func testPostgresClock(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	e := attested(t, p)
	for _, off := range []time.Duration{-time.Hour, -2 * ClockTolerance, 2 * ClockTolerance, time.Hour} {
		now := time.Now().Add(off)
		if first, err := p.use(t.Context(), e, pair(off.String()).Key(), now, now.Add(time.Hour)); first || !errors.Is(err, errOtherTime) {
			t.Errorf("a clock that is off by %v: %v, %v", off, first, err)
		}
	}
}

// Pairs that are over go, those that are not stay, and a pair is not over by one clock alone.
func testPostgresForgets(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	p.end() // it does not sweep by itself
	e := attested(t, p)
	use := func(jti string, until time.Duration) {
		t.Helper()
		now := time.Now()
		if first, err := p.use(t.Context(), e, pair(jti).Key(), now, now.Add(until)); !first || err != nil {
			t.Fatal(first, err)
		}
	}
	left := func(want string, swept string, ahead time.Duration) {
		t.Helper()
		n.change(t, "UPDATE waybill.epoch SET swept = now() + interval '"+swept+"'")
		if err := p.forget(t.Context(), time.Now().Add(ahead)); err != nil {
			t.Fatal(err)
		}
		if got := n.change(t, "SELECT count(*) FROM waybill.used"); got != want {
			t.Errorf("%s pairs are left, want %s", got, want)
		}
	}
	for i := range 50 {
		use(fmt.Sprint("over ", i), -time.Millisecond)
	}
	use("living", time.Hour)
	left("51", "0", 0)                  // it is too soon: another process may be at it
	left("51", "-2 hours", -time.Hour)  // by the server's clock alone
	left("1", "-1 minute", 2*time.Hour) // by the server's clock, though ours is ahead
	left("1", "30 minutes", 0)          // both were ahead, and are not any more
	now := time.Now()
	var undecided *replay.UndecidedError
	if first, err := p.use(t.Context(), e, pair("forgotten").Key(), now, now.Add(time.Minute)); first || !errors.As(err, &undecided) {
		t.Errorf("a pair that may have been forgotten: %v, %v", first, err)
	}
	use("later", time.Hour)
}

// Lines stand in the log once, in the order in which they came; those that are over make room.
func testPostgresLog(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	e := attested(t, p)
	later := time.Now().Add(time.Hour)
	add := func(lines ...accesstoken.TokenRevocationLine) error { return p.append(t.Context(), e, lines) }
	if err := errors.Join(
		add(accesstoken.TokenRevocationLine{Text: "a", Until: later}, accesstoken.TokenRevocationLine{Text: "over", Until: time.Now()}),
		add(accesstoken.TokenRevocationLine{Text: "a", Until: later}, accesstoken.TokenRevocationLine{Text: "b", Until: later}),
	); err != nil {
		t.Fatal(err)
	}
	read := func(after int64) (string, int64) {
		t.Helper()
		lines, last, complete, err := p.read(t.Context(), e, after)
		if err != nil || !complete {
			t.Fatal(complete, err)
		}
		return strings.Join(lines, " "), last
	}
	got, last := read(0)
	if got != "a b" {
		t.Errorf("the log is %q", got)
	}
	if err := add(accesstoken.TokenRevocationLine{Text: "c", Until: later}); err != nil {
		t.Fatal(err)
	}
	if got, _ = read(last); got != "c" {
		t.Errorf("behind %d is %q", last, got)
	}
	many := make([]accesstoken.TokenRevocationLine, accesstoken.DefaultTokenRevocationLimit-2)
	for i := range many {
		many[i] = accesstoken.TokenRevocationLine{Text: fmt.Sprint("line ", i), Until: later}
	}
	if err := add(many...); !errors.Is(err, accesstoken.ErrTokenRevocationsFull) {
		t.Errorf("one line too many: %v", err)
	}
	if got, _ = read(0); got != "a b c" {
		t.Errorf("the log is %d bytes long", len(got))
	}
	if err := add(many[1:]...); err != nil {
		t.Errorf("a log that is as long as it may be: %v", err)
	}
	other := *e
	other.id = "8f14e45f-ceea-467f-a0e6-8f14e45fceea"
	if err := p.append(t.Context(), &other, many[:1]); !errors.Is(err, errOtherEpoch) {
		t.Errorf("another epoch: %v", err)
	}
	if _, _, _, err := p.read(t.Context(), &other, 0); !errors.Is(err, errOtherEpoch) {
		t.Errorf("another epoch: %v", err)
	}
}

// Readers that follow the log while many append to it miss no line.
func testPostgresLogAsItGrows(t *testing.T, n *tenant) {
	t.Helper()
	p := n.open(t)
	e := attested(t, p)
	const writers, each = 8, 25
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if err := p.append(t.Context(), e, []accesstoken.TokenRevocationLine{{Text: fmt.Sprint(w, " ", i), Until: time.Now().Add(time.Hour)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var seen, position int64
	redistest.Until(t, "all lines are read", func() bool {
		lines, last, _, err := p.read(t.Context(), e, position)
		if err != nil {
			t.Fatal(err)
		}
		seen, position = seen+int64(len(lines)), last
		return position == writers*each
	})
	if seen != writers*each {
		t.Errorf("%d lines of %d were read", seen, writers*each)
	}
	group.Wait()
}

// What a URL may not be is told without the password.
func TestPostgresURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"postgres://waybill@db/waybill", "postgresql://waybill:secret@db:5433,db2/waybill?sslmode=require&target_session_attrs=any", "postgres:///waybill?host=/run/postgresql",
	} {
		if _, err := ParseURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"postgres://waybill:se/cret@db/waybill", "postgres://waybill:secret%zz@db/waybill", "postgres://waybill:secret@db:port/waybill", "postgres://waybill:secret@db/waybill?sslmode=secret",
		"postgres://waybill:secret@db/waybill?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
	} {
		if _, err := ParseURL(bad); err == nil || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// An error that has a line for each host stands on one, and is the error that it was.
func TestPostgresErrorOnOneLine(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	address := listener.Addr().String()
	err = Check(t.Context(), config(t, "postgres://"+address+","+address+"/waybill?sslmode=disable"))
	if err == nil || strings.ContainsAny(err.Error(), "\n\t") || strings.Count(err.Error(), "dial error") != 2 {
		t.Errorf("%v", err)
	}
	if _, kept := errors.AsType[*pgconn.ConnectError](err); !kept {
		t.Errorf("%T is not what it was", err)
	}
}

// BenchmarkPostgresUse uses a new pair each time, by 32 callers at once on two processors.
func BenchmarkPostgresUse(b *testing.B) {
	server := pgtest.Start(b)
	n := newTenant(b, server, server.URL())
	n.vouch(b)
	s := start(b, n.config)
	b.ResetTimer()
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if first, err := s.Use(b.Context(), newest()); !first || err != nil {
				b.Error(first, err)
				return
			}
		}
	})
}
