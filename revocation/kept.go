package revocation

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/kept"
)

// keptLimits bound the folder of answers. An OCSP answer takes some kilobytes, and a list at most
// maxListAnswer.
func keptLimits() kept.Limits { return kept.Limits{Files: 16 << 10, Bytes: 256 << 20} }

// A record is an answer as it is kept over a restart: the bytes that were signed, and what they
// do not say. It is verified again when it is read, as of the time when it was obtained, from which
// its life is counted too. So a restart neither lengthens that life nor lifts a revocation.
type record struct {
	obtained time.Time // by our clock
	address  string
	signed   []byte // empty: of a certificate, whose status is on the list at the address
}

// maxAddress bounds an address in a record. One that is longer is not kept.
const maxAddress = 4 << 10

func (rec record) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint64(uint64(max(rec.obtained.UnixMilli(), 0)))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(rec.address)) })
	b.AddBytes(rec.signed)
	return b.Bytes()
}

// readRecord reads a record that can be used at that time. One that was obtained later than
// now was written by a clock that has been set back, which would lengthen its life.
func readRecord(data []byte, now time.Time) (record, bool) {
	input := cryptobyte.String(data)
	var obtained uint64
	var address cryptobyte.String
	if !input.ReadUint64(&obtained) || !input.ReadUint16LengthPrefixed(&address) {
		return record{}, false
	}
	if obtained > uint64(max(now.Add(maxSkew).UnixMilli(), 0)) {
		return record{}, false
	}
	return record{time.UnixMilli(int64(obtained)), string(address), input}, true
}

// Names in the folder.
func (k certificateKey) kept() string {
	return "status\x00" + string(k.certificate[:]) + string(k.issuer[:])
}

func (k listKey) kept() string { return "list\x00" + string(k.issuer[:]) + k.address }

func (r *Checker) read(name string) (record, bool) {
	data, ok := r.kept.Get(name)
	if !ok {
		return record{}, false
	}
	return readRecord(data, time.Now())
}

func (r *Checker) keep(name string, rec record, until time.Time) {
	if len(rec.address) > maxAddress {
		r.kept.Remove(name)
		return
	}
	if data, err := rec.marshal(); err == nil {
		r.kept.Put(name, data, until)
	}
}

// keepStatus keeps a final revocation for as long as the certificate is one.
func (r *Checker) keepStatus(of subject, found told) {
	r.keep(of.key().kept(), found.record, earlier(found.answer.until, of.certificate.NotAfter))
}

// recall looks once for what is kept about a certificate of which nothing is in memory.
func (r *Checker) recall(ctx context.Context, s *status, of subject) *answer[verdict] {
	if s.answer.Load() != nil || s.recalled.Load() {
		return nil
	}
	found := r.recallStatus(ctx, of)
	if flight.GivenUp(ctx) {
		return nil
	}
	s.recalled.Store(true)
	if found == nil || !time.Now().Before(found.until) || !s.answer.CompareAndSwap(nil, found) {
		return nil
	}
	r.tellRevoked(s, nil, found.value)
	return found
}

// recallStatus: a revocation that was final when it was found out is final, whatever became since
// of the responder or the list that told it.
func (r *Checker) recallStatus(ctx context.Context, of subject) *answer[verdict] {
	rec, ok := r.read(of.key().kept())
	if !ok {
		return nil
	}
	if len(rec.signed) == 0 {
		return r.recallFromList(rec.address, of)
	}
	said, err := readOCSP(rec.signed, of, rec.obtained)
	if err != nil {
		return nil
	}
	if said.verdict.revoked.final() {
		return said.answer(rec, forever())
	}
	until, err := r.standing(ctx, said.signer, of.issuer)
	if err != nil {
		return nil
	}
	return said.answer(rec, until)
}

// recallFromList: only a list that the certificate names can have told its status.
func (r *Checker) recallFromList(address string, of subject) *answer[verdict] {
	if !slices.Contains(callable(of.certificate.CRLDistributionPoints), address) {
		return nil
	}
	entry := r.listing(address, of.issuer)
	r.recallList(entry, address, of.issuer)
	held := entry.answer.Load()
	if held == nil {
		return nil
	}
	found, err := fromList(held, address, of.certificate)
	if err != nil {
		return nil
	}
	return found
}

// recallList looks once for a list that is kept, when none is in memory.
func (r *Checker) recallList(entry *listing, address string, issuer *x509.Certificate) {
	entry.recalled.Do(func() {
		key := newListKey(address, issuer)
		rec, ok := r.read(key.kept())
		if !ok || entry.answer.Load() != nil {
			return
		}
		if found, err := rec.list(issuer); err == nil && entry.answer.CompareAndSwap(nil, found) {
			r.lists.Set(key, entry) // weighs it
		}
	})
}
