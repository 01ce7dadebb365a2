package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"
)

// The first line of each file says what it is and in which version. What follows is
// fixed-size numbers, big-endian, and at the end the SHA-256 of all before it. The
// sum is against files cut short or damaged, not against forgery: who can write in the
// folder can do worse.
//
// Version 1 had no id, and is read as if it were 0: a program that takes the place of an
// older one goes on where that ended.
const (
	watermarkKind    = "waybill replay life 2\n"
	oldWatermarkKind = "waybill replay life 1\n"
	handOverKind     = "waybill replay hand-over 2\n"
	oldHandOverKind  = "waybill replay hand-over 1\n"

	watermarkSize  = 3 * 8
	handOverHeader = 6 * 8
	recordSize     = sha256.Size + 8
)

var errMalformed = errors.New("malformed")

// appendSum ends a file with its sum.
func appendSum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

// parseFile returns what stands between the first line and the sum, in the form of the
// present version.
func parseFile(kind, oldKind string, data []byte) ([]byte, error) {
	body, ok := bytes.CutPrefix(data, []byte(kind))
	old, isOld := bytes.CutPrefix(data, []byte(oldKind))
	if isOld {
		body = old
	} else if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %q; another version writes another line", errMalformed, kind)
	}
	if len(body) < sha256.Size {
		return nil, fmt.Errorf("%w: cut short", errMalformed)
	}
	end := len(data) - sha256.Size
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return nil, fmt.Errorf("%w: cut short or damaged", errMalformed)
	}
	body = body[:len(body)-sha256.Size]
	if isOld {
		body = slices.Concat(make([]byte, 8), body)
	}
	return body, nil
}

// A watermark is what a store keeps on the disk while it is open, and leaves behind.
type watermark struct {
	id           int64 // random: it tells the hand-over of one run from that of another
	issuedBefore int64 // no pair used in this run or before was issued at or after this second
	leeway       time.Duration
}

func (w watermark) encode() []byte {
	data := append(make([]byte, 0, len(watermarkKind)+watermarkSize+sha256.Size), watermarkKind...)
	data = appendInts(data, w.id, w.issuedBefore, int64(w.leeway))
	return appendSum(data)
}

// parseWatermark accepts exactly what encode writes, and what it wrote in version 1.
func parseWatermark(data []byte) (*watermark, error) {
	body, err := parseFile(watermarkKind, oldWatermarkKind, data)
	if err != nil {
		return nil, fmt.Errorf("mark of life: %w", err)
	}
	if len(body) != watermarkSize {
		return nil, fmt.Errorf("mark of life: %w: wrong length", errMalformed)
	}
	n := ints(body)
	w := &watermark{id: n[0], issuedBefore: n[1], leeway: time.Duration(n[2])}
	if w.leeway < 0 || w.leeway > MaxLeeway || !validSecond(w.issuedBefore) {
		return nil, fmt.Errorf("mark of life: %w: a number out of bounds", errMalformed)
	}
	return w, nil
}

// A handOver is what a closed store leaves to the next one.
type handOver struct {
	id           int64 // as in watermark
	written      int64 // pairs that ended up to this second were forgotten; the time of writing, unless the clock was set back
	leeway       time.Duration
	acceptFrom   time.Time // pairs issued before were undecided; zero: none
	issuedBefore int64     // as in watermark
	records      records
}

func (h handOver) encode() []byte {
	size := len(handOverKind) + handOverHeader + len(h.records) + sha256.Size
	data := append(make([]byte, 0, size), handOverKind...)
	var from int64
	if !h.acceptFrom.IsZero() {
		from = h.acceptFrom.UnixNano()
	}
	data = appendInts(data, h.id, h.written, int64(h.leeway), from, h.issuedBefore, int64(h.records.len()))
	return appendSum(append(data, h.records...))
}

// parseHandOver accepts exactly what encode writes, and what it wrote in version 1, and no
// number that a store could not have written.
func parseHandOver(data []byte) (*handOver, error) {
	body, err := parseFile(handOverKind, oldHandOverKind, data)
	if err != nil {
		return nil, err
	}
	if len(body) < handOverHeader {
		return nil, fmt.Errorf("%w: cut short", errMalformed)
	}
	n := ints(body[:handOverHeader])
	h := &handOver{id: n[0], written: n[1], leeway: time.Duration(n[2]), issuedBefore: n[4], records: records(body[handOverHeader:])}
	from, count := n[3], n[5]
	switch {
	case len(h.records)%recordSize != 0 || count != int64(h.records.len()):
		return nil, fmt.Errorf("%w: wrong length", errMalformed)
	case h.leeway < 0, h.leeway > MaxLeeway, !validSecond(h.written), !validSecond(h.issuedBefore), from < 0:
		return nil, fmt.Errorf("%w: a number out of bounds", errMalformed)
	case from != 0:
		h.acceptFrom = time.Unix(0, from)
	}
	for _, end := range h.records.all() {
		if end <= h.written || end > h.written+slots {
			return nil, fmt.Errorf("%w: a pair that ends out of bounds", errMalformed)
		}
	}
	return h, nil
}

// validSecond keeps to the years that a count of nanoseconds reaches, up to 2262.
func validSecond(s int64) bool { return 0 <= s && s <= math.MaxInt64/int64(time.Second)-slots }

// records are pairs as they stand in the file, one after the other: the key, and the
// second in which it ends.
type records []byte

func (r records) len() int { return len(r) / recordSize }

func (r records) add(k Key, end int64) records {
	return appendInts(append(r, k[:]...), end)
}

func (r records) all() iter.Seq2[Key, int64] {
	return func(yield func(Key, int64) bool) {
		for ; len(r) >= recordSize; r = r[recordSize:] {
			if !yield(Key(r), int64(binary.BigEndian.Uint64(r[sha256.Size:]))) {
				return
			}
		}
	}
}

func appendInts(data []byte, values ...int64) []byte {
	for _, v := range values {
		data = binary.BigEndian.AppendUint64(data, uint64(v))
	}
	return data
}

func ints(data []byte) []int64 {
	values := make([]int64, len(data)/8)
	for i := range values {
		values[i] = int64(binary.BigEndian.Uint64(data[8*i:]))
	}
	return values
}
