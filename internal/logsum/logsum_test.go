package logsum_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/logtest"
)

// A page is a log whose lines begin with the message.
type page struct {
	logtest.Buffer

	*logsum.Log
}

func newPage() *page {
	p := &page{}
	p.Log = logsum.New(slog.New(slog.NewTextHandler(&p.Buffer, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})))
	return p
}

func (p *page) want(t *testing.T, when string, lines ...string) {
	t.Helper()
	synctest.Wait()
	got := slices.Collect(strings.Lines(p.String()))
	for i, line := range got {
		got[i] = strings.TrimSpace(line)
	}
	if !slices.Equal(got, lines) {
		t.Errorf("%s:\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
	p.Reset()
}

func rule(id string) []slog.Attr { return []slog.Attr{slog.String("rule", id)} }

func attr(i int) func() []slog.Attr {
	return func() []slog.Attr { return []slog.Attr{slog.Int("i", i)} }
}

func (p *page) some(t *testing.T, n int, id string) {
	t.Helper()
	for i := range n {
		p.Some(t.Context(), slog.LevelInfo, "refused", rule(id), attr(i))
	}
}

func (p *page) lasting(t *testing.T, n int, cause string) {
	t.Helper()
	for i := range n {
		p.Lasting(t.Context(), slog.LevelWarn, "outage", []slog.Attr{slog.String("cause", cause)}, attr(i))
		time.Sleep(time.Second)
	}
}

func TestSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage()
		p.some(t, 3, "a")
		p.want(t, "few", "msg=refused rule=a i=0", "msg=refused rule=a i=1", "msg=refused rule=a i=2")
		time.Sleep(2 * time.Second)
		p.some(t, 1000, "a")
		p.want(t, "many", "msg=refused rule=a i=0", "msg=refused rule=a i=1")
		p.some(t, 1, "b")
		p.want(t, "another kind", "msg=refused rule=b i=0")
		time.Sleep(8 * time.Second)
		p.want(t, "after the interval of the first", "msg=refused rule=a more=998 within_ms=2000")
		p.some(t, 1, "a")
		p.want(t, "then", "msg=refused rule=a i=0")
		time.Sleep(time.Minute)
		p.want(t, "when there was nothing more")
	})
}

func TestLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage()
		p.lasting(t, 100, "gone")
		p.want(t, "while it lasts", "msg=outage cause=gone i=0")
		p.lasting(t, 5, "slow")
		p.want(t, "another cause", "msg=outage cause=slow i=0")
		time.Sleep(5 * time.Second)
		p.want(t, "its end", "msg=outage cause=gone more=99 within_ms=99000")
		time.Sleep(5 * time.Second)
		p.want(t, "the end of both", "msg=outage cause=slow more=4 within_ms=4000")
		p.lasting(t, 1, "gone")
		p.want(t, "again", "msg=outage cause=gone i=0")
		time.Sleep(time.Minute)
		p.want(t, "once only")
	})
}

// Every identifier that is given leads to a line.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage()
		given := map[string]int{}
		for range 250 {
			correlation, full := p.Failure(slog.LevelError, "failed", nil)
			given[correlation]++
			if full {
				fmt.Fprintln(&p.Buffer, correlation)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for correlation := range given {
			if !strings.Contains(p.String(), correlation) {
				t.Errorf("%s leads nowhere", correlation)
			}
		}
		if lines := strings.Count(p.String(), "\n"); len(given) != 101 || lines != 101 || !strings.Contains(p.String(), "msg=failed more=150") {
			t.Errorf("%d identifiers in %d lines", len(given), lines)
		}
	})
}

// A cause that is too long ends with a whole character and a mark.
func TestReason(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{strings.Repeat("a", 160), strings.Repeat("a", 160)},
		{strings.Repeat("a", 161), strings.Repeat("a", 160) + "…"},
		{strings.Repeat("a", 159) + "éé", strings.Repeat("a", 159) + "…"},
	} {
		err := fmt.Errorf("request 7: %w", errors.Join(errors.New(c.text), errors.New("another")))
		if got := logsum.Reason(err); len(got) != 1 || got[0].Value.String() != c.want {
			t.Errorf("Reason(%q) = %v, want %q", c.text, got, c.want)
		}
	}
}

// However many kinds a stranger makes, they do not fill memory or the log.
func TestKindsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage()
		for i := range 100_000 {
			p.some(t, 1, fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if lines := strings.Count(p.String(), "\n"); lines != 64+5+1 || !strings.Contains(p.String(), "msg=refused more=99931 within_ms=0") {
			t.Errorf("%d lines", lines)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage()
		p.some(t, 7, "a")
		p.lasting(t, 3, "gone")
		p.Reset()
		p.Close()
		p.Close()
		if got := p.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "rule=a more=2") || !strings.Contains(got, "cause=gone more=2") {
			t.Error(got)
		}
		p.Reset()
		p.some(t, 7, "a")
		if got := strings.Count(p.String(), "\n"); got != 7 {
			t.Errorf("%d lines after the end", got)
		}
		p.Reset()
		time.Sleep(time.Minute)
		p.want(t, "long after the end")
	})
}

// What the standard library says is written at the level for debugging, and summed up.
func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written logtest.Buffer
		for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 6} {
			sums := logsum.New(slog.New(slog.NewTextHandler(&written, &slog.HandlerOptions{Level: level})))
			log := slog.NewLogLogger(sums.Handler("a connection failed"), slog.LevelDebug)
			before := strings.Count(written.String(), "\n")
			for i := range 100 {
				log.Printf("http: TLS handshake error from 192.0.2.1:%d: EOF", i)
			}
			sums.Close()
			if n := strings.Count(written.String(), "\n") - before; n != want {
				t.Errorf("%s: %d lines:\n%s", level, n, written.String())
			}
		}
	})
}

// Errors are the same when their causes are, in whatever words.
func TestSame(t *testing.T) {
	cause := errors.New("gone")
	for _, c := range []struct {
		a, b error
		want bool
	}{
		{nil, nil, true},
		{cause, nil, false},
		{fmt.Errorf("port 1: %w", cause), fmt.Errorf("port 2: %w", cause), true},
		{cause, errors.New("slow"), false},
		{errors.Join(cause, errors.New("nobody is called")), cause, true},
	} {
		if got := logsum.Same(c.a, c.b); got != c.want {
			t.Errorf("Same(%v, %v) = %t", c.a, c.b, got)
		}
	}
}
