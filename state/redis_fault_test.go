package state

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/replay"
)

// mustUse uses a pair for the first time.
func mustUse(t *testing.T, s *Store, p replay.Pair) {
	t.Helper()
	if first, err := s.Use(t.Context(), p); !first || err != nil {
		t.Fatalf("the first use: %v, %v", first, err)
	}
}

// untilAccepted presents new pairs until one is accepted, and an old one besides, which never is.
func untilAccepted(t *testing.T, s *Store, old replay.Pair) {
	t.Helper()
	redistest.Until(t, "a new pair is accepted", func() bool {
		if first, _ := s.Use(t.Context(), old); first {
			t.Fatal("a pair is accepted twice")
		}
		first, _ := s.Use(t.Context(), newest())
		return first
	})
	if first, _ := s.Use(t.Context(), old); first {
		t.Fatal("a pair is accepted twice")
	}
}

// Whatever a server loses, no pair is accepted twice, and new ones are, some seconds later.
func TestRedisThatForgets(t *testing.T) {
	for name, c := range map[string]struct {
		options []string
		before  func(*redistest.Server) // the use
		after   func(*redistest.Server)
	}{
		"killed, without a disk": {after: func(s *redistest.Server) { s.Kill(); s.Restart() }},
		"killed, with an older snapshot": {
			options: []string{"--save", "3600 1"},
			before:  func(s *redistest.Server) { s.Do("SAVE") },
			after:   func(s *redistest.Server) { s.Kill(); s.Restart() },
		},
		"killed, with a log that is written now and then": {
			options: []string{"--appendonly", "yes", "--appendfsync", "everysec"},
			after:   func(s *redistest.Server) { s.Kill(); s.Restart() },
		},
		"stopped, with a snapshot": {
			options: []string{"--save", "3600 1"},
			after:   func(s *redistest.Server) { s.Stop(); s.Restart() },
		},
		"a clock that ran ahead": {after: func(s *redistest.Server) {
			clock := "{" + (&Config{Party: party}).namespace() + ":0}:clock"
			s.Do("SET", clock, strconv.FormatInt(time.Now().Add(time.Minute).UnixMicro(), 10))
			s.Do("EVAL", deletePairs, "0")
		}},
		"emptied":          {after: func(s *redistest.Server) { s.Do("FLUSHALL") }},
		"a replica's role": {after: takeTurns},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, c.options...)
			vouch(t, server)
			s := start(t, config(t, server.URL()))
			if c.before != nil {
				c.before(server)
			}
			old := newest()
			mustUse(t, s, old)
			c.after(server)
			untilAccepted(t, s, old)
		})
	}
}

const deletePairs = `for _, key in ipairs(redis.call('KEYS', '*')) do
	local kept = string.find(key, 'epoch') or string.find(key, 'revocations') or string.find(key, 'clock')
	redis.call(kept and 'EXISTS' or 'DEL', key)
end return 1`

// takeTurns has the server be a replica of another one, which lacks its last writes, and a primary again: a process that has not
// changed, with the data of another.
func takeTurns(s *redistest.Server) {
	other := s.Another("--replicaof", "127.0.0.1 "+fmt.Sprint(s.Port))
	other.UntilReplica()
	other.Do("REPLICAOF", "NO", "ONE")
	other.Do("EVAL", deletePairs, "0")
	s.Do("REPLICAOF", "127.0.0.1", fmt.Sprint(other.Port))
	s.UntilReplica()
	s.Do("REPLICAOF", "NO", "ONE")
}

// A server that joins others in an old epoch accepts pairs at once, and none that they have accepted.
func TestServerThatJoins(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	first := start(t, config(t, server.URL()))
	p := pair("A")
	mustUse(t, first, p)
	second := start(t, config(t, server.URL()))
	if again, err := second.Use(t.Context(), p); again || err != nil {
		t.Errorf("the pair of another server: %v, %v", again, err)
	}
	mustUse(t, second, pair("B"))
	c := config(t, server.URL())
	c.Party = "did:ishare:EU.NL.NTRNL-10000002"
	if other := start(t, c); other.AcceptsIssuedFrom().Before(time.Now()) {
		t.Error("another party shares the epoch")
	}
}

// One pair that many present to three servers is accepted once, whichever are asked.
func TestOneOfMany(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	stores := []*Store{start(t, config(t, server.URL())), start(t, config(t, server.URL())), start(t, config(t, server.URL()))}
	for range 5 {
		var yes atomic.Int64
		var group sync.WaitGroup
		p := pair(rand.Text())
		for i := range 999 {
			group.Go(func() {
				first, err := stores[i%3].Use(t.Context(), p)
				if err != nil {
					t.Error(err)
				}
				if first {
					yes.Add(1)
				}
			})
		}
		group.Wait()
		if yes.Load() != 1 {
			t.Errorf("accepted %d times", yes.Load())
		}
	}
}

// Whatever happens to the store meanwhile, no pair is accepted twice, at whichever server.
func TestOnceUnderFaults(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes")
	vouch(t, server)
	stores := []*Store{start(t, config(t, server.URL())), start(t, config(t, server.URL())), start(t, config(t, server.URL()))}
	var mu sync.Mutex
	accepted := map[string]int{}
	var presented []replay.Pair
	end := everyMillisecond(4, func(int) {
		p := newest()
		mu.Lock()
		presented = append(presented, p)
		mu.Unlock()
		var copies sync.WaitGroup
		for i := range 12 {
			copies.Go(func() {
				if first, _ := stores[i%3].Use(t.Context(), p); first {
					mu.Lock()
					accepted[p.JTI]++
					mu.Unlock()
				}
			})
		}
		copies.Wait()
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(accepted)
	}
	for range 2 {
		for _, fault := range []func(){
			func() { server.Do("CLIENT", "KILL", "TYPE", "normal") },
			func() {
				server.Pause()
				defer server.Resume()
				redistest.Until(t, "it is known", func() bool { return stores[0].Problem() != nil })
			},
			func() { server.Kill(); server.Restart() },
			func() { server.Do("FLUSHALL") },
			func() { server.Do("SCRIPT", "FLUSH") },
		} {
			fault()
			before := count()
			redistest.Until(t, "new pairs are accepted", func() bool { return count() > before+100 })
		}
	}
	end()
	for _, p := range presented {
		for _, s := range stores {
			if first, _ := s.Use(t.Context(), p); first {
				accepted[p.JTI]++
			}
		}
	}
	for jti, n := range accepted {
		if n > 1 {
			t.Errorf("%s was accepted %d times", jti, n)
		}
	}
	t.Logf("%d pairs were presented 12 times at once, and %d accepted", len(presented), len(accepted))
}

// A store that cannot be reached lets nobody in, and is used again as soon as it answers, without a word from anybody.
func TestRedisOutOfReach(t *testing.T) {
	for name, c := range map[string]struct{ lose, back func(*redistest.Server) }{
		"paused":                  {(*redistest.Server).Pause, (*redistest.Server).Resume},
		"killed, and begun again": {(*redistest.Server).Kill, (*redistest.Server).Restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			vouch(t, server)
			s := start(t, config(t, server.URL()))
			claims := &accesstoken.Claims{ID: "A", Issued: time.Now()}
			old := newest()
			mustUse(t, s, old)
			c.lose(server)
			if first, err := s.Use(t.Context(), pair("B")); first || err == nil {
				t.Fatalf("out of reach: %v, %v", first, err)
			}
			redistest.Until(t, "it is known", func() bool { return s.Problem() != nil })
			redistest.Until(t, "the copy of the revocations is too old", func() bool {
				_, err := s.Revocations().Revoked(t.Context(), claims)
				return errors.Is(err, accesstoken.ErrTokenRevocationsOld)
			})
			if err := s.Revocations().Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "A"}); err == nil {
				t.Error("revoked out of reach")
			}
			c.back(server)
			back := time.Now()
			redistest.Until(t, "it is used again", func() bool { return s.Problem() == nil })
			t.Logf("back after %v", time.Since(back))
			if revoked, err := s.Revocations().Revoked(t.Context(), claims); revoked || err != nil {
				t.Errorf("back: %v, %v", revoked, err)
			}
			untilAccepted(t, s, old)
		})
	}
}

// A server that starts while the store is out of reach starts.
func TestRedisThatComesLater(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	s := start(t, config(t, server.URL()))
	if _, err := s.Use(t.Context(), newest()); err == nil || s.Problem() == nil {
		t.Error("no problem")
	}
	server.Restart()
	untilAccepted(t, s, pair("A"))
}

// What may forget is not relied upon, and what is said of it names the mend.
func TestRedisThatIsUnfit(t *testing.T) {
	primary := redistest.Start(t)
	for name, c := range map[string]struct {
		options []string
		want    string
	}{
		"evicts":   {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}, "set maxmemory-policy to noeviction"},
		"volatile": {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"}, "set maxmemory-policy to noeviction"},
		"replica":  {[]string{"--replicaof", "127.0.0.1 " + fmt.Sprint(primary.Port)}, "give the address of the primary"},
		"password": {[]string{"--requirepass", "secret"}, "password"},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, c.options...)
			s := start(t, config(t, server.URL()))
			if first, err := s.Use(t.Context(), newest()); first || err == nil {
				t.Errorf("used: %v, %v", first, err)
			}
			if err := s.Problem(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	t.Run("no cluster", func(t *testing.T) { // beside servers that have it as one Redis, a pair would be good twice
		s := start(t, config(t, strings.Replace(primary.URL(), "redis://", "redis-cluster://", 1)))
		if first, err := s.Use(t.Context(), newest()); first || err == nil {
			t.Errorf("used: %v, %v", first, err)
		}
		if err := s.Problem(); err == nil || !strings.Contains(err.Error(), "it is no cluster") {
			t.Errorf("%v", err)
		}
	})
	vouch(t, primary)
	s := start(t, config(t, primary.URL()))
	mustUse(t, s, newest())
	primary.Do("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lfu")
	redistest.Until(t, "the setting is seen", func() bool { return s.Problem() != nil })
	primary.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	usable(t, s)
	mustUse(t, s, newest())
}

// A server that is full forgets nothing.
func TestRedisThatIsFull(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "1")
	s := start(t, config(t, server.URL()))
	if first, err := s.Use(t.Context(), newest()); first || err == nil {
		t.Errorf("%v, %v", first, err)
	}
}

// A clock that is off is found before the pair is remembered.
func TestRedisOfAnotherTime(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	s := start(t, config(t, server.URL()))
	p := newest()
	e, now := s.current.Load().epochs[0], time.Now()
	for _, off := range []time.Duration{-time.Hour, -2 * ClockTolerance, 2 * ClockTolerance, time.Hour} {
		if first, err := s.backend.use(t.Context(), e, p.Key(), now.Add(off), now.Add(2*time.Hour)); first || !errors.Is(err, errOtherTime) {
			t.Errorf("%v: %v, %v", off, first, err)
		}
	}
	mustUse(t, s, p)
}

// An answer that is lost after the write: the pair counts as used.
func TestLostAnswer(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	proxy := startProxy(t, server.Addr())
	s := start(t, config(t, "redis://"+proxy.addr))
	direct := start(t, config(t, server.URL()))
	mustUse(t, s, newest())
	for range 20 {
		p := newest()
		proxy.lossy.Store(true)
		if first, err := s.Use(t.Context(), p); first || err == nil {
			t.Fatalf("the answer was lost, and Use says %v, %v", first, err)
		}
		proxy.lossy.Store(false)
		redistest.Until(t, "the pair is judged", func() bool {
			first, err := s.Use(t.Context(), p)
			if first {
				if again, err := direct.Use(t.Context(), p); again || err != nil { // the question was lost, not the answer
					t.Fatalf("accepted twice: %v", err)
				}
			}
			return err == nil
		})
	}
}

// Whatever stands in place of an answer, or behind it, it ends neither the process nor anything else, and is no yes.
func TestNonsense(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	proxy := startProxy(t, server.Addr())
	s := start(t, config(t, "redis://"+proxy.addr))
	used := newest()
	mustUse(t, s, used)
	for _, nonsense := range []string{
		"*-3\r\n", "$-77\r\n", "%-5\r\n", "~-2\r\n", ">-2\r\n", "$99999999999999\r\n", "*99999999\r\n", "%9999999\r\n", "*9223372036854775807\r\n",
		strings.Repeat("*1\r\n", 1000), "|1\r\n+a\r\n+b\r\n:1\r\n", "*?\r\n", "$?\r\n;-5\r\n", "#t\r\n*-3\r\n", "#tXX*-3\r\n", "_XX*-3\r\n", ":1\r\n:1\r\n", "+OK\r\n+OK\r\n",
		">2\r\n+subscribe\r\n+a\r\n", ">2\r\n+invalidate\r\n*-1\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "\n", "\x00",
	} {
		proxy.said.Store(&nonsense)
		if first, err := s.Use(t.Context(), used); first && nonsense[0] != ':' { // which is the word for yes
			t.Errorf("%.20q is taken for a yes, %v", nonsense, err)
		}
		if err := Check(t.Context(), config(t, "redis://"+proxy.addr)); err == nil {
			t.Errorf("%.20q is no problem", nonsense)
		}
		proxy.said.Store(nil)
		untilAccepted(t, s, used)
	}
}

// A lossyProxy passes connections on. While it is lossy, it takes a question, and drops the answer with the connection;
// while it has something else to say, that is the answer.
type lossyProxy struct {
	addr  string
	lossy atomic.Bool
	said  atomic.Pointer[string]
}

func startProxy(t *testing.T, target string) *lossyProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &lossyProxy{addr: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.pass(client, target)
		}
	}()
	return p
}

func (p *lossyProxy) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go io.Copy(server, client)
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil || p.lossy.Load() {
			return
		}
		answer := buf[:n]
		if said := p.said.Load(); said != nil {
			answer = []byte(*said)
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

// A revocation of one server is one of all, and outlives the memory of the store as long as one of them lives.
func TestRedisRevocations(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	a, b := start(t, config(t, server.URL())), start(t, config(t, server.URL()))
	token := func(id string) *accesstoken.Claims {
		return &accesstoken.Claims{ID: id, Party: "urn:a", Client: "urn:a", Issued: time.Now().Add(-10 * time.Minute)}
	}
	revoked := func(s *Store, id string) bool {
		is, err := s.Revocations().Revoked(context.Background(), token(id)) //nolint:usetesting // beyond the test's end, too
		return is && err == nil
	}
	revoke := func(s *Store, id string) {
		t.Helper()
		if err := s.Revocations().Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: id}); err != nil {
			t.Fatal(err)
		}
		if !revoked(s, id) {
			t.Fatalf("%s is not revoked where it was", id)
		}
	}
	revoke(a, "A")
	redistest.Until(t, "the other server knows it", func() bool { return revoked(b, "A") })
	server.Do("FLUSHALL")
	redistest.Until(t, "a revocation can be made again", func() bool {
		return b.Revocations().Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "B"}) == nil
	})
	redistest.Until(t, "the first server knows it", func() bool { return revoked(a, "B") })
	c := start(t, config(t, server.URL()))
	if !revoked(c, "A") || !revoked(c, "B") {
		t.Error("a server that joins does not know what the others have given back")
	}
	for _, s := range []*Store{a, b, c} {
		if revoked(s, "C") {
			t.Error("a token that nobody has revoked")
		}
	}
	server.Kill()
	server.Restart()
	alone := start(t, config(t, server.URL()))
	redistest.Until(t, "it is known", func() bool { return alone.Problem() == nil })
	if !revoked(alone, "A") {
		t.Error("forgotten")
	}
}

// A revocation that cannot be read may be of any token: nobody is let in while it is there, however often it was read.
func TestRevocationThatCannotBeRead(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	s := start(t, config(t, server.URL()))
	usable(t, s)
	log := s.backend.(*redisStore).buckets[0].log[1] //nolint:forcetypeassert // it is
	server.Do("ZADD", log, "7", "of another version")
	server.Do("SET", log+":last", "7")
	redistest.Until(t, "the copy counts as old", func() bool { return s.Revocations().Age() > 2*accesstoken.MaxTokenRevocationAge })
	if s.Problem() == nil {
		t.Error("nobody is told")
	}
	server.Do("ZREM", log, "of another version")
	redistest.Until(t, "the copy is new", func() bool { return s.Revocations().Age() < accesstoken.MaxTokenRevocationAge })
}

// A server that begins with a store that has forgotten, and no other server to give it back, takes every earlier token as revoked.
func TestRevocationsThatNobodyKnows(t *testing.T) {
	server := redistest.Start(t)
	s := start(t, config(t, server.URL()))
	usable(t, s)
	for age, want := range map[time.Duration]bool{time.Hour: true, time.Second: true, -10 * time.Second: false} {
		revoked, err := s.Revocations().Revoked(t.Context(), &accesstoken.Claims{ID: "A", Issued: time.Now().Add(-age)})
		if revoked != want || err != nil {
			t.Errorf("a token that is %v old: %v, %v", age, revoked, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("ID 1700000000000000 0a 0b")
	f.Add("ID -1 0a")
	f.Fuzz(func(t *testing.T, record string) {
		if e, err := parseRecord(record); err == nil && (e.id != record || strings.Count(record, " ") != 3) {
			t.Errorf("%q: %+v", record, e)
		}
	})
}
