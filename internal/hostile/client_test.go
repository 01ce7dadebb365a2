package hostile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/isharetest"
)

// served is the outcome of a request that got a token.
const served = "200"

// A client asks for tokens at a steady rate, whatever becomes of them, each time with a new assertion. Every fifth
// request comes on a connection of its own.
type client struct{ part }

// A record is what became of the requests of a client.
type record struct {
	Sent     int
	Outcomes map[string]int
	Median   time.Duration // of those that got a token
	P99      time.Duration
	Max      time.Duration
}

// lost counts the requests that neither got a token nor one of these outcomes.
func (r *record) lost(besides ...string) int {
	n := r.Sent - r.Outcomes[served]
	for _, o := range besides {
		n -= r.Outcomes[o]
	}
	return n
}

func (c *client) run(ctx context.Context) *record {
	party := c.World.Consumer.party()
	pools := connections(c.Roots)
	ready, made := make(chan *http.Request, 64), make(chan struct{})
	go func() { // signing takes longer than all the rest
		for n := 0; ctx.Err() == nil; n++ {
			if n == cap(ready) {
				close(made)
			}
			ready <- party.Request(c.World.Audience).HTTP(baseOf(c.part))
		}
	}()
	<-made
	var under sync.WaitGroup
	var mu sync.Mutex
	r := &record{Outcomes: map[string]int{}}
	var times []time.Duration
	tick := time.NewTicker(time.Second / time.Duration(c.Rate))
	defer tick.Stop()
	for end := time.After(c.For); ; {
		select {
		case <-ctx.Done():
		case <-end:
		case due := <-tick.C:
			request, pool := <-ready, pools[0]
			r.Sent++
			if r.Sent%5 == 0 {
				pool = pools[1]
			}
			under.Go(func() {
				outcome := told(exchange(pool, request))
				took := time.Since(due)
				mu.Lock()
				defer mu.Unlock()
				r.Outcomes[outcome]++
				if outcome == served {
					times = append(times, took)
				}
			})
			continue
		}
		break
	}
	under.Wait()
	slices.Sort(times)
	if n := len(times); n > 0 {
		r.Median, r.P99, r.Max = times[n/2], times[n*99/100], times[n-1]
	}
	return r
}

func baseOf(p part) string {
	if p.Roots != "" {
		return "https://" + p.Public
	}
	return "http://" + p.Public
}

// connections are a pool that keeps connections, and one that makes a new one each time.
func connections(roots string) [2]*http.Client {
	var pools [2]*http.Client
	for i := range pools {
		transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableKeepAlives: i == 1}
		if roots != "" {
			transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
			transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(must(os.ReadFile(roots)))
			transport.ForceAttemptHTTP2 = true
		}
		pools[i] = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	}
	return pools
}

// send makes a request on a connection of its own.
func send(base string, r *isharetest.Request) (*isharetest.Answer, error) {
	return exchange(&http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, r.HTTP(base))
}

func exchange(c *http.Client, r *http.Request) (*isharetest.Answer, error) {
	response, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	a := &isharetest.Answer{Status: response.StatusCode, Header: response.Header}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("status %d with %.100q: %w", response.StatusCode, body, err)
	}
	return a, nil
}

// told is an outcome in a word or two: 200, the rule, or that there was no answer.
func told(a *isharetest.Answer, err error) string {
	switch {
	case err != nil:
		text := err.Error()
		return "no answer: " + text[strings.LastIndex(text, ": ")+1:]
	case a.Status == http.StatusOK && a.AccessToken != "":
		return served
	case a.RuleID() != "":
		return a.RuleID()
	}
	return fmt.Sprintf("%d %s", a.Status, a.Error)
}
