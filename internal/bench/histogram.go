package bench

import (
	"math/bits"
	"time"
)

const (
	// steps is how many buckets each power of two is divided into: a duration is off by at most 1/steps of itself.
	steps     = 128
	stepBits  = 7
	rangeBits = 41 // about 36 minutes in nanoseconds; what lasts longer counts as that
)

// A Histogram counts durations in buckets whose width grows with the duration: below 128 ns each nanosecond has one,
// above it each power of two has 128. A quantile is therefore exact to 0.8 %, and never told too small. The zero
// Histogram is empty and ready. It is not safe for concurrent use.
type Histogram struct {
	counts [(rangeBits - stepBits + 1) * steps]int64
	total  int64
	max    time.Duration
}

// Record counts a duration. One below zero counts as zero.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

// Add counts what the other has counted.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range &other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() int64 { return h.total }

// Max is the longest duration, exactly; zero when there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the shortest duration that at least the share q of all did not exceed, rounded up to the end of its
// bucket; zero when there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	var seen int64
	for i, n := range &h.counts {
		if seen += n; n > 0 && float64(seen) >= q*float64(h.total) {
			return min(end(i), h.max)
		}
	}
	return h.max
}

// A Row of a histogram counts the durations above the To of the row before, up to its own.
type Row struct {
	To    time.Duration
	Count int64
}

// Rows counts by 1, 2 and 5 times the powers of ten of a microsecond, from the first row that is not empty to the
// last. A duration within 0.8 % of a limit may count in the row behind it.
func (h *Histogram) Rows() []Row {
	var rows []Row
	i, left := 0, h.total
	for power := time.Microsecond; ; power *= 10 {
		for _, factor := range []int{1, 2, 5} {
			if left == 0 {
				return rows
			}
			row := Row{To: time.Duration(factor) * power}
			for ; i < len(h.counts) && min(end(i), h.max) <= row.To; i++ {
				row.Count += h.counts[i]
			}
			if left -= row.Count; row.Count > 0 || rows != nil {
				rows = append(rows, row)
			}
		}
	}
}

// bucket is the index of the bucket in which a duration is counted.
func bucket(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<rangeBits-1))
	shift := max(bits.Len64(v)-stepBits-1, 0)
	return shift*steps + int(v>>shift)
}

// end is the longest duration of a bucket.
func end(i int) time.Duration {
	shift := max(i/steps-1, 0)
	return time.Duration((i-shift*steps+1)<<shift - 1)
}
