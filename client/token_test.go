package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/rule"
)

// crowd calls a thousand times at once and returns how often each token was given.
func crowd(t *testing.T, c *client.Client) map[string]int {
	t.Helper()
	var (
		mu  sync.Mutex
		got = map[string]int{}
		all sync.WaitGroup
	)
	begin := make(chan struct{})
	for range 1000 {
		all.Go(func() {
			<-begin
			token := mustToken(t, c)
			mu.Lock()
			defer mu.Unlock()
			got[token]++
		})
	}
	close(begin)
	all.Wait()
	return got
}

func TestThousandCallersMakeOneRequestPerLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		server.delay = 200 * time.Millisecond
		c := newClient(t, config(&inMemory{handler: server}))
		if got := crowd(t, c); got["token-1"] != 1000 {
			t.Fatalf("tokens of the first crowd: %v", got)
		}
		for life := 1; life <= 5; life++ {
			begin := time.Now()
			time.Sleep(44 * time.Minute) // under 75 % of an hour
			crowd(t, c)
			synctest.Wait()
			if got := server.requests(); got != life {
				t.Fatalf("%d requests in life %d before the renewal, after %s", got, life, time.Since(begin))
			}
			time.Sleep(10*time.Minute + time.Second) // over 90 %
			if got := crowd(t, c)[fmt.Sprintf("token-%d", life)]; got != 1000 {
				t.Errorf("%d of 1000 callers got the old token without waiting", got)
			}
			time.Sleep(server.delay)
			synctest.Wait()
			if got := server.requests(); got != life+1 {
				t.Fatalf("%d requests after the renewal of life %d", got, life)
			}
		}
	})
}

func TestThousandCallersOverSockets(t *testing.T) {
	server := newTokenServer(t)
	endpoint := httptest.NewTLSServer(server)
	defer endpoint.Close()
	conf := config(endpoint.Client().Transport)
	conf.Server = endpoint.URL
	c := newClient(t, conf)
	if got := crowd(t, c); got["token-1"] != 1000 {
		t.Errorf("tokens: %v", got)
	}
	if got := server.requests(); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

// Replicas that start together must not renew together.
func TestRenewalIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		begin := time.Now()
		var replicas []*client.Client
		for range 20 {
			replicas = append(replicas, newClient(t, config(&inMemory{handler: server})))
			mustToken(t, replicas[len(replicas)-1])
		}
		moments := map[time.Duration]bool{}
		for time.Since(begin) < 55*time.Minute {
			before := server.requests()
			for _, c := range replicas {
				mustToken(t, c)
			}
			synctest.Wait()
			if server.requests() > before {
				moments[time.Since(begin)] = true
			}
			time.Sleep(10 * time.Second)
		}
		if got := server.requests(); got != 40 {
			t.Errorf("%d requests, want one and one renewal for each of 20", got)
		}
		if len(moments) < 8 {
			t.Errorf("20 renewals at %d moments", len(moments))
		}
		for at := range moments {
			if at < 45*time.Minute || at > 54*time.Minute+10*time.Second {
				t.Errorf("a renewal after %s", at)
			}
		}
	})
}

func TestOldTokenServesWhileServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		network := &inMemory{handler: server}
		c := newClient(t, config(network))
		mustToken(t, c)
		network.down.Store(true)
		begin := time.Now()
		for time.Since(begin) < 59*time.Minute+49*time.Second {
			if got := mustToken(t, c); got != "token-1" {
				t.Fatalf("got %s from a server that is down", got)
			}
			time.Sleep(time.Second)
		}
		tries := network.tries.Load() - 1
		if tries < 20 || tries > 400 {
			t.Errorf("%d tries in 15 minutes at most: want some, and no hammering", tries)
		}
		time.Sleep(2 * time.Second)
		if got, err := c.Token(t.Context()); err == nil {
			t.Errorf("got %s nine seconds before its end", got.AccessToken)
		}
		network.down.Store(false)
		time.Sleep(time.Second)
		if got := mustToken(t, c); got != "token-2" {
			t.Errorf("got %s from the server that came back", got)
		}
	})
}

// The whole of net/http on both sides, over pipes.
func TestServerDiesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		server.life = time.Minute
		network := &pipeNetwork{}
		kill := network.serve(server)
		transport := &http.Transport{DialContext: network.dial}
		conf := config(transport)
		conf.Server = "http://127.0.0.1"
		c := newClient(t, conf)
		for round := 1; round <= 3; round++ {
			if got, want := mustToken(t, c), fmt.Sprintf("token-%d", round); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			kill()
			time.Sleep(time.Minute)
			if _, err := c.Token(t.Context()); err == nil {
				t.Fatal("got a token from a dead server")
			}
			kill = network.serve(server)
			time.Sleep(time.Second)
		}
		kill()
		transport.CloseIdleConnections()
	})
}

// While a server is down, callers keep coming. It is back for them within two
// seconds.
func TestRecoveryTakesTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		network := &inMemory{handler: server}
		network.down.Store(true)
		c := newClient(t, config(network))
		begin := time.Now()
		for time.Since(begin) < time.Minute {
			if _, err := c.Token(t.Context()); err == nil {
				t.Fatal("got a token from a server that is down")
			}
			time.Sleep(37 * time.Millisecond)
		}
		if tries := network.tries.Load(); tries > 150 {
			t.Errorf("%d tries in a minute", tries)
		}
		network.down.Store(false)
		back := time.Now()
		for {
			if _, err := c.Token(t.Context()); err == nil {
				break
			}
			time.Sleep(37 * time.Millisecond)
		}
		if took := time.Since(back); took > 2*time.Second {
			t.Errorf("the first token came %s after the server", took)
		}
	})
}

func TestWaiterWhoLeavesDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		server.delay = 2 * time.Second
		c := newClient(t, config(&inMemory{handler: server}))
		first, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := c.Token(first)
			left <- err
		}()
		synctest.Wait() // the first caller has started the request
		var others sync.WaitGroup
		for range 10 {
			others.Go(func() { mustToken(t, c) })
		}
		time.Sleep(time.Second)
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller who left got %v", err)
		}
		others.Wait()
		if got := server.requests(); got != 1 {
			t.Errorf("%d requests, want 1", got)
		}
	})
}

func TestCallersDeadlineHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, config(&inMemory{handler: newTokenServer(t, silence)}))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := c.TokenSource(ctx).Token()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
			t.Errorf("%v after %s, want the deadline after 3s", err, time.Since(begin))
		}
	})
}

func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		c := newClient(t, config(&inMemory{handler: server}))
		c.Invalidate("token-1") // there is none
		old := mustToken(t, c)
		c.Invalidate("another")
		if got := mustToken(t, c); got != old {
			t.Errorf("somebody else's token discarded ours")
		}
		for range 100 { // as many callers who saw the old one refused
			c.Invalidate(old)
			if got := mustToken(t, c); got != "token-2" {
				t.Fatalf("got %s after %s was refused", got, old)
			}
		}
		if got := server.requests(); got != 2 {
			t.Errorf("%d requests, want 2", got)
		}
	})
}

// An API that refuses every token makes no storm at the token endpoint.
func TestInvalidateStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		c := newClient(t, config(&inMemory{handler: server}))
		begin := time.Now()
		for range 65 {
			c.Invalidate(mustToken(t, c))
		}
		if took := time.Since(begin); took < 55*time.Second {
			t.Errorf("65 tokens in %s", took)
		}
	})
}

func TestRefusalIsRememberedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t, slices.Repeat([]http.HandlerFunc{refusal(rule.PartyNotActive)}, 2)...)
		c := newClient(t, config(&inMemory{handler: server}))
		for range 1000 {
			_, err := c.Token(t.Context())
			if refused, ok := errors.AsType[*client.Error](err); !ok || refused.RuleID != "party.not-active" {
				t.Fatalf("got %v", err)
			}
		}
		if got := server.requests(); got != 1 {
			t.Errorf("%d requests for 1000 callers at once, want 1: a refusal is not repeated", got)
		}
		time.Sleep(time.Second)
		if _, err := c.Token(t.Context()); err == nil || server.requests() != 2 {
			t.Errorf("a second later: %v, %d requests", err, server.requests())
		}
		time.Sleep(time.Second)
		mustToken(t, c)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &inMemory{handler: newTokenServer(t, silence)}
		c := newClient(t, config(network))
		got := make(chan error)
		go func() {
			_, err := c.Token(t.Context())
			got <- err
		}()
		synctest.Wait()
		begin := time.Now()
		go c.Close()
		if err := <-got; !errors.Is(err, client.ErrClosed) || time.Since(begin) > 0 {
			t.Errorf("who waited got %v after %s", err, time.Since(begin))
		}
		synctest.Wait()
		if _, err := c.Token(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if got := network.tries.Load(); got != 1 {
			t.Errorf("%d requests, want none after the end", got)
		}
	})
}

func TestCloseForgetsTheToken(t *testing.T) {
	c := newClient(t, config(&inMemory{handler: newTokenServer(t)}))
	mustToken(t, c)
	c.Close()
	if _, err := c.Token(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestCallersDoNotShareTheirToken(t *testing.T) {
	c := newClient(t, config(&inMemory{handler: newTokenServer(t)}))
	token, err := c.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token.AccessToken = "spoilt"
	if got := mustToken(t, c); got != "token-1" {
		t.Errorf("the next caller got %s", got)
	}
}

func TestTokenSourceUnderOAuth2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		c := newClient(t, config(&inMemory{handler: server}))
		reuse := oauth2.ReuseTokenSource(nil, c.TokenSource(t.Context()))
		for range 240 {
			token, err := reuse.Token()
			if err != nil || !token.Valid() {
				t.Fatalf("%+v, %v", token, err)
			}
			if got := token.Extra("scope"); got != "iSHARE" {
				t.Errorf("scope %v", got)
			}
			time.Sleep(time.Minute)
		}
		if got := server.requests(); got > 6 {
			t.Errorf("%d requests in four hours", got)
		}
	})
}

func TestShortLives(t *testing.T) {
	for _, life := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newTokenServer(t)
				server.life = life
				c := newClient(t, config(&inMemory{handler: server}))
				begin := time.Now()
				for time.Since(begin) < 20*life {
					mustToken(t, c)
					time.Sleep(life / 50)
				}
				if got := server.requests(); got < 20 || got > 28 {
					t.Errorf("%d requests in 20 lives", got)
				}
			})
		})
	}
}

// One cause is told once. A token ends the row of failures: the next failure is the first again.
func TestTokenEndsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := refusal(rule.PartyUnknown)
		server := newTokenServer(t, bad)
		server.next(bad)
		server.next(token("token-1", time.Hour), bad)
		var log bytes.Buffer
		conf := config(&inMemory{handler: server})
		conf.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c := newClient(t, conf)
		for range 3 {
			c.Token(t.Context())
			time.Sleep(time.Second)
		}
		c.Invalidate("token-1")
		c.Token(t.Context())
		var rows []string
		for line := range strings.Lines(log.String()) {
			_, level, _ := strings.Cut(line, "level=")
			level, _, _ = strings.Cut(level, " ")
			if _, after, failed := strings.Cut(line, "failures="); failed {
				rows = append(rows, level+" "+after[:1])
			}
		}
		if !slices.Equal(rows, []string{"WARN 1", "DEBUG 2", "WARN 1"}) {
			t.Errorf("failures %v in\n%s", rows, &log)
		}
	})
}

func TestLogHoldsNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		echo := func(w http.ResponseWriter, r *http.Request) {
			jsonAnswer(400, fmt.Sprintf(`{"error":"invalid_client","error_description":"bad assertion %s"}`, r.PostForm.Get("client_assertion")))(w, r)
		}
		var log bytes.Buffer
		conf := config(&inMemory{handler: server})
		conf.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c := newClient(t, conf)
		server.next(unavailable("1"), echo)
		if _, err := c.Token(t.Context()); err == nil {
			t.Fatal("no error")
		}
		time.Sleep(time.Second)
		token := mustToken(t, c)
		for _, want := range []string{"token request is repeated", "no token", "token received", "[removed]"} {
			if !bytes.Contains(log.Bytes(), []byte(want)) {
				t.Errorf("the log lacks %q", want)
			}
		}
		if bytes.Contains(log.Bytes(), []byte(token)) || bytes.Contains(log.Bytes(), []byte("eyJ")) {
			t.Errorf("the log holds a secret:\n%s", &log)
		}
	})
}

// The connection of the client's own transport goes with the client.
func TestCloseHangsUp(t *testing.T) {
	hungUp := make(chan struct{})
	hangUp := sync.OnceFunc(func() { close(hungUp) })
	endpoint := httptest.NewUnstartedServer(newTokenServer(t))
	endpoint.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			hangUp()
		}
	}
	endpoint.Start()
	defer endpoint.Close()
	conf := config(nil)
	conf.Server = endpoint.URL
	c := newClient(t, conf)
	mustToken(t, c)
	c.Close()
	select {
	case <-hungUp:
	case <-time.After(time.Minute): // nothing else would end the wait
		t.Error("the connection is still open")
	}
}
