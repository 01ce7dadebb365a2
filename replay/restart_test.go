package replay_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/replay"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// life is one life of a store in a folder, ended by the caller.
func life(t *testing.T, c replay.Config) *replay.Memory {
	t.Helper()
	m, err := replay.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func stop(t *testing.T, m *replay.Memory) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func crash(t *testing.T, m *replay.Memory) {
	t.Helper()
	if err := m.Crash(); err != nil {
		t.Fatal(err)
	}
}

// wantVouches checks that the store knows everything, or why not.
func wantVouches(t *testing.T, m *replay.Memory, doubt string) {
	t.Helper()
	switch why := m.RecoveryError(); {
	case doubt == "" && (why != nil || !m.AcceptsIssuedFrom().IsZero()):
		t.Fatalf("doubt %v, vouches from %v; want none", why, m.AcceptsIssuedFrom())
	case doubt != "" && (why == nil || !contains(why.Error(), doubt) || m.AcceptsIssuedFrom().IsZero()):
		t.Fatalf("doubt %v, vouches from %v; want %q", why, m.AcceptsIssuedFrom(), doubt)
	}
}

func TestCleanRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
		m := life(t, c)
		short := fresh("short")
		short.Until = time.Now().Add(3 * time.Second)
		wantFirst(t, m, short)
		pairs := make([]replay.Pair, 1000)
		for i := range pairs {
			pairs[i] = fresh(fmt.Sprint(i))
			wantFirst(t, m, pairs[i])
		}
		for range 3 {
			stop(t, m)
			time.Sleep(5 * time.Second)
			m = life(t, c)
			wantVouches(t, m, "")
			for _, p := range pairs {
				wantUsed(t, m, p)
			}
			wantFirst(t, m, fresh(fmt.Sprint("new at ", time.Now())))
		}
		if n := m.Len(); n != 1003 {
			t.Errorf("%d pairs are held, want 1003: what has ended is not handed over", n)
		}
		stop(t, m)
	})
}

// TestHandOverHoldsEveryLife: pairs that are just about to end, and those that last as
// long as any may.
func TestHandOverHoldsEveryLife(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
		for _, part := range []time.Duration{0, 1, 500 * time.Millisecond, 499 * time.Millisecond} {
			time.Sleep(part)
			m := life(t, c)
			var pairs []replay.Pair
			for _, rest := range []time.Duration{0, 1, time.Second, replay.MaxLife - 1, replay.MaxLife} {
				p := fresh(fmt.Sprint(part, rest))
				p.Until = time.Now().Add(rest)
				wantFirst(t, m, p)
				pairs = append(pairs, p)
			}
			stop(t, m)
			m = life(t, c)
			for _, p := range pairs {
				wantUsed(t, m, p)
			}
			time.Sleep(replay.MaxLife)
			wantUsed(t, m, pairs[4])
			stop(t, m)
		}
	})
}

// TestHandOverIsUsedOnce: the file is gone before the first answer, so that a crash
// later on cannot bring back what was true earlier.
func TestHandOverIsUsedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
		stop(t, life(t, c))
		if _, err := os.Stat(filepath.Join(dir, replay.HandOverFile)); err != nil {
			t.Fatal(err)
		}
		m := life(t, c)
		if _, err := os.Stat(filepath.Join(dir, replay.HandOverFile)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the hand-over is still there: %v", err)
		}
		p := fresh("a")
		wantFirst(t, m, p)
		crash(t, m)
		m = life(t, c)
		wantVouches(t, m, "no hand-over")
		wantUnsure(t, m, p, leeway)
		stop(t, m)
	})
}

func TestFilesAreOursAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data", "replay")
	m := life(t, replay.Config{Dir: dir})
	stop(t, m)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "replay.hand-over replay.life replay.lock"; got != want {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	for name, newborn := range map[string]bool{"newborn": true, "not newborn": false} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: newborn}
			stop(t, life(t, replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}))
			m := life(t, c)
			wantVouches(t, m, "")
			past, ahead := fresh("past"), issued("ahead", time.Now().Add(leeway))
			wantFirst(t, m, past)
			wantFirst(t, m, ahead)
			time.Sleep(2 * time.Second)
			crash(t, m)
			m = life(t, c)
			wantVouches(t, m, "no hand-over")
			wantUnsure(t, m, past, leeway)
			wantUnsure(t, m, ahead, leeway)
			wantUnsure(t, m, fresh("new"), leeway)
			wantUnsure(t, m, issued("new", time.Now().Add(leeway-1)), leeway)
			wantFirst(t, m, issued("ahead of the new", time.Now().Add(leeway)))
			time.Sleep(leeway - time.Millisecond)
			wantUnsure(t, m, fresh("new"), time.Second)
			time.Sleep(time.Millisecond)
			wantFirst(t, m, fresh("new"))
			wantUnsure(t, m, past, time.Second)
			stop(t, m)
		})
	}
}

// TestRetryAfterFitsWholeSeconds: times of issue are whole seconds, so a client that
// waits as long as it is told must not come back in the second that is still unsure.
func TestRetryAfterFitsWholeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(700 * time.Millisecond)
		m := open(t, replay.Config{Leeway: leeway})
		for _, already := range []time.Duration{0, 1, 300 * time.Millisecond, 999 * time.Millisecond, 5 * time.Second} {
			time.Sleep(already)
			var unsure *replay.UndecidedError
			if _, err := m.Use(t.Context(), issued("a", time.Now().Truncate(time.Second))); !errors.As(err, &unsure) {
				t.Fatalf("error %v", err)
			}
			back := time.Now().Add(unsure.RetryAfter).Truncate(time.Second)
			if from := m.AcceptsIssuedFrom(); back.Before(from) || back.After(from.Add(2*time.Second)) {
				t.Errorf("comes back with %v, vouched from %v", back, from)
			}
		}
	})
}

// TestDoubtIsInherited: a store that was closed soon after a crash hands over its
// doubt too, and one that crashes soon after a crash loses nothing of it.
func TestDoubtIsInherited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		wide := replay.Config{Dir: dir, Leeway: time.Minute, NoHistory: true}
		narrow := replay.Config{Dir: dir, Leeway: time.Second}
		m := life(t, wide)
		p := issued("a", time.Now().Add(time.Minute))
		wantFirst(t, m, p)
		crash(t, m)
		for i := range 20 {
			time.Sleep(2 * time.Second)
			m = life(t, narrow)
			if from := m.AcceptsIssuedFrom(); !from.After(p.IssuedAt) {
				t.Fatalf("life %d vouches from %v, and %v was used", i, from, p.IssuedAt)
			}
			if i%2 == 0 {
				stop(t, m)
			} else {
				crash(t, m)
			}
		}
		time.Sleep(20 * time.Second)
		m = life(t, narrow)
		wantUnsure(t, m, p, 2*time.Second)
		stop(t, m)
	})
}

func TestLeewayChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before, after time.Duration
		doubt         string
	}{
		{10 * time.Second, 10 * time.Second, ""},
		{10 * time.Second, 5 * time.Second, ""},
		{10 * time.Second, 0, ""},
		{10 * time.Second, 11 * time.Second, "leeway was raised"},
		{0, time.Minute, "leeway was raised"},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			m := life(t, replay.Config{Dir: dir, Leeway: c.before, NoHistory: true})
			used := fresh("used")
			used.Until = used.IssuedAt.Add(30*time.Second + c.before)
			wantFirst(t, m, used)
			stop(t, m)
			time.Sleep(time.Second)
			m = life(t, replay.Config{Dir: dir, Leeway: c.after})
			wantVouches(t, m, c.doubt)
			used.Until = used.IssuedAt.Add(30*time.Second + c.after)
			if c.doubt == "" {
				wantUsed(t, m, used)
				wantFirst(t, m, fresh("new"))
			} else {
				wantUnsure(t, m, used, c.after)
				wantUnsure(t, m, fresh("new"), c.after)
			}
			stop(t, m)
		})
	}
}

// TestCrashUnderLargerLeeway: the clients of the last life ran ahead by its leeway,
// not by the new one.
func TestCrashUnderLargerLeeway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := life(t, replay.Config{Dir: dir, Leeway: time.Minute, NoHistory: true})
		p := issued("a", time.Now().Add(time.Minute))
		wantFirst(t, m, p)
		crash(t, m)
		m = life(t, replay.Config{Dir: dir})
		time.Sleep(time.Minute)
		wantUnsure(t, m, p, time.Second)
		wantUnsure(t, m, fresh("new"), time.Second)
		time.Sleep(time.Second)
		wantFirst(t, m, fresh("new"))
		stop(t, m)
	})
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		doubt  string
		wait   time.Duration
	}{
		"cut short":      {cutShort, "cut short or damaged", leeway},
		"empty":          {write(replay.HandOverFile, ""), "does not begin with", leeway},
		"other version":  {write(replay.HandOverFile, "waybill replay hand-over 3\n"), "another version", leeway},
		"flipped bit":    {flipBit, "cut short or damaged", leeway},
		"a folder":       {madeFolder, "cannot be used", leeway},
		"no life":        {remove(replay.WatermarkFile), "not that of the last life", leeway},
		"broken life":    {write(replay.WatermarkFile, "waybill replay life 2\n"), "not that of the last life", time.Minute},
		"nothing at all": {removeBoth, "no hand-over", leeway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				config := replay.Config{Dir: dir, Leeway: leeway}
				m := life(t, config)
				time.Sleep(leeway)
				p := fresh("a")
				wantFirst(t, m, p)
				stop(t, m)
				c.damage(t, dir)
				for range 2 { // what is damaged does not stay
					m = life(t, config)
					wantVouches(t, m, c.doubt)
					wantUnsure(t, m, p, c.wait)
					crash(t, m)
					c.doubt = "no hand-over"
				}
			})
		})
	}
}

func cutShort(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, replay.HandOverFile)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-40); err != nil {
		t.Fatal(err)
	}
}

func flipBit(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, replay.HandOverFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	write(replay.HandOverFile, string(data))(t, dir)
}

func write(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func removeBoth(t *testing.T, dir string) {
	t.Helper()
	remove(replay.WatermarkFile)(t, dir)
	remove(replay.HandOverFile)(t, dir)
}

func madeFolder(t *testing.T, dir string) {
	t.Helper()
	remove(replay.HandOverFile)(t, dir)
	if err := os.Mkdir(filepath.Join(dir, replay.HandOverFile), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestStrayHandOver: a hand-over that was true once and is put back after a later life
// does not vouch.
func TestStrayHandOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
		stop(t, life(t, c))
		old, err := os.ReadFile(filepath.Join(dir, replay.HandOverFile))
		if err != nil {
			t.Fatal(err)
		}
		m := life(t, c)
		p := fresh("a")
		wantFirst(t, m, p)
		crash(t, m)
		write(replay.HandOverFile, string(old))(t, dir)
		m = life(t, c)
		wantVouches(t, m, "not that of the last life")
		wantUnsure(t, m, p, leeway)
		stop(t, m)
	})
}

// TestHandOverWithoutLife: a hand-over that cannot be vouched for still says up to
// when pairs may have been issued, and how far clocks ran ahead.
func TestHandOverWithoutLife(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := life(t, replay.Config{Dir: dir, Leeway: 30 * time.Second, NoHistory: true})
		stop(t, m)
		remove(replay.WatermarkFile)(t, dir)
		m = life(t, replay.Config{Dir: dir})
		wantUnsure(t, m, fresh("a"), 30*time.Second)
		stop(t, m)

		m = life(t, replay.Config{Dir: dir, Leeway: time.Minute})
		wantFirst(t, m, issued("b", time.Now().Add(time.Minute)))
		stop(t, m)
		remove(replay.WatermarkFile)(t, dir)
		m = life(t, replay.Config{Dir: dir})
		wantUnsure(t, m, fresh("b"), time.Minute+time.Second)
		stop(t, m)
	})
}

// TestLeftOvers: what a crash in the middle of a write leaves is no obstacle.
func TestLeftOvers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
	for _, name := range []string{replay.WatermarkFile, replay.HandOverFile} {
		write(name+".new", "half a")(t, dir)
	}
	m := life(t, c)
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 || err != nil {
		t.Errorf("left over: %q, %v", left, err)
	}
	wantVouches(t, m, "")
	p := fresh("a")
	wantFirst(t, m, p)
	stop(t, m)
	m = life(t, c)
	wantUsed(t, m, p)
	stop(t, m)
}

// TestClockBehindHandOver: the clock is set back between two clean lives.
func TestClockBehindHandOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var p replay.Pair
	c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		m := life(t, c)
		p = fresh("a")
		wantFirst(t, m, p)
		time.Sleep(time.Minute) // long enough for it to be forgotten
		stop(t, m)
	})
	// A new bubble begins when the first one did, an hour earlier.
	synctest.Test(t, func(t *testing.T) {
		m := life(t, c)
		if why := m.RecoveryError(); why == nil || !contains(why.Error(), "clock is behind") || !contains(why.Error(), "1h1m") {
			t.Errorf("doubt %v", why)
		}
		wantUnsure(t, m, fresh("b"), time.Hour+20*time.Second)
		time.Sleep(time.Hour)
		wantUnsure(t, m, p, 20*time.Second)
		stop(t, m)
		m = life(t, c) // and this is inherited, too
		wantUnsure(t, m, p, 20*time.Second)
		time.Sleep(20 * time.Second)
		wantFirst(t, m, fresh("b"))
		stop(t, m)
	})
}

// TestClockBehindCrash: the clock is set back while a crashed store is down. The rule
// of start and leeway alone would let the pair in again when its time comes round.
func TestClockBehindCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var p replay.Pair
	c := replay.Config{Dir: dir, Leeway: leeway, NoHistory: true}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		m := life(t, c)
		p = fresh("a")
		wantFirst(t, m, p)
		crash(t, m)
	})
	synctest.Test(t, func(t *testing.T) {
		m := life(t, c)
		wantVouches(t, m, "clock is behind")
		wantUnsure(t, m, fresh("b"), time.Hour+time.Second)
		time.Sleep(time.Hour)
		wantUnsure(t, m, p, time.Second)
		time.Sleep(time.Second)
		wantFirst(t, m, fresh("b"))
		stop(t, m)
	})
}

// TestLimitLowered: a smaller limit forgets nothing that was handed over.
func TestLimitLowered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := life(t, replay.Config{Dir: dir, NoHistory: true})
		for i := range 100 {
			wantFirst(t, m, fresh(fmt.Sprint(i)))
		}
		stop(t, m)
		m = life(t, replay.Config{Dir: dir, Limit: 10})
		for i := range 100 {
			wantUsed(t, m, fresh(fmt.Sprint(i)))
		}
		wantError(t, m, fresh("new"), replay.ErrFull)
		time.Sleep(41 * time.Second)
		wantFirst(t, m, fresh("new"))
		stop(t, m)
	})
}

func TestFolderInUse(t *testing.T) {
	t.Parallel()
	c := replay.Config{Dir: t.TempDir(), NoHistory: true}
	m := life(t, c)
	if _, err := replay.Open(c); !errors.Is(err, replay.ErrInUse) || !contains(err.Error(), c.Dir) {
		t.Errorf("error %v, want ErrInUse with the folder", err)
	}
	p := fresh("a")
	wantFirst(t, m, p)
	stop(t, m)
	m = life(t, c)
	wantUsed(t, m, p)
	stop(t, m)
}

func TestFolderCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write("file", "")(t, dir)
	if _, err := replay.Open(replay.Config{Dir: filepath.Join(dir, "file")}); err == nil {
		t.Error("a file was opened as a folder")
	}
	// A hand-over that cannot be removed could be used twice.
	stuck := filepath.Join(dir, replay.HandOverFile, "inside")
	if err := os.MkdirAll(stuck, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := replay.Open(replay.Config{Dir: dir}); err == nil || errors.Is(err, replay.ErrInUse) {
			t.Errorf("error %v", err)
		}
	}
}

// TestHandOverFails: who cannot hand over says so, and the next life knows nothing.
func TestHandOverFails(t *testing.T) {
	t.Parallel()
	c := replay.Config{Dir: t.TempDir(), Leeway: leeway, NoHistory: true}
	m := life(t, c)
	p := fresh("a")
	wantFirst(t, m, p)
	blocked := filepath.Join(c.Dir, replay.HandOverFile)
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	err := m.Close()
	if err == nil || !errors.Is(m.Close(), err) {
		t.Errorf("errors %v, %v", err, m.Close())
	}
	wantError(t, m, fresh("b"), replay.ErrClosed)
	m = life(t, c)
	if m.RecoveryError() == nil {
		t.Error("it vouches")
	}
	stop(t, m)
}

// TestCloseUnderUse: whatever got its yes while the store was being closed is in the
// hand-over.
func TestCloseUnderUse(t *testing.T) {
	t.Parallel()
	c := replay.Config{Dir: t.TempDir(), Leeway: leeway, NoHistory: true}
	issued := time.Now().AddDate(-11, 0, 0)
	for round := range 10 {
		issued = issued.AddDate(1, 0, 0)
		m := life(t, c)
		var group sync.WaitGroup
		yes := make([][]replay.Pair, 8)
		for g := range yes {
			group.Go(func() { yes[g] = useUntilClosed(t, m, fmt.Sprint(round, "/", g), issued) })
		}
		some := m.Len() + 200
		group.Go(func() {
			for m.Len() < some && !t.Failed() {
				runtime.Gosched() // until some are in, and more are under way
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		m = life(t, c)
		wantVouches(t, m, "")
		for _, pairs := range yes {
			for _, p := range pairs {
				wantUsed(t, m, p)
			}
		}
		stop(t, m)
	}
}

// useUntilClosed returns the pairs that got a yes. Each is issued a second later than
// the one before, so that every use moves the mark of life.
func useUntilClosed(t *testing.T, m *replay.Memory, prefix string, issued time.Time) []replay.Pair {
	t.Helper()
	var yes []replay.Pair
	for i := 0; ; i++ {
		p := fresh(fmt.Sprint(prefix, "/", i))
		p.IssuedAt = issued.Add(time.Duration(i) * time.Second)
		first, err := m.Use(t.Context(), p)
		switch {
		case errors.Is(err, replay.ErrClosed):
			return yes
		case !first || err != nil:
			t.Errorf("Use = %v, %v", first, err)
			return yes
		}
		yes = append(yes, p)
	}
}

// RecoveryError lasts as long as its cause, however often the store is opened in between.
func TestDoubtOutlivesAStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := replay.Config{Dir: dir, Leeway: leeway}
		m := life(t, c)
		wantVouches(t, m, "no hand-over")
		from := m.AcceptsIssuedFrom()
		for range 2 {
			stop(t, m)
			time.Sleep(time.Second)
			m = life(t, c)
			wantVouches(t, m, "ended before that was over")
			if !m.AcceptsIssuedFrom().Equal(from) {
				t.Errorf("it vouches from %s, and before the stop from %s", m.AcceptsIssuedFrom(), from)
			}
		}
		time.Sleep(leeway)
		stop(t, m)
		m = life(t, c)
		if err := m.RecoveryError(); err != nil {
			t.Errorf("when it is over: %v", err)
		}
		stop(t, m)
	})
}
