package replay

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sample is a hand-over with everything in it.
func sample() handOver {
	h := handOver{id: -7, written: 1_795_435_200, leeway: 10 * time.Second, acceptFrom: time.Unix(1_795_435_190, 5), issuedBefore: 1_795_435_211}
	for i := range int64(3) {
		h.records = h.records.add(Pair{Issuer: "did:ishare:A", JTI: string(rune('a' + i))}.Key(), h.written+1+i*20)
	}
	return h
}

func TestFormatsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, h := range []handOver{{}, sample()} {
		got, err := parseHandOver(h.encode())
		if err != nil {
			t.Fatal(err)
		}
		if !got.acceptFrom.Equal(h.acceptFrom) || !bytes.Equal(got.encode(), h.encode()) {
			t.Errorf("got %+v, want %+v", got, h)
		}
	}
	l := watermark{id: 7, issuedBefore: 1_795_435_211, leeway: MaxLeeway}
	if got, err := parseWatermark(l.encode()); err != nil || *got != l {
		t.Errorf("got %+v, %v, want %+v", got, err, l)
	}
}

// TestFilesOfBefore holds our files to those in testdata, which an earlier release has written
// and must stay able to read.
func TestFilesOfBefore(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		handOverFile:  sample().encode(),
		watermarkFile: watermark{id: 7, issuedBefore: 1_795_435_211, leeway: 10 * time.Second}.encode(),
	} {
		if want, err := os.ReadFile(filepath.Join("testdata", name)); err != nil || !bytes.Equal(data, want) {
			t.Errorf("%s: written as %q, want %q, %v", name, data, want, err)
		}
	}
}

// TestEveryDamageIsFound cuts the file at each length, lengthens it, and flips each
// bit.
func TestEveryDamageIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data  []byte
		parse func([]byte) error
	}{
		"hand-over": {sample().encode(), func(b []byte) error { _, err := parseHandOver(b); return err }},
		"life":      {watermark{issuedBefore: 1, leeway: 2}.encode(), func(b []byte) error { _, err := parseWatermark(b); return err }},
	} {
		for n := range c.data {
			if c.parse(c.data[:n]) == nil {
				t.Errorf("%s: accepted when cut to %d bytes", name, n)
			}
		}
		for bit := range 8 * len(c.data) {
			damaged := bytes.Clone(c.data)
			damaged[bit/8] ^= 1 << (bit % 8)
			if c.parse(damaged) == nil {
				t.Errorf("%s: accepted with bit %d flipped", name, bit)
			}
		}
		if c.parse(append(bytes.Clone(c.data), 0)) == nil {
			t.Errorf("%s: accepted with a byte more", name)
		}
	}
}

// TestNumbersOutOfBounds gives the parsers files whose sum is right and whose content
// no store writes.
func TestNumbersOutOfBounds(t *testing.T) {
	t.Parallel()
	change := func(f func(h *handOver)) []byte {
		h := sample()
		f(&h)
		return h.encode()
	}
	lengthened := func(extra []byte) []byte {
		data := sample().encode()
		return appendSum(append(data[:len(data)-32], extra...))
	}
	for name, data := range map[string][]byte{
		"negative leeway":   change(func(h *handOver) { h.leeway = -1 }),
		"leeway too long":   change(func(h *handOver) { h.leeway = MaxLeeway + 1 }),
		"negative time":     change(func(h *handOver) { h.written = -1; h.records = nil }),
		"time too late":     change(func(h *handOver) { h.written = 1 << 62; h.records = nil }),
		"negative issue":    change(func(h *handOver) { h.issuedBefore = -1 }),
		"vouches before 70": change(func(h *handOver) { h.acceptFrom = time.Unix(-1, 0) }),
		"a pair over":       change(func(h *handOver) { h.records = h.records.add(Key{}, h.written) }),
		"a pair too long":   change(func(h *handOver) { h.records = h.records.add(Key{}, h.written+slots+1) }),
		"half a pair":       lengthened([]byte("half")),
		"a pair uncounted":  lengthened(records(nil).add(Key{}, sample().written+1)),
		"no header":         appendSum([]byte(handOverKind)),
		"another file":      watermark{}.encode(),
	} {
		if h, err := parseHandOver(data); err == nil {
			t.Errorf("%s: accepted as %+v", name, h)
		}
	}
	for name, data := range map[string][]byte{
		"negative leeway": watermark{leeway: -1}.encode(),
		"leeway too long": watermark{leeway: MaxLeeway + 1}.encode(),
		"negative issue":  watermark{issuedBefore: -1}.encode(),
		"a number less":   appendSum(appendInts([]byte(watermarkKind), 1, 2)),
		"old with an id":  appendSum(appendInts([]byte(oldWatermarkKind), 1, 2, 3)),
		"a number more":   appendSum(appendInts([]byte(watermarkKind), 1, 2, 3, 4)),
		"another file":    handOver{}.encode(),
	} {
		if l, err := parseWatermark(data); err == nil {
			t.Errorf("%s: accepted as %+v", name, l)
		}
	}
}

// asOld is a file with the id 0 as version 1 wrote it, and nil for another.
func asOld(data []byte) []byte {
	for kind, old := range map[string]string{watermarkKind: oldWatermarkKind, handOverKind: oldHandOverKind} {
		if body, ok := bytes.CutPrefix(data[:len(data)-32], append([]byte(kind), make([]byte, 8)...)); ok {
			return appendSum(append([]byte(old), body...))
		}
	}
	return nil
}

// TestVersion1 goes on where a program of version 1 ended.
func TestVersion1(t *testing.T) {
	t.Parallel()
	h := sample()
	h.id, h.acceptFrom = 0, time.Time{}
	p := past{}
	p.handOver, p.handOverErr = parseHandOver(asOld(h.encode()))
	p.watermark, p.watermarkErr = parseWatermark(asOld(watermark{issuedBefore: h.issuedBefore, leeway: h.leeway}.encode()))
	b := recoverState(Config{Leeway: h.leeway}, time.Unix(h.written, 0), p)
	if b.recoveryErr != nil || !b.acceptFrom.IsZero() || b.records.len() != 3 {
		t.Errorf("%v, from %v, %d pairs", b.recoveryErr, b.acceptFrom, b.records.len())
	}
	p.watermark.id = 1
	if b := recoverState(Config{Leeway: h.leeway}, time.Unix(h.written, 0), p); !errors.Is(b.recoveryErr, errMismatched) {
		t.Errorf("beside a mark of this version: %v", b.recoveryErr)
	}
}

func FuzzHandOver(f *testing.F) {
	valid := sample().encode()
	unsealed := valid[:len(valid)-32]
	for _, seed := range [][]byte{
		valid, unsealed, handOver{}.encode(), asOld(handOver{issuedBefore: 1}.encode()), valid[:40], append(valid, 0),
		[]byte("waybill replay hand-over 3\n"), []byte(handOverKind), nil, watermark{}.encode(),
		append(bytes.Clone(unsealed), make([]byte, recordSize)...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// As it is, and with the right sum, which no fuzzer guesses.
		for _, data := range [][]byte{data, appendSum(bytes.Clone(data))} {
			h, err := parseHandOver(data)
			if err != nil {
				continue
			}
			if again := h.encode(); !bytes.Equal(again, data) && !bytes.Equal(asOld(again), data) {
				t.Errorf("read %x, would write %x", data, again)
			}
			m := newMemory(Config{}, nil, past{watermark: &watermark{issuedBefore: h.issuedBefore}, handOver: h}.resume(time.Unix(h.written, 0)))
			if m.Len() != h.records.len() {
				t.Errorf("%d pairs are held of %d", m.Len(), h.records.len())
			}
		}
	})
}

func FuzzLife(f *testing.F) {
	valid := watermark{issuedBefore: 1_795_435_211, leeway: 10 * time.Second}.encode()
	for _, seed := range [][]byte{valid, valid[:len(valid)-32], watermark{}.encode(), asOld(watermark{issuedBefore: 1}.encode()), []byte(watermarkKind), nil, handOver{}.encode()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, appendSum(bytes.Clone(data))} {
			l, err := parseWatermark(data)
			if err == nil && !bytes.Equal(l.encode(), data) && !bytes.Equal(asOld(l.encode()), data) {
				t.Errorf("read %x, would write %x", data, l.encode())
			}
		}
	})
}
