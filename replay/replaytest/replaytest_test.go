package replaytest

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
)

// wrong is a store with one mistake, each of which has been made by somebody.
type wrong struct {
	mu      sync.Mutex
	used    map[string]time.Time
	mistake string
	found   sync.WaitGroup // two who have looked, before either of them saves
	finders atomic.Int64
	asked   atomic.Int64 // for the leeway
}

func newWrong(mistake string) *wrong {
	w := &wrong{used: map[string]time.Time{}, mistake: mistake}
	w.found.Add(2)
	return w
}

func (w *wrong) Use(ctx context.Context, p replay.Pair) (bool, error) {
	if err := ctx.Err(); err != nil && w.mistake != "ignores the context" {
		return false, err
	}
	if w.mistake == "burns before it checks" {
		w.save(p)
	}
	if err := p.Check(time.Now()); err != nil && w.mistake != "takes anything" {
		return false, err
	}
	if w.mistake == "takes nothing from ahead" && p.IssuedAt.After(time.Now()) {
		return false, replay.ErrPair
	}
	if w.mistake == "finds, then saves" {
		used := w.find(p)
		if w.finders.Add(1) <= 2 { // the race always happens
			w.found.Done()
			w.found.Wait()
		}
		w.save(p)
		return !used, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.use(p), nil
}

func (w *wrong) Leeway() time.Duration {
	switch w.mistake {
	case "allows less than nothing":
		return -time.Second
	case "allows everything":
		return replay.MaxLeeway + time.Second
	case "changes its mind":
		return time.Duration(w.asked.Add(1)) * time.Second
	}
	return 10 * time.Second
}

func (w *wrong) use(p replay.Pair) bool {
	k := w.key(p)
	until, used := w.used[k]
	switch {
	case used && w.mistake == "forgets at once":
		delete(w.used, k)
	case used && w.mistake == "forgets too early" && time.Until(until) < 200*time.Millisecond:
		delete(w.used, k)
	case used && w.mistake == "keys by the whole life" && !until.Equal(p.Until):
		return true
	case !used:
		w.used[k] = p.Until
	}
	return !used
}

func (w *wrong) find(p replay.Pair) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, used := w.used[w.key(p)]
	return used
}

func (w *wrong) save(p replay.Pair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used[w.key(p)] = p.Until
}

func (w *wrong) key(p replay.Pair) string {
	switch w.mistake {
	case "keys by jti":
		return p.JTI
	case "concatenates":
		return string(p.Issuer) + p.JTI
	case "joins with a colon":
		return string(p.Issuer) + ":" + p.JTI
	case "folds case":
		return string(p.Issuer) + "\x00" + strings.ToLower(p.JTI)
	case "trims":
		return string(p.Issuer) + "\x00" + strings.TrimSpace(p.JTI)
	case "cuts":
		return string(p.Issuer) + "\x00" + p.JTI[:min(len(p.JTI), 254)]
	}
	k := p.Key()
	return string(k[:])
}

// run puts the store with the mistake through one case, on a clock of its own: what a case
// finds depends on no pause of the machine.
func run(t *testing.T, mistake string, c testCase) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		err = c.check(&subject{
			Store:      newWrong(mistake),
			ctx:        t.Context(),
			issuer:     "urn:" + ishare.PartyID(rand.Text()),
			goroutines: 200,
		})
	})
	return err
}

func TestSuiteAcceptsRightStore(t *testing.T) {
	t.Parallel()
	for _, c := range cases() {
		if err := run(t, "", c); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSuiteFindsMistakes(t *testing.T) {
	t.Parallel()
	byName := map[string]testCase{}
	for _, c := range cases() {
		byName[c.name] = c
	}
	for mistake, name := range map[string]string{
		"keys by jti":            "another issuer",
		"concatenates":           "ambiguous pairs",
		"joins with a colon":     "ambiguous pairs",
		"folds case":             "similar jti",
		"trims":                  "similar jti",
		"cuts":                   "similar jti",
		"forgets at once":        "once",
		"forgets too early":      "the last moment",
		"keys by the whole life": "the first use sets the life",
		"finds, then saves":      "one of many copies",
		"takes anything":         "what cannot be used",
		"burns before it checks": "no pair is burnt by what cannot be used",
		"ignores the context":    "cancelled",

		"allows less than nothing": "the leeway",
		"allows everything":        "the leeway",
		"changes its mind":         "the leeway",
		"takes nothing from ahead": "the leeway",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			c, ok := byName[name]
			if !ok {
				t.Fatalf("no case is named %q", name)
			}
			if run(t, mistake, c) == nil {
				t.Errorf("%q did not find it", name)
			}
		})
	}
}

// Stores that know nothing of each other are found.
func TestStoresThatShareNothing(t *testing.T) {
	open := func() replay.Store {
		m, err := replay.Open(replay.Config{NoHistory: true})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	one := open()
	if err := shared(t.Context(), 10, []replay.Store{one, open()}); err == nil {
		t.Error("they pass")
	}
	if err := shared(t.Context(), 10, []replay.Store{one, one}); err != nil {
		t.Error(err)
	}
}
