package hostile

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// workScenarios have the server work.
func workScenarios() []scenario {
	return []scenario{
		{
			name: "junk", attack: "100,000 requests that are none, on 100 connections",
			run: func(ctx context.Context, a *attacker) {
				var sent atomic.Int64
				text := []byte(strings.Repeat(head+"Content-Length: 4\r\n\r\njunk", 10))
				a.crowd(ctx, 100, func(ctx context.Context, c net.Conn) {
					go io.Copy(io.Discard, c)
					for sent.Load() < int64(a.some(100_000)) {
						if _, err := c.Write(text); err != nil {
							return
						}
						sent.Add(10)
					}
					a.mu.Lock()
					a.did["requests"] = int(sent.Load())
					a.mu.Unlock()
					<-ctx.Done()
				})
			},
			hold: func(f *field) error {
				if f.log > 1<<20 {
					return fmt.Errorf("%d requests wrote %d KiB into the log", f.did["requests"], f.log>>10)
				}
				return nil
			},
		},
		{
			name: "overload", attack: "requests with a seal that is known come at three times the rate that can be served, on as many connections as that takes",
			saturates: true,
			spared:    []string{"unavailable.overload"},
			run:       overload,
		},
		{
			name: "expensive chains", attack: "50 connections send forged assertions with chains of ten and keys of 8,192 bits, each another",
			run: expensive,
		},
		{
			name: "invented clients", attack: "15,000 assertions with one seal, each of a client that nobody knows",
			run:    invented,
			during: newClient,
			hold:   boundedLookups,
		},
		{
			name: "hang-ups", attack: "20,000 callers, each with a seal of its own, ask for clients that nobody knows, and hang up; the registry hangs",
			run: hangUp, outage: hanging, hold: boundedLookups,
		},
		{
			name: "forward-auth", attack: "200 connections ask forward-auth without pause",
			run: func(ctx context.Context, a *attacker) {
				answer, err := send(baseOf(a.part), a.World.Consumer.party().Request(a.World.Audience))
				if told(answer, err) != served {
					a.breach("no token: %s", told(answer, err))
					return
				}
				request := []byte("GET /auth HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + answer.AccessToken + "\r\n\r\n")
				var all sync.WaitGroup
				for range 200 {
					all.Go(func() { a.askForward(ctx, request) })
				}
				all.Wait()
			},
		},
	}
}

// boundedLookups holds the number of lookups at the registry.
func boundedLookups(f *field) error {
	if most := f.front.most.Load(); most > 64 {
		return fmt.Errorf("the registry was asked %d things at once, %d in all", most, f.front.asked.Load())
	}
	return nil
}

// newClient looks whether a client that was not here before is served soon.
func newClient(f *field) error {
	began := time.Now()
	a, err := send(f.base, f.newcomer.Request(f.audience))
	took, most := time.Since(began), time.Second
	if f.short {
		most *= 2 // beside whatever else the machine does
	}
	if outcome := told(a, err); outcome != served || took > most {
		return fmt.Errorf("a new client is answered with %s, after %s", outcome, took.Round(time.Millisecond))
	}
	return nil
}

// askForward asks forward-auth on one connection until the attack ends.
func (a *attacker) askForward(ctx context.Context, request []byte) {
	c, err := dial(a.Inner)
	if err != nil {
		a.count("not connected")
		return
	}
	defer c.Close()
	buffer := make([]byte, 4096)
	for n := 0; ctx.Err() == nil; n++ {
		if _, err := c.Write(request); err != nil {
			a.count("cut off")
			return
		}
		size, err := c.Read(buffer)
		if err != nil {
			a.count("cut off")
			return
		}
		if text := buffer[:size]; !bytes.HasPrefix(text, []byte("HTTP/1.1 200 ")) && !bytes.HasPrefix(text, []byte("HTTP/1.1 503 ")) {
			a.breach("a good token is answered with %.60q", text)
		}
		a.count("requests")
	}
}

// raw is a request as it goes over the wire.
func raw(r *isharetest.Request) []byte {
	var b bytes.Buffer
	must(0, r.HTTP("http://provider.example").Write(&b))
	return b.Bytes()
}

// overload measures what can be served, and then sends three times as much: each request when it is due, on a
// connection on which none is under way, or on a new one. Assertions are used again, which costs the server as much.
func overload(ctx context.Context, a *attacker) {
	party := a.World.Consumer.party()
	var request atomic.Pointer[[]byte]
	renew := func() {
		r := raw(party.Request(a.World.Audience))
		request.Store(&r)
	}
	renew()
	capacity := a.capacity(ctx, &request)
	a.mu.Lock()
	a.did["a second can be served"] = capacity
	a.mu.Unlock()
	idle := make(chan net.Conn, 4000)
	var open atomic.Int64
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, sent := time.Now(), 0
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n%20_000 == 19_999 {
			go renew()
		}
		for due := int(time.Since(began).Seconds() * float64(3*capacity)); sent < due; sent++ {
			a.fire(idle, &open, *request.Load())
		}
	}
}

// fire sends a request without waiting for the answer.
func (a *attacker) fire(idle chan net.Conn, open *atomic.Int64, request []byte) {
	var c net.Conn
	select {
	case c = <-idle:
	default:
		if open.Load() >= int64(cap(idle)) {
			a.count("not sent")
			return
		}
	}
	open.Add(1)
	go func() {
		defer open.Add(-1)
		if c == nil {
			var err error
			if c, err = dial(a.Public); err != nil {
				a.count("not connected")
				return
			}
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		status, err := ask(c, request)
		if err != nil {
			a.count("no answer")
			c.Close()
			return
		}
		a.count(status)
		select {
		case idle <- c:
		default:
			c.Close()
		}
	}()
}

// ask sends a request and reads an answer, which is short.
func ask(c net.Conn, request []byte) (status string, err error) {
	if _, err := c.Write(request); err != nil {
		return "", err
	}
	buffer := make([]byte, 4096)
	n := 0
	for !bytes.Contains(buffer[:n], []byte("\r\n\r\n")) || !bytes.HasSuffix(bytes.TrimSpace(buffer[:n]), []byte("}")) {
		more, err := c.Read(buffer[n:])
		if err != nil {
			return "", err
		}
		n += more
	}
	if bytes.Contains(buffer[:n], []byte("\r\nConnection: close\r\n")) {
		c.Close()
	}
	return string(buffer[9:12]), nil
}

// capacity is how many requests a second are answered to eight clients that each wait for an answer.
func (a *attacker) capacity(ctx context.Context, request *atomic.Pointer[[]byte]) int {
	const window = 2 * time.Second
	ctx, stop := context.WithTimeout(ctx, window)
	defer stop()
	var answered atomic.Int64
	a.crowd(ctx, 8, func(ctx context.Context, c net.Conn) {
		for ctx.Err() == nil {
			if _, err := ask(c, *request.Load()); err != nil {
				return
			}
			answered.Add(1)
		}
	})
	return int(answered.Load() / int64(window/time.Second))
}

// expensive sends chains that cost what they can: ten certificates, whose keys are as large as may be. Each
// has another leaf, so that none is known from before.
func expensive(ctx context.Context, a *attacker) {
	identity := chainOfTen()
	party := a.World.Consumer.party()
	var n atomic.Uint32
	a.crowd(ctx, a.some(50)+5, func(ctx context.Context, c net.Conn) {
		for ctx.Err() == nil {
			r := party.Request(a.World.Audience)
			chain := isharetest.X5C(identity.Chain...)
			leaf := bytes.Clone(identity.Chain[0].Raw)
			i := n.Add(1)
			leaf[len(leaf)-1], leaf[len(leaf)-2], leaf[len(leaf)-3] = byte(i), byte(i>>8), byte(i>>16)
			chain[0] = base64.StdEncoding.EncodeToString(leaf)
			if i%2 == 0 { // the real ones above it
				chain = append(chain[:1], isharetest.X5C(party.Certificates[1:]...)...)
			}
			r.Assertion.Header.Set("x5c", chain)
			r.Assertion.Sign = func(string) []byte { return make([]byte, 1024) }
			c.SetDeadline(time.Now().Add(20 * time.Second))
			status, err := ask(c, raw(r))
			if err != nil {
				a.count("no answer")
				return
			}
			if status == "200" || status == "500" {
				a.breach("a forged chain is answered with %s", status)
			}
			a.count("requests")
		}
	})
}

// chainOfTen is below a root that nobody trusts.
func chainOfTen() *testca.Identity {
	ca := must(testca.New(testca.Config{}))
	large := func() *testca.OddKey { return must(testca.NewOddKey(8192, 65537)) }
	id := must(testca.SelfSign(ca.Template(testca.Root), large()))
	for range 8 {
		id = must(id.Issue(ca.Template(testca.Sub), large()))
	}
	return must(ca.Seal(testca.SealRequest{Organization: "Forged", Identifier: "NTRNL-10000001", Issuer: id, Key: large()}))
}

// invented asks for tokens in the names of clients that do not exist, with one seal that is good.
func invented(ctx context.Context, a *attacker) {
	issue := a.World.issuer()
	id := issue()
	var sent atomic.Int64
	most := int64(a.some(15_000))
	a.crowd(ctx, a.some(1500), func(ctx context.Context, c net.Conn) {
		for ctx.Err() == nil {
			n := sent.Add(1)
			if n > most {
				<-ctx.Done()
				return
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			status, err := ask(c, raw(nobody(a.World, id, n)))
			if err != nil {
				a.count("no answer")
				return
			}
			if status == "200" {
				a.breach("a client that does not exist gets a token")
			}
			a.count("status " + status)
		}
	})
}

// issuer issues seals of the CA that is trusted. Their key is one that signs quickly.
func (w world) issuer() func() *testca.Identity {
	status := must(testca.LoadIdentity(w.Consumer.Key, w.Consumer.Chain)).Certificate()
	ca := must(testca.Load(filepath.Join(w.Dir, "ca"), testca.Config{
		OCSPURL: status.OCSPServer[0], CRLURL: strings.TrimSuffix(status.CRLDistributionPoints[0], "/issuing.crl"),
	}))
	key := must(testca.NewOddKey(2048, 65537))
	return func() *testca.Identity {
		return must(ca.Seal(testca.SealRequest{Organization: "Stranger", Identifier: "NTRNL-20000000", Key: key}))
	}
}

// nobody asks with a good seal in the name of a client that does not exist, another for each number.
func nobody(w world, id *testca.Identity, n int64) *isharetest.Request {
	r := partyOf("did:ishare:EU.NL.NTRNL-20000000", id).Request(w.Audience)
	r.As(ishare.PartyID(fmt.Sprintf("did:ishare:EU.NL.NTRNL-3%07d", n)))
	r.Assertion.Key = id.Key
	return r
}

// hangUp asks in the name of a client that does not exist, with a seal of its own, and is gone before the answer.
func hangUp(ctx context.Context, a *attacker) {
	issue := a.World.issuer()
	var sent atomic.Int64
	most := int64(a.some(20_000))
	a.crowd(ctx, 64, func(ctx context.Context, c net.Conn) {
		n := sent.Add(1)
		if n > most {
			<-ctx.Done()
			return
		}
		c.Write(raw(nobody(a.World, issue(), n)))
		pause(ctx, 5*time.Millisecond)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did["requests"] = int(min(sent.Load(), most))
}
