//go:build linux

package replicas

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// What can become of a presentation, besides the ids of rules.
const (
	token    = "token"
	noAnswer = "no answer" // the pair may be used up
)

// refusals are all others that a right assertion may get.
var refusals = []string{rule.JTIReplayed.ID, rule.UnavailableState.ID, rule.UnavailableOverload.ID}

// A tally is how often what became of presentations.
type tally map[string]int

func (n tally) add(others tally) {
	for outcome, count := range others {
		n[outcome] += count
	}
}

func (n tally) String() string {
	var parts []string
	for _, outcome := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d × %s", n[outcome], outcome))
	}
	return strings.Join(parts, ", ")
}

// A ticket is an assertion that is presented again and again.
type ticket struct {
	message []byte // the whole request
	expires time.Time
	tokens  int
}

// newTicket makes a right assertion of a client whose clock may run ahead.
func newTicket(ahead time.Duration) *ticket {
	party, _ := client()
	r := party.Request(provider)
	now := time.Now().Add(ahead)
	r.Assertion.Payload.Set("iat", now.Unix())
	r.Assertion.Payload.Set("exp", now.Unix()+30)
	body := r.Body()
	return &ticket{
		message: fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: provider.example\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			r.Path, isharetest.MediaType, len(body), body),
		expires: now.Add(30 * time.Second),
	}
}

// A caller has a connection to a replica, which it keeps while it can.
type caller struct {
	replica *replica
	conn    net.Conn
	answers *bufio.Reader
}

func (c *caller) dial() (err error) {
	if c.conn, err = net.DialTimeout("tcp", *c.replica.public.Load(), 5*time.Second); err == nil {
		c.answers = bufio.NewReader(c.conn)
	}
	return err
}

func (c *caller) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// present makes the request of a ticket once.
func (c *caller) present(k *ticket) (outcome, accessToken string) {
	if c.conn == nil && c.dial() != nil {
		return noAnswer, ""
	}
	c.conn.SetDeadline(time.Now().Add(longEnough))
	c.conn.Write(k.message)
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		c.hangUp()
		return noAnswer, ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.Close {
		c.hangUp()
	}
	said := isharetest.Answer{Status: answer.StatusCode}
	if err := cmp.Or(err, json.Unmarshal(body, &said)); err != nil {
		return noAnswer, ""
	}
	if said.Meets(nil) == nil {
		return token, said.AccessToken
	}
	return cmp.Or(said.RuleID(), fmt.Sprintf("status %d", said.Status)), ""
}

// presentAtOnce presents a ticket so many times to all replicas, on connections that are there before the first one is made use of.
func presentAtOnce(replicas []*replica, k *ticket, n int) tally {
	const callers = 100 // for each replica
	workers := min(n, callers*len(replicas))
	outcomes := make(chan string, n)
	var connected, done sync.WaitGroup
	fire := make(chan struct{})
	for i := range workers {
		connected.Add(1)
		done.Go(func() {
			c := &caller{replica: replicas[i%len(replicas)]}
			defer c.hangUp()
			_ = c.dial() // it may be down
			connected.Done()
			<-fire
			for j := i; j < n; j += workers {
				outcome, _ := c.present(k)
				outcomes <- outcome
			}
		})
	}
	connected.Wait()
	close(fire)
	done.Wait()
	close(outcomes)
	count := tally{}
	for outcome := range outcomes {
		count[outcome]++
	}
	k.tokens += count[token]
	return count
}

// newToken presents new tickets to a replica until one gets a token, as a client does, and returns that.
func (r *replica) newToken() (accessToken string) {
	r.t.Helper()
	c := &caller{replica: r}
	defer c.hangUp()
	await(r.t, "a new assertion gets a token", func() bool {
		var outcome string
		outcome, accessToken = c.present(newTicket(0))
		return outcome == token
	})
	return accessToken
}

// A load presents one ticket after the other, each many times at once, and remembers all.
type load struct {
	t        *testing.T
	replicas []*replica
	at       int
	stop     chan struct{}
	done     sync.WaitGroup

	turn sync.RWMutex // read by those who present new tickets, so that they stop while all others are presented again

	mu      sync.Mutex
	tickets []*ticket
	during  tally
	after   tally
}

// startLoad presents each ticket at so many times at once until end is called. Every other client's clock runs ahead by all
// that is allowed.
func startLoad(t *testing.T, replicas []*replica, at int) *load {
	t.Helper()
	l := &load{t: t, replicas: replicas, at: at, stop: make(chan struct{}), during: tally{}, after: tally{}}
	for _, ahead := range []time.Duration{0, leeway} {
		l.done.Go(func() {
			for pause := time.NewTicker(50 * time.Millisecond); ; <-pause.C {
				select {
				case <-l.stop:
					pause.Stop()
					return
				default:
				}
				l.turn.RLock()
				k := newTicket(ahead)
				count := presentAtOnce(replicas, k, at)
				l.turn.RUnlock()
				l.mu.Lock()
				l.tickets = append(l.tickets, k)
				l.during.add(count)
				l.mu.Unlock()
			}
		})
	}
	return l
}

// more waits until so many more presentations have this outcome.
func (l *load) more(outcome string, n int) {
	l.t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.during[outcome]
	}
	before := count()
	await(l.t, fmt.Sprintf("there are %d more: %s", n, outcome), func() bool { return count() >= before+n })
}

// again presents every ticket that has been presented, and is not over, once more to every replica.
func (l *load) again() {
	l.t.Helper()
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	tickets := slices.Clone(l.tickets)
	l.mu.Unlock()
	tickets = slices.DeleteFunc(tickets, func(k *ticket) bool { return time.Now().After(k.expires) })
	const callers = 4 // for each replica
	var group sync.WaitGroup
	for i := range callers * len(l.replicas) {
		group.Go(func() {
			c := &caller{replica: l.replicas[i%len(l.replicas)]}
			defer c.hangUp()
			for j := i / len(l.replicas); j < len(tickets); j += callers {
				outcome, _ := c.present(tickets[j])
				l.mu.Lock()
				l.after[outcome]++
				if outcome == token {
					tickets[j].tokens++
				}
				l.mu.Unlock()
			}
		})
	}
	group.Wait()
}

// end stops, presents all tickets again, and counts those that got two tokens. Besides a token and the refusals nothing may have
// come, but for what is named here.
func (l *load) end(besides ...string) {
	l.t.Helper()
	close(l.stop)
	l.done.Wait()
	l.again()
	if l.after[rule.JTIReplayed.ID] == 0 {
		l.t.Error("no assertion was judged a second time")
	}
	once, twice := 0, 0
	for _, k := range l.tickets {
		switch {
		case k.tokens == 1:
			once++
		case k.tokens > 1:
			twice++
			l.t.Errorf("an assertion got %d tokens", k.tokens)
		}
	}
	known := slices.Concat(refusals, besides, []string{token, rule.ClaimExp.ID}) // some are over before they are presented again
	for _, outcomes := range []tally{l.during, l.after} {
		for outcome, n := range outcomes {
			if !slices.Contains(known, outcome) {
				l.t.Errorf("%d × %s", n, outcome)
			}
		}
	}
	l.t.Logf("%d assertions: %d got one token, %d more than one; while they were presented: %s; when each was presented again: %s",
		len(l.tickets), once, twice, l.during, l.after)
}
