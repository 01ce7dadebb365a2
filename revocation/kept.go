package revocation

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/trust"
)

// Bounds of the folder in which answers are kept. An OCSP answer takes some kilobytes, and a list at most
// maxListAnswer.
const (
	maxKeptFiles = 16 << 10
	maxKeptBytes = 256 << 20
	maxAddress   = 4 << 10 // of a record; one with a longer address is not kept
)

// A record is an answer as it is kept over a restart: the bytes that were signed, and what is not in
// them. It is verified again when it is read, as of the time when it was obtained, from which
// its life is counted too. So a restart neither lengthens that life nor lifts a revocation.
type record struct {
	obtained time.Time // by our clock
	address  string
	signed   []byte // empty: of a certificate, whose status is on the list at the address
}

// halfway is the middle between when the record was obtained and another time.
func (rec record) halfway(until time.Time) time.Time {
	return rec.obtained.Add(until.Sub(rec.obtained) / 2)
}

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

// name is that of the status in the folder.
func (k statusKey) name() string {
	return "status\x00" + string(k.certificate[:]) + string(k.issuer[:])
}

func listName(address string, issuer *x509.Certificate) string {
	by := trust.FingerprintOf(issuer)
	return "list\x00" + string(by[:]) + address
}

func (r *Checker) readKept(name string) (record, bool) {
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

// restoreStatus looks once for what is kept about a certificate of which nothing is in memory.
func (r *Checker) restoreStatus(ctx context.Context, e *certificateEntry, cert, issuer *x509.Certificate) *cached[certStatus] {
	if e.current.Load() != nil || e.restored.Load() {
		return nil
	}
	found := r.readStatus(ctx, e.key, cert, issuer)
	if flight.GivenUp(ctx) {
		return nil
	}
	e.restored.Store(true)
	if found == nil || !time.Now().Before(found.until) || !e.current.CompareAndSwap(nil, found) {
		return nil
	}
	r.logRevoked(e, nil, found.value)
	return found
}

// readStatus reads what is kept about a certificate. A revocation that was final when it was found out stays so,
// whatever has become of the responder or the list since. Only a list that the certificate names can have told its status.
func (r *Checker) readStatus(ctx context.Context, key statusKey, cert, issuer *x509.Certificate) *cached[certStatus] {
	rec, ok := r.readKept(key.name())
	if !ok {
		return nil
	}
	if len(rec.signed) == 0 {
		if !slices.Contains(callable(cert.CRLDistributionPoints), rec.address) {
			return nil
		}
		list := r.listEntry(rec.address, issuer).current.Load()
		if list == nil {
			return nil
		}
		found, err := fromList(list, rec.address, cert)
		if err != nil {
			return nil
		}
		return found
	}
	status, signer, err := readOCSP(rec.signed, cert, issuer, rec.obtained)
	if err != nil {
		return nil
	}
	until := forever()
	if !status.revoked.final() {
		if until, err = r.signerValidUntil(ctx, signer, issuer); err != nil {
			return nil
		}
	}
	return fromOCSP(status, rec, until)
}
