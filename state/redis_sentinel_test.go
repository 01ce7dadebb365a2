package state

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/redistest"
)

// Sentinels that have not all learnt of a new primary: what most of them name is used, and where there is no such one,
// nothing is.
func TestSentinelsThatDisagree(t *testing.T) {
	t.Parallel()
	old, successor := redistest.Start(t), redistest.Start(t)
	vouch(t, old)
	// Those of the one do not know those of the other, so that none learns anything.
	sentinels := []*redistest.Server{redistest.StartSentinel(t, "main", old), redistest.StartSentinel(t, "main", old), redistest.StartSentinel(t, "main", successor)}
	learn := func(s *redistest.Server) {
		s.Do("SENTINEL", "REMOVE", "main")
		s.Do("SENTINEL", "MONITOR", "main", "127.0.0.1", strconv.Itoa(successor.Port), "2")
	}
	url := "redis-sentinel://" + sentinels[0].Addr() + "," + sentinels[1].Addr() + "," + sentinels[2].Addr() + "/main"
	s := start(t, config(t, url))
	accepted := newest()
	mustUse(t, s, accepted)

	sentinels[0].Kill()
	redistest.Until(t, "it is known that there is no majority", func() bool { return s.Problem() != nil })
	if first, err := s.Use(t.Context(), newest()); first || err == nil {
		t.Errorf("used without a majority: %v, %v", first, err)
	}
	for _, want := range []string{"more than half", sentinels[1].Addr() + ": it names " + old.Addr(), sentinels[2].Addr() + ": it names " + successor.Addr()} {
		if err := s.Problem(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	learn(sentinels[1])
	redistest.Until(t, "the successor is used", func() bool { return s.Problem() == nil })
	e := s.current.Load().epochs[0]
	if began, err := parseRecord(e.id); err != nil || e.since.Sub(began.since) != fresh {
		t.Errorf("the successor vouches from %v on, began at %v, %v; the server before may still have been used then", e.since, began.since, err)
	}
	sentinels[0].Restart()
	learn(sentinels[0])
	if keys := successor.Do("DBSIZE"); keys == "(integer) 0" {
		t.Error("nothing is on the successor")
	}
	untilAccepted(t, s, accepted)
}

// What a sentinel says besides a name of a primary is a problem that is told.
func TestSentinelsOfNoUse(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	sentinel := redistest.StartSentinel(t, "main", primary)
	proxy := startProxy(t, sentinel.Addr())
	paused := redistest.StartSentinel(t, "main", primary)
	paused.Pause()
	for url, want := range map[string]string{
		sentinel.Addr() + "/other":                       "it knows no primary of this name",
		primary.Addr() + "/main":                         "unknown command",
		paused.Addr() + "/main":                          "deadline",
		paused.Addr() + "," + sentinel.Addr() + "/main":  "it names " + primary.Addr(),
		"127.0.0.1:1," + sentinel.Addr() + "/main":       "refused",
		sentinel.Addr() + "," + primary.Addr() + "/main": "it names " + primary.Addr(),
	} {
		err := Check(t.Context(), config(t, "redis-sentinel://"+url))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	for _, nonsense := range []string{"*2\r\n$1\r\na\r\n", "*1\r\n$1\r\na\r\n", "*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n", ">3\r\n+pmessage\r\n*-1\r\n+a\r\n", "*-3\r\n", ":1\r\n"} {
		proxy.said.Store(&nonsense)
		if err := Check(t.Context(), config(t, "redis-sentinel://"+proxy.addr+"/main")); err == nil {
			t.Errorf("%q is no problem", nonsense)
		}
		proxy.said.Store(nil)
	}
	vouch(t, primary)
	s := start(t, config(t, "redis-sentinel://"+proxy.addr+"/main"))
	mustUse(t, s, newest())
	message := "*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n>3\r\n+pmessage\r\n*-1\r\n+a\r\n"
	proxy.said.Store(&message)
	redistest.Until(t, "it is known", func() bool { return s.Problem() != nil })
	proxy.said.Store(nil)
	usable(t, s)
}

// A server that was asleep does not go on with what it found out before.
func TestConditionOfBefore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	vouch(t, server)
	s := start(t, config(t, server.URL()))
	mustUse(t, s, newest())
	before := *s.current.Load()
	before.asked = before.asked.Add(-2 * fresh)
	still := &Store{config: s.config, backend: s.backend, revoked: s.revoked}
	still.current.Store(&before)
	if first, err := still.Use(t.Context(), newest()); first || !errors.Is(err, errNotFresh) {
		t.Errorf("used: %v, %v", first, err)
	}
	if err := still.append(t.Context(), []accesstoken.TokenRevocationLine{accesstoken.RevokeAllLine(time.Now())}); !errors.Is(err, errNotFresh) {
		t.Errorf("revoked: %v", err)
	}
	if err := still.Problem(); !errors.Is(err, errNotFresh) {
		t.Errorf("%v", err)
	}
}
