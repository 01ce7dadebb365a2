package logbuffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/logtest"
)

// A stuck output takes nothing until it is released.
type stuck struct {
	logtest.Buffer

	released chan struct{}
}

func newStuck() *stuck { return &stuck{released: make(chan struct{})} }

func (s *stuck) Write(b []byte) (int, error) {
	<-s.released
	return s.Buffer.Write(b)
}

// counts are what the lines that hold a count say, in their order, and how many others are told of.
func counts(t *testing.T, log string) (found []int, dropped int) {
	t.Helper()
	for line := range strings.Lines(log) {
		var event struct {
			Message string `json:"msg"`
			N       *int   `json:"n"`
			Lines   int    `json:"lines"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if event.N != nil {
			found = append(found, *event.N)
		}
		dropped += event.Lines
	}
	return found, dropped
}

// All lines are there when the handler is closed, in the order in which they were logged, whichever way they went.
func TestCloseWritesAllInOrder(t *testing.T) {
	var output logtest.Buffer
	h := New(&output)
	log := slog.New(h)
	const all = 5000
	for n := range all {
		switch n % 3 {
		case 0:
			log.Info("plain", slog.Int("n", n))
		case 1:
			log.Info("general", slog.Any("error", errors.New("some")), slog.Int("n", n))
		case 2:
			log.With(slog.String("of", "others")).Error("with", slog.Int("n", n))
		}
	}
	h.Close()
	found, dropped := counts(t, output.String())
	if len(found) != all || dropped > 0 {
		t.Fatalf("%d lines of %d; %d dropped", len(found), all, dropped)
	}
	for i, n := range found {
		if i != n {
			t.Fatalf("line %d stands at %d", n, i)
		}
	}
	log.Info("late", slog.Int("n", all))
	h.Close()
	if found, _ := counts(t, output.String()); len(found) != all {
		t.Errorf("%d lines after the end", len(found)-all)
	}
}

// Of each goroutine the lines are there in their order.
func TestManyGoroutines(t *testing.T) {
	var output logtest.Buffer
	h := New(&output)
	log := slog.New(h)
	const goroutines, each = 8, 500
	var wait sync.WaitGroup
	for g := range goroutines {
		wait.Go(func() {
			for i := range each {
				log.Info("token request", slog.Int("n", g*each+i))
			}
		})
	}
	wait.Wait()
	h.Close()
	found, _ := counts(t, output.String())
	next := make([]int, goroutines)
	for _, n := range found {
		if g := n / each; n%each != next[g] {
			t.Fatalf("goroutine %d: line %d stands where %d should", g, n%each, next[g])
		}
		next[n/each]++
	}
	if len(found) != goroutines*each {
		t.Errorf("%d lines", len(found))
	}
}

// While the output takes nothing, nobody who logs waits, what is kept has a bound, and what is dropped is counted.
func TestStuckOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		output := newStuck()
		h := New(output)
		log := slog.New(h)
		const first, all = 20, 50_000
		for n := range first {
			log.Info("token request", slog.Int("n", n))
		}
		log.Error("with which the output gets stuck", slog.Int("n", first))
		synctest.Wait()
		for n := first + 1; n < all; n++ {
			log.Info("token request", slog.Int("n", n), slog.String("party", "did:ishare:EU.NL.NTRNL-10000001"))
		}
		h.buffer.mu.Lock()
		if size := len(h.buffer.lines); size > most || size < most/2 {
			t.Errorf("%d bytes are kept", size)
		}
		h.buffer.mu.Unlock()
		close(output.released)
		h.Close()
		found, dropped := counts(t, output.String())
		if dropped == 0 || len(found)+dropped != all {
			t.Errorf("%d lines and %d dropped of %d", len(found), dropped, all)
		}
		for i, n := range found {
			if i != n {
				t.Fatalf("line %d stands at %d", n, i)
			}
		}
	})
}

// A stop does not wait for ever for an output that is stuck.
func TestCloseOfStuckOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		output := newStuck()
		h := New(output)
		slog.New(h).Info("one")
		began := time.Now()
		h.Close()
		if took := time.Since(began); took != patience {
			t.Errorf("it took %s", took)
		}
		close(output.released)
	})
}

// Information is written within a tenth of a second, a warning at once, with all before it, and so is what comes in masses.
func TestWhenLinesAreWritten(t *testing.T) {
	for name, c := range map[string]struct {
		log  func(*slog.Logger)
		want time.Duration
	}{
		"information":         {func(log *slog.Logger) { log.Info("a") }, delay},
		"a warning":           {func(log *slog.Logger) { log.Info("a"); log.Warn("b") }, 0},
		"an unusual warning":  {func(log *slog.Logger) { log.Warn("b", slog.Any("error", io.EOF)) }, 0},
		"a warning with more": {func(log *slog.Logger) { log.With(slog.Int("m", 1)).WithGroup("g").Error("b", slog.Int("m", 2)) }, 0},
		"much": {func(log *slog.Logger) {
			for range 2 * worthIt / 50 {
				log.Info("a")
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var output logtest.Buffer
				h := New(&output)
				defer h.Close()
				for range 3 {
					before := output.String()
					began := time.Now()
					c.log(slog.New(h))
					for synctest.Wait(); output.String() == before; synctest.Wait() {
						time.Sleep(time.Millisecond)
					}
					if took := time.Since(began); took != c.want {
						t.Errorf("it took %s", took)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// The level and the form of the lines change while the log is in use, of loggers that were derived before too.
func TestSet(t *testing.T) {
	var output logtest.Buffer
	h := New(&output)
	log := slog.New(h)
	derived := log.With(slog.String("of", "others"))
	for _, step := range []struct {
		level slog.Level
		text  bool
	}{{slog.LevelInfo, false}, {slog.LevelDebug, true}, {slog.LevelError, false}} {
		h.Set(step.level, step.text)
		for _, l := range []*slog.Logger{log, derived} {
			l.Debug("one", slog.Float64("duration_ms", 1.234))
			l.Error("two")
		}
	}
	h.Close()
	var forms []string
	for line := range strings.Lines(output.String()) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), "level")
		forms = append(forms, rest)
	}
	want := []string{
		`":"ERROR","msg":"two"}`, `":"ERROR","msg":"two","of":"others"}`,
		`=DEBUG msg=one duration_ms=1.234`, `=ERROR msg=two`, `=DEBUG msg=one of=others duration_ms=1.234`, `=ERROR msg=two of=others`,
		`":"ERROR","msg":"two"}`, `":"ERROR","msg":"two","of":"others"}`,
	}
	if diff := cmp.Diff(want, forms); diff != "" {
		t.Error(diff)
	}
}

// FuzzAppendRecord holds the quick way against the general one: where it is ok, both write the same.
func FuzzAppendRecord(f *testing.F) {
	for _, odd := range []string{"", "plain ~ text", "\"", "\\", "\n", "\x00", "\x7f", "é", "\u2028", "\xff", "<&>'", "\U0001F600"} {
		f.Add(odd, "key", odd, int64(0), int64(1), true, 0)
		f.Add("message", odd, "value", int64(-1), int64(math.MaxInt64), false, 4)
	}
	for _, unix := range []int64{math.MinInt64, -62135596800, -62167219201, 253402300799, 253402300800, 1764374400} {
		f.Add("message", "key", "value", unix, int64(123456789), true, 8)
	}
	f.Fuzz(func(t *testing.T, message, key, text string, unix, nano int64, truth bool, level int) {
		var want bytes.Buffer
		zone := time.FixedZone("", int(nano%86400))
		r := slog.NewRecord(time.Unix(unix, nano).In(zone), slog.Level(level), message, 0)
		r.AddAttrs(slog.String(key, text), slog.Int64("n", nano), slog.Duration("d", time.Duration(unix)), slog.Float64("f", math.Float64frombits(uint64(nano))), slog.Float64("g", float64(unix)/1000), slog.Bool(key+"2", truth))
		got, ok := appendRecord(nil, r)
		if !ok {
			return
		}
		if err := slog.NewJSONHandler(&want, &slog.HandlerOptions{Level: slog.Level(math.MinInt)}).Handle(t.Context(), r); err != nil || want.String() != string(got) {
			t.Errorf("%q; slog writes %q, %v", got, want.String(), err)
		}
	})
}

// Values of other kinds go the general way, and the usual ones do not.
func TestWaysOfRecords(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		attr slog.Attr
		want bool
	}{
		"text":     {slog.String("k", "v"), true},
		"number":   {slog.Int("k", 1), true},
		"duration": {slog.Duration("k", time.Second), true},
		"truth":    {slog.Bool("k", true), true},
		"no key":   {slog.String("", "v"), true},
		"nothing":  {slog.Attr{}, false},
		"error":    {slog.Any("k", io.EOF), false},
		"group":    {slog.Group("k", slog.Int("l", 1)), false},
		"time":     {slog.Time("k", now), false},
		"fraction": {slog.Float64("k", 1.5), true},
		"zero":     {slog.Float64("k", 0), true},
		"huge":     {slog.Float64("k", 1e21), false},
		"tiny":     {slog.Float64("k", 1e-7), false},
		"no value": {slog.Float64("k", math.NaN()), false},
		"valuer":   {slog.Any("k", secret{}), false},
		"escape":   {slog.String("k", strconv.Quote("v")), false},
	} {
		r := slog.NewRecord(now, slog.LevelInfo, "message", 0)
		r.AddAttrs(c.attr)
		if line, ok := appendRecord(nil, r); ok != c.want {
			t.Errorf("%s: %q, %t", name, line, ok)
		}
		var output, want logtest.Buffer
		h := New(&output)
		if err := errors.Join(h.Handle(t.Context(), r), slog.NewJSONHandler(&want, nil).Handle(t.Context(), r)); err != nil {
			t.Fatal(err)
		}
		h.Close()
		if output.String() != want.String() {
			t.Errorf("%s: %q; slog writes %q", name, output.String(), want.String())
		}
	}
}

// A secret says by itself how it is logged.
type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("hidden") }

func BenchmarkHandle(b *testing.B) {
	for name, h := range map[string]slog.Handler{"slog": slog.NewJSONHandler(struct{ io.Writer }{io.Discard}, nil), "buffered": New(io.Discard)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			log := slog.New(h)
			attrs := []slog.Attr{slog.Duration("duration", time.Millisecond)}
			for i := range 8 {
				attrs = append(attrs, slog.String(fmt.Sprint("key", i), "did:ishare:EU.NL.NTRNL-10000001"))
			}
			for b.Loop() {
				log.LogAttrs(b.Context(), slog.LevelInfo, "token request", attrs...)
			}
		})
	}
}
