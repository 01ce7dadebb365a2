package bench_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waybill-token/waybill/internal/bench"
)

// A quantile is the one that sorting would give, or up to 0.8 % more.
func TestHistogramQuantile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour/2)), 1, 300).Draw(t, "durations")
		var whole, first, second bench.Histogram
		for i, d := range durations {
			whole.Record(time.Duration(d))
			[]*bench.Histogram{&first, &second}[i%2].Record(time.Duration(d))
		}
		first.Add(&second)
		slices.Sort(durations)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
			want := durations[max(int(math.Ceil(q*float64(len(durations)))), 1)-1]
			got := whole.Quantile(q)
			if int64(got) < want || float64(got) > float64(want)*(1+1.0/128) {
				t.Fatalf("quantile %v is %d, want %d", q, got, want)
			}
			if first.Quantile(q) != got {
				t.Fatalf("quantile %v is %d after adding, %d before", q, first.Quantile(q), got)
			}
		}
		if got := int64(whole.Max()); got != durations[len(durations)-1] || first.Max() != whole.Max() {
			t.Fatalf("max is %d, want %d", got, durations[len(durations)-1])
		}
	})
}

func TestHistogramLimits(t *testing.T) {
	t.Parallel()
	var h bench.Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 || h.Count() != 0 || h.Rows() != nil {
		t.Errorf("empty: %v, %v, %d, %v", h.Quantile(0.5), h.Max(), h.Count(), h.Rows())
	}
	h.Record(-time.Second)
	h.Record(24 * time.Hour)
	if h.Count() != 2 || h.Max() != 24*time.Hour {
		t.Errorf("count %d, max %v", h.Count(), h.Max())
	}
}

func TestHistogramRows(t *testing.T) {
	t.Parallel()
	var h bench.Histogram
	for _, d := range []time.Duration{
		40 * time.Microsecond, 60 * time.Microsecond, 99 * time.Microsecond, 150 * time.Microsecond,
		700 * time.Microsecond, 3 * time.Millisecond,
	} {
		h.Record(d)
	}
	want := []bench.Row{
		{50 * time.Microsecond, 1},
		{100 * time.Microsecond, 2},
		{200 * time.Microsecond, 1},
		{500 * time.Microsecond, 0},
		{time.Millisecond, 1},
		{2 * time.Millisecond, 0},
		{5 * time.Millisecond, 1},
	}
	if diff := cmp.Diff(want, h.Rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
