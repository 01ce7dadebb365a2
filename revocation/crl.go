package revocation

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/trust"
)

// A listEntry is what is remembered of one list.
type listEntry struct {
	refreshed[*crl]

	restored sync.Once   // from what is kept
	failing  atomic.Bool // it could not be fetched again, which has been logged
}

// listEntry finds or makes the entry of a list, and looks once for a list that is kept when none is in memory. There is
// one entry for each address and issuer: a list that certificates of several CAs name is verified for each CA.
func (r *Checker) listEntry(address string, issuer *x509.Certificate) *listEntry {
	name := listName(address, issuer)
	entry, _ := r.lists.SetIfAbsent(name, &listEntry{})
	entry.restored.Do(func() {
		rec, ok := r.readKept(name)
		if !ok || entry.current.Load() != nil {
			return
		}
		if found, err := rec.list(issuer); err == nil && entry.current.CompareAndSwap(nil, found) {
			r.lists.Set(name, entry) // so that the cache weighs it again
		}
	})
	return entry
}

// askList answers from a list, which is shared by all certificates of the issuer that name it.
func (r *Checker) askList(ctx context.Context, address string, cert, issuer *x509.Certificate) (*cached[certStatus], record, error) {
	list, err := r.list(ctx, address, issuer)
	if err != nil {
		return nil, record{}, err
	}
	status, err := fromList(list, address, cert)
	return status, record{address: address}, err
}

// fromList is what a list says of a certificate. The list may have ended; so has the answer then, unless it is final.
func fromList(list *cached[*crl], address string, cert *x509.Certificate) (*cached[certStatus], error) {
	status, err := list.value.statusOf(cert)
	if err != nil {
		return nil, err
	}
	status.source, status.address = byList, address
	refreshAt := list.refreshAt
	if soon := wallClock().Add(failureMemory); refreshAt.Before(soon) { // a new list is on its way
		refreshAt = soon
	}
	return status.cache(earlier(refreshAt, list.until), list.until), nil
}

// list returns the list in memory, or waits for the one under way. That goes on when nobody waits any
// more: a large list may take longer than anybody would, and there are as many as there are authorities.
func (r *Checker) list(ctx context.Context, address string, issuer *x509.Certificate) (*cached[*crl], error) {
	entry := r.listEntry(address, issuer)
	now := time.Now()
	if known, err := entry.known(now); known != nil || err != nil && entry.live(now) == nil {
		return known, err
	}
	question, err := r.listFetches.Start(entry, nil, func(ctx context.Context) (*cached[*crl], error) {
		return r.findList(ctx, entry, address, issuer)
	})
	switch current := entry.live(now); {
	case current != nil:
		return current, nil
	case err != nil:
		return nil, err
	}
	return question.Wait(ctx)
}

// findList looks for a list in memory and at its address.
func (r *Checker) findList(ctx context.Context, entry *listEntry, address string, issuer *x509.Certificate) (*cached[*crl], error) {
	now := time.Now()
	if known, err := entry.known(now); known != nil || err != nil {
		return known, err
	}
	current := entry.live(now)
	found, rec, err := r.fetchList(ctx, address, issuer)
	if err == nil && current != nil && found.value.thisUpdate.Before(current.value.thisUpdate) {
		err = errors.New("the list is older than the one at hand")
	}
	switch {
	case err == nil:
		entry.failing.Store(false)
	case flight.GivenUp(ctx):
	case current != nil && !entry.failing.Swap(true):
		// Where none is in use, the certificates that need it are logged.
		r.log.WarnContext(ctx, "a revocation list cannot be fetched again",
			slog.String("address", address), slog.Any("error", err), slog.Time("list_in_use_until", current.until))
	}
	if found, err = entry.complete(ctx, found, err); err != nil {
		return nil, err
	}
	r.lists.Set(listName(address, issuer), entry) // so that the cache weighs it again
	r.keep(listName(address, issuer), rec, issuer.NotAfter)
	return found, nil
}

// fetchList remembers a list that cannot be used for longer the larger it is.
func (r *Checker) fetchList(ctx context.Context, address string, issuer *x509.Certificate) (_ *cached[*crl], _ record, err error) {
	defer func() { count(ctx, &r.counters.distributors, err) }()
	body, err := r.fetcher.Fetch(ctx, outbound.Call{
		Method:  http.MethodGet,
		Address: address,
		Limit:   maxListAnswer,
		Timeout: listTimeout,
	})
	if tooLarge, ok := errors.AsType[*outbound.TooLargeError](err); ok {
		return nil, record{}, newCostlyFailure(err, tooLarge.Read)
	}
	if err != nil {
		return nil, record{}, err
	}
	rec := record{wallClock(), address, body}
	found, err := rec.list(issuer)
	if err != nil {
		return nil, record{}, newCostlyFailure(err, int64(len(body)))
	}
	r.counters.lists.Add(1)
	return found, rec, nil
}

// list verifies the record as a list of that issuer.
func (rec record) list(issuer *x509.Certificate) (*cached[*crl], error) {
	list, err := readList(rec.signed, issuer, rec.obtained)
	if err != nil {
		return nil, err
	}
	until := earlier(list.nextUpdate, rec.obtained.Add(maxLife))
	return &cached[*crl]{value: list, refreshAt: rec.halfway(until), until: until}, nil
}

var (
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshestCRL              = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// A certificate that is on a list is revoked, whatever other lists there are. That it is not on
// the list says nothing in these cases.
var (
	errIndirectList = errors.New("the list is indirect: it speaks for other issuers too")
	errDeltaBeside  = errors.New("the certificate is not on the list, but there is a delta list beside it (freshestCRL), and delta lists are not read")
	errSomeReasons  = errors.New("the certificate is not on the list, but the list is for some reasons of revocation only")
)

// A crl is a certificate revocation list (RFC 5280 section 5) that its issuer signed, that is complete within its
// scope, and of which every entry was understood.
type crl struct {
	thisUpdate time.Time
	nextUpdate time.Time
	scope      issuingDistributionPoint
	partial    error // why it says nothing of a certificate that is not on it, or nil
	entries    listEntries
}

// listSize is about what a list takes in memory besides its entries, in bytes.
const listSize = 1 << 10

// readList reads a list, in DER or PEM, and believes it when the issuer signed it and it is in
// force. Lists that are right and say too little to rely on are refused: indirect ones,
// deltas, and those with a critical extension that is not known here.
//
// The signature comes first: of what a stranger puts in the list's place, nothing else is read.
func readList(body []byte, issuer *x509.Certificate, at time.Time) (*crl, error) {
	der, err := derOfList(body)
	if err != nil {
		return nil, err
	}
	parsed, err := parseSignedList(der, issuer)
	if err != nil {
		return nil, err
	}
	if !trust.SameName(parsed.issuer, issuer.RawSubject) {
		return nil, errors.New("the list has another issuer than the certificate; indirect lists are not used")
	}
	if parsed.nextUpdate.IsZero() {
		return nil, errors.New("the list has no nextUpdate, which RFC 5280 section 5.1.2.5 demands, so nobody knows until when it holds")
	}
	if err := inForce(parsed.thisUpdate, parsed.nextUpdate, at); err != nil {
		return nil, err
	}
	list := &crl{thisUpdate: parsed.thisUpdate, nextUpdate: parsed.nextUpdate, entries: parsed.entries}
	for _, ext := range parsed.extensions {
		switch {
		case ext.Id.Equal(oidDeltaCRLIndicator):
			return nil, errors.New("the list is a delta, which says nothing without its base")
		case ext.Id.Equal(oidIssuingDistributionPoint):
			if list.scope, err = readScope(ext.Value); err != nil {
				return nil, err
			}
			if list.scope.SomeReasons.Bytes != nil { // also when no reason is among them
				list.partial = errSomeReasons
			}
		case ext.Id.Equal(oidFreshestCRL):
			list.partial = errDeltaBeside
		}
	}
	if err := certcheck.CheckExtensions(parsed.extensions, oidIssuingDistributionPoint); err != nil {
		return nil, err
	}
	if err := list.entries.understood(parsed.versionOne); err != nil {
		return nil, err
	}
	return list, nil
}

// derOfList takes the PEM off that many authorities put around what should be DER (RFC 5280 section 4.2.1.13).
func derOfList(body []byte) ([]byte, error) {
	if text := bytes.TrimSpace(body); bytes.HasPrefix(text, []byte("-----BEGIN X509 CRL-----")) {
		block, rest := pem.Decode(text)
		if block == nil || len(rest) > 0 {
			return nil, fmt.Errorf("%w: PEM", errMalformedList)
		}
		return block.Bytes, nil
	}
	return body, wantDER(body, "a revocation list")
}

// statusOf is what the list says of a certificate of its issuer. It looks through the whole list, which takes some
// milliseconds for the largest ones, once for each certificate and answer.
//
// A delta could take a certificate off that is on hold. Deltas are not read, so it stays on hold.
func (l *crl) statusOf(cert *x509.Certificate) (certStatus, error) {
	points, err := pointsOf(cert)
	if err != nil {
		return certStatus{}, err
	}
	partial, err := l.scope.covers(cert, points)
	if err != nil {
		return certStatus{}, err
	}
	status := certStatus{thisUpdate: l.thisUpdate, nextUpdate: l.nextUpdate}
	status.revoked, err = l.entries.find(contentsOf(cert.SerialNumber))
	switch {
	case err != nil:
		return certStatus{}, err
	case status.revoked != nil:
		return status, nil
	case l.partial != nil:
		return certStatus{}, l.partial
	case partial:
		return certStatus{}, errSomeReasons
	}
	if _, delta := certcheck.Extension(cert, oidFreshestCRL); delta {
		return certStatus{}, errDeltaBeside
	}
	return status, nil
}

// An issuingDistributionPoint says for which of its issuer's certificates a list speaks (RFC 5280
// section 5.2.5). The zero value is that of a list for all of them.
type issuingDistributionPoint struct {
	Name           distributionPointName `asn1:"optional,tag:0"` // without names: every distribution point
	UsersOnly      bool                  `asn1:"optional,tag:1"`
	CAsOnly        bool                  `asn1:"optional,tag:2"`
	SomeReasons    asn1.BitString        `asn1:"optional,tag:3"`
	Indirect       bool                  `asn1:"optional,tag:4"`
	AttributesOnly bool                  `asn1:"optional,tag:5"`
}

// readScope reads an issuing distribution point, and refuses a list that cannot answer for any certificate as a whole.
func readScope(der []byte) (issuingDistributionPoint, error) {
	var scope issuingDistributionPoint
	if err := unmarshalAll(der, &scope); err != nil {
		return scope, fmt.Errorf("%w: issuing distribution point: %w", errMalformedList, err)
	}
	switch {
	case scope.Indirect:
		return scope, errIndirectList
	case scope.AttributesOnly:
		return scope, errors.New("the list is for attribute certificates only")
	}
	return scope, nil
}

// covers says why a list does not speak for the certificate, and otherwise whether it may be one for some reasons of
// revocation only (RFC 5280 section 6.3.3 (b) and (d)). A CA that splits its list signs every part, and an attacker on
// the network may answer with the part that does not contain a certificate.
func (s issuingDistributionPoint) covers(cert *x509.Certificate, points []distributionPoint) (partial bool, err error) {
	switch {
	case s.UsersOnly && cert.IsCA:
		return false, errors.New("the list does not speak for CAs")
	case s.CAsOnly && !cert.IsCA:
		return false, errors.New("the list speaks for CAs only")
	}
	names := s.Name.names(cert.RawIssuer)
	if len(names) > 0 {
		points = slices.DeleteFunc(points, func(p distributionPoint) bool { return !p.isOneOf(names, cert.RawIssuer) })
		if len(points) == 0 {
			return false, errors.New("the list is of another distribution point than the certificate names")
		}
	}
	return slices.ContainsFunc(points, func(p distributionPoint) bool { return p.Reasons.Bytes != nil }), nil
}
