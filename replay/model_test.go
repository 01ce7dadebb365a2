package replay_test

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
)

// An assertion as the model knows it: it lives 30 seconds, and the verifier adds its
// leeway.
type assertionOf struct {
	issuer ishare.PartyID
	jti    string
	iat    time.Time
}

func (a assertionOf) pair(leeway time.Duration) replay.Pair {
	return replay.Pair{Issuer: a.issuer, JTI: a.jti, IssuedAt: a.iat, Until: a.iat.Add(30*time.Second + leeway)}
}

// model is the trivially correct store: it remembers everything that was let in, by
// whichever life.
type model struct {
	store *replay.Memory
	dir   string

	leeway time.Duration
	everIn map[assertionOf]bool // over all lives
	in     []replay.Pair        // since memory was lost
	latest time.Time            // the latest time of issue that was judged
	// What the store may not know: what was issued before unsure. From sure on it
	// must know. Between them lie the larger leeway of the life before, what was used
	// under one still larger, and the whole second to which the mark of life is
	// rounded.
	unsure, sure time.Time
}

// use presents an assertion, as a verifier would that has found it right.
func (m *model) use(t *rapid.T, a assertionOf) {
	now, p := time.Now(), a.pair(m.leeway)
	if a.iat.After(now.Add(m.leeway)) || p.Until.Before(now) {
		return
	}
	first, err := m.store.Use(t.Context(), p)
	var unsure *replay.UndecidedError
	switch {
	case errors.As(err, &unsure):
		if first || !a.iat.Before(m.sure) {
			t.Fatalf("%v is unsure (%v), and everything from %v must be known", a, err, m.sure)
		}
		return
	case err != nil:
		t.Fatalf("%v: %v", a, err)
	case a.iat.Before(m.unsure):
		t.Fatalf("%v was judged (%v), and nothing before %v can be known", a, first, m.unsure)
	case first == m.knows(p, now):
		t.Fatalf("%v: answer %v", a, first)
	}
	m.latest = later(m.latest, a.iat)
	if first && m.everIn[a] {
		t.Fatalf("%v was let in twice", a)
	}
	if first {
		m.everIn[a] = true
		m.in = append(m.in, p)
	}
}

// knows reports whether a pair was let in that lives, or ended in this second.
func (m *model) knows(p replay.Pair, now time.Time) bool {
	for _, q := range m.in {
		if q.Issuer == p.Issuer && q.JTI == p.JTI && now.Unix() <= q.Until.Unix() {
			return true
		}
	}
	return false
}

// lose is what a crash does to the memory.
func (m *model) lose(before, after time.Duration) {
	now := time.Now()
	m.in = nil
	m.unsure = later(m.unsure, now.Add(after))
	m.sure = later(m.sure, now.Add(max(before, after)+2*time.Second).Truncate(time.Second))
	m.sure = later(m.sure, m.latest.Add(time.Second))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *model) open(t *rapid.T, newborn bool) {
	store, err := replay.Open(replay.Config{Dir: m.dir, Leeway: m.leeway, NoHistory: newborn})
	if err != nil {
		t.Fatal(err)
	}
	m.store = store
}

// restart begins a new life after some time, under some leeway.
func (m *model) restart(t *rapid.T, crash bool) {
	wait(t, "down")
	before := m.leeway
	m.leeway = rapid.SampledFrom([]time.Duration{before, before, leeway, 0, time.Minute}).Draw(t, "leeway")
	m.open(t, rapid.Bool().Draw(t, "newborn"))
	if crash || m.leeway > before {
		m.lose(before, m.leeway)
	}
}

func wait(t *rapid.T, label string) {
	time.Sleep(time.Duration(rapid.IntRange(0, 15_000).Draw(t, label)) * time.Millisecond)
}

// draw makes up an assertion around the present: few names, so that they come again.
func draw(t *rapid.T) assertionOf {
	now := time.Now().Truncate(time.Second)
	return assertionOf{
		issuer: rapid.SampledFrom([]ishare.PartyID{"did:ishare:A", "did:ishare:B"}).Draw(t, "issuer"),
		jti:    rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "jti"),
		iat:    now.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "iat")) * time.Second),
	}
}

// play lets the store and the model live through some lives side by side.
func play(t *rapid.T, dir string) {
	m := &model{dir: dir, leeway: leeway, everIn: map[assertionOf]bool{}}
	newborn := rapid.Bool().Draw(t, "born")
	if !newborn {
		m.lose(leeway, leeway)
	}
	m.open(t, newborn)
	var seen []assertionOf
	t.Repeat(map[string]func(*rapid.T){
		"use": func(t *rapid.T) {
			for range rapid.IntRange(1, 4).Draw(t, "how many") {
				a := draw(t)
				seen = append(seen, a)
				m.use(t, a)
			}
		},
		"again": func(t *rapid.T) {
			if len(seen) == 0 {
				t.Skip("nothing yet")
			}
			m.use(t, rapid.SampledFrom(seen).Draw(t, "which"))
		},
		"everything again": func(t *rapid.T) {
			for _, a := range seen {
				m.use(t, a)
			}
		},
		"wait": func(t *rapid.T) { wait(t, "wait") },
		"restart": func(t *rapid.T) {
			end, crash := m.store.Close, rapid.Bool().Draw(t, "crash")
			if crash {
				end = m.store.Crash
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			m.restart(t, crash)
		},
	})
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// inBubble hides the methods of testing.T that rapid would call and that a bubble
// does not allow.
type inBubble struct{ rapid.TB }

func TestModel(t *testing.T) {
	t.Parallel()
	base, n := t.TempDir(), 0
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(inBubble{t}, func(t *rapid.T) {
			n++
			play(t, filepath.Join(base, strconv.Itoa(n)))
		})
	})
}
