package listen

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// However a deadline is moved, a read and a write end when the last one says, and not before.
func TestDeadlinesMove(t *testing.T) {
	const never = 0
	for name, c := range map[string]struct {
		moves []time.Duration // from the beginning; never: none
		ends  time.Duration
	}{
		"set":                        {[]time.Duration{3 * time.Second}, 3 * time.Second},
		"further off":                {[]time.Duration{time.Second, 3 * time.Second}, 3 * time.Second},
		"further off again":          {[]time.Duration{time.Second, 3 * time.Second, time.Minute, time.Hour}, time.Hour},
		"nearer":                     {[]time.Duration{time.Hour, time.Second}, time.Second},
		"further off and nearer":     {[]time.Duration{time.Second, time.Hour, 3 * time.Second}, 3 * time.Second},
		"lifted":                     {[]time.Duration{time.Second, never}, never},
		"lifted and set":             {[]time.Duration{time.Second, never, time.Minute}, time.Minute},
		"over":                       {[]time.Duration{-time.Second}, 0},
		"over and set":               {[]time.Duration{-time.Second, time.Minute}, time.Minute},
		"in the past":                {[]time.Duration{time.Minute, distant}, 0},
		"in the past and lifted":     {[]time.Duration{distant, never}, never},
		"in the past and near":       {[]time.Duration{distant, time.Second}, time.Second},
		"in the past and far":        {[]time.Duration{distant, never, time.Hour}, time.Hour},
		"in the past, lifted, again": {[]time.Duration{distant, never, distant}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				limited := &conn{Conn: ours, listener: New(nil, Config{})}
				began := time.Now()
				for _, m := range c.moves {
					deadline, ok := map[time.Duration]time.Time{never: {}, distant: time.Unix(1, 0)}[m]
					if !ok {
						deadline = began.Add(m)
					}
					if err := limited.SetDeadline(deadline); err != nil {
						t.Fatal(err)
					}
				}
				lifted := c.moves[len(c.moves)-1] == never
				if lifted {
					c.ends = 24 * time.Hour
					go func() {
						time.Sleep(c.ends)
						theirs.Close()
					}()
				}
				for what, do := range map[string]func([]byte) (int, error){"read": limited.Read, "write": limited.Write} {
					go func() {
						_, err := do(make([]byte, 1))
						if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) == lifted || took != c.ends {
							t.Errorf("the %s ends after %s with %v", what, took, err)
						}
					}()
				}
				synctest.Wait()
				time.Sleep(25 * time.Hour)
				ours.Close()
				theirs.Close()
			})
		})
	}
}

// distant stands for the deadline with which [net/http] ends a read of its own.
const distant = -1 << 62

// A deadline that comes while a read or a write is under way ends it.
func TestDeadlineEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		defer ours.Close()
		c := &conn{Conn: ours, listener: New(nil, Config{})}
		failed := make(chan error, 2)
		go func() { _, err := c.Read(make([]byte, 1)); failed <- err }()
		go func() { _, err := c.Write(make([]byte, 1)); failed <- err }()
		for _, d := range []time.Time{time.Now().Add(90 * time.Second), time.Now().Add(time.Hour), time.Unix(1, 0)} {
			select {
			case err := <-failed:
				t.Fatalf("ended too early: %v", err)
			default:
			}
			if err := c.SetDeadline(d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		for range 2 {
			if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
	})
}

// What was written before a deadline that was only an earlier one is not written again.
func TestWriteGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := &conn{Conn: ours, listener: New(nil, Config{})}
		for _, after := range []time.Duration{time.Second, time.Hour} {
			if err := c.SetWriteDeadline(time.Now().Add(after)); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			defer ours.Close()
			if n, err := c.Write([]byte("0123456789")); n != 10 || err != nil {
				t.Errorf("%d bytes written: %v", n, err)
			}
		}()
		first := make([]byte, 4)
		if _, err := io.ReadFull(theirs, first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		rest, err := io.ReadAll(theirs)
		if got := string(first) + string(rest); got != "0123456789" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// A counter counts the deadlines that are set.
type counter struct {
	net.Conn

	sets int
}

func (c *counter) SetReadDeadline(time.Time) error  { c.sets++; return nil }
func (c *counter) SetWriteDeadline(time.Time) error { c.sets++; return nil }

// Of the seven deadlines that a server sets for each request on a connection, two are set.
func TestDeadlinesAreSetSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &counter{}
		c := &conn{Conn: inner}
		const requests = 1000
		for range requests {
			now := time.Now()
			for _, d := range []time.Time{now.Add(2 * time.Minute), {}, now.Add(5 * time.Second), now.Add(15 * time.Second), time.Unix(1, 0), {}} {
				if err := c.SetReadDeadline(d); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.SetWriteDeadline(now.Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if inner.sets > 2*requests+10 {
			t.Errorf("%d deadlines for %d requests", inner.sets, requests)
		}
	})
}
