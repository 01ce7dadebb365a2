package hostile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// A scenario is an attack and what must hold while it lasts, besides what must hold in each: a good client gets its
// tokens about as fast as before, the internal listener answers, memory stays bounded, and afterwards nothing is left.
type scenario struct {
	name   string
	attack string // in a sentence
	config serverConfig
	run    func(ctx context.Context, a *attacker)
	// spared are outcomes that a good client may meet, because the server may refuse work while there is too much of it.
	spared []string
	// saturates says that the processor of the server has no time left, so that a good client stands in line with all others.
	saturates bool
	outage    string // of the registry while the attack lasts; empty: none
	// during and hold check what must hold besides: in the midst of the attack, and behind it. Both are optional.
	during, hold func(f *field) error
}

// A field is what a scenario knows when the attack is over.
type field struct {
	short bool
	did   map[string]int // by the attacker
	log   int64          // bytes that the attack had written to the log
	front *front

	base     string // URL of the server
	audience ishare.PartyID
	newcomer *isharetest.Party // whom the server has not seen
}

// scenarios lists all attacks.
func scenarios() []scenario {
	return slices.Concat(connectionScenarios(), httpScenarios(), workScenarios(), tlsScenarios())
}

// An attacker runs a scenario in a process of its own.
type attacker struct {
	part

	mu       sync.Mutex
	did      map[string]int
	breaches []string
}

// A report is what an attacker did, and what it should not have been able to do.
type report struct {
	Did      map[string]int
	Breaches []string
}

func attackAs(ctx context.Context, name string, p part) *report {
	a := &attacker{part: p, did: map[string]int{}}
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	all[i].run(ctx, a)
	a.mu.Lock()
	defer a.mu.Unlock()
	return &report{a.did, a.breaches}
}

func (a *attacker) count(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did[what]++
}

// breach notes what must not have happened.
func (a *attacker) breach(format string, v ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if text := fmt.Sprintf(format, v...); len(a.breaches) < 20 && !slices.Contains(a.breaches, text) {
		a.breaches = append(a.breaches, text)
	}
}

// some is a number in the full form, and a tenth of it in the short one.
func (a *attacker) some(n int) int {
	if a.Short {
		return n / 10
	}
	return n
}

// crowd has so many do the same at a time, each again and again until the attack ends. Each gets a connection, which is
// closed behind it.
func (a *attacker) crowd(ctx context.Context, size int, do func(ctx context.Context, c net.Conn)) {
	var all sync.WaitGroup
	for range size {
		all.Go(func() {
			for ctx.Err() == nil {
				c, err := dial(a.Public)
				if err != nil {
					a.count("not connected")
					pause(ctx, 100*time.Millisecond)
					continue
				}
				a.count("connections")
				stop := context.AfterFunc(ctx, func() { c.Close() })
				do(ctx, c)
				stop()
				c.Close()
			}
		})
	}
	all.Wait()
}

// closed waits until the server has closed the connection, and says whether it did before the attack ended.
func (a *attacker) closed(ctx context.Context, c net.Conn) bool {
	io.Copy(io.Discard, c)
	if ctx.Err() != nil {
		return false
	}
	a.count("closed by the server")
	return true
}

// drip writes a byte at a time until the server has enough of it.
func (a *attacker) drip(ctx context.Context, c net.Conn, text string, each time.Duration) {
	go io.Copy(io.Discard, c)
	for i := range text {
		if _, err := c.Write([]byte{text[i]}); err != nil {
			a.count("cut off")
			return
		}
		if !pause(ctx, each) {
			return
		}
	}
}

// answers reads the answers on a connection until it is closed or silent, and gives their status codes.
func answers(c net.Conn, silent time.Duration) []int {
	var codes []int
	r := bufio.NewReader(c)
	for {
		c.SetReadDeadline(time.Now().Add(silent))
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrDeadlineExceeded) && len(codes) == 0 {
				return nil
			}
			return codes
		}
		codes = append(codes, a.StatusCode)
		_, err = io.Copy(io.Discard, a.Body)
		a.Body.Close()
		if err != nil || a.Close {
			return codes
		}
	}
}
