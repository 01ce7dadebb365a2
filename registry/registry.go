// Package registry finds out who takes part in the framework: it answers with the record of the party that goes by an
// identifier, and keeps the list of the certificate authorities that a Participant Registry grants.
//
// A [Source] answers who a party is, in the shape of iSHARE 3.0 wherever the record comes from. There are four:
//
//   - [Remote] asks a Participant Registry of iSHARE 3.0 or 2.x each time, and believes only what the registry signed.
//   - [Cache] stands in front of another source and keeps its records, also for a while when that one is out of reach.
//   - [File] reads records from a file that an operator keeps; [Inspect] tells what is odd in such a file.
//   - [List] holds records that a program made itself.
//
// A server puts a Cache in front of a Remote, and gives it to its [assertion.Verifier] as Parties:
//
//	remote, err := registry.NewRemote(registry.RemoteConfig{
//		ID:  "did:ishare:EU.NL.NTRNL-10000003",
//		URL: "https://registry.example",
//		…
//	})
//	…
//	defer remote.Close()
//	cache, err := registry.NewCache(registry.CacheConfig{Source: remote, Fresh: 5 * time.Minute, MaxStale: time.Hour})
//	…
//	defer cache.Close()
//	party, err := cache.Party(ctx, "did:ishare:EU.NL.NTRNL-10000001")
//
// [ErrUnknown] says that there is no such party. After any other error nobody knows, and nobody may be refused by it:
// the source is out of reach, or its answer is not believed. [Refusal] tells whether a registry refuses us.
//
// A [TrustedList] puts the authorities that a Remote says are granted into the [trust.Validator] that judges clients,
// besides the anchors of one's own choice, and takes out those that are granted no longer.
package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// ErrUnknown says that a [Source] was able to look and that the party is not a participant. It is the only error by
// which a client may be refused: after any other one nobody knows whether the party takes part.
var ErrUnknown = fmt.Errorf("registry: %w", ishare.ErrUnknownParty)

// A Source finds party records. It is safe for use by several goroutines.
type Source interface {
	// Party returns the record of the party that goes by id, which is its canonical identifier or one that it is also
	// known as. The record is shared by all callers and must not be changed.
	//
	// The error is [ErrUnknown] when the source knows that there is no such
	// party. Any other error means that the source is out of reach.
	Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error)
}

// A PersistentSource is a [Source] that keeps its answers over a restart, as [Remote] does. A [Cache] looks for it in
// its source.
type PersistentSource interface {
	// RecallParty returns the record that it last answered with about a party, and since when that may be
	// out of date; nil if there is none to be believed. It asks nobody for the record.
	RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time)
}

// A List is a fixed set of party records. The zero List knows nobody.
type List struct {
	byID    map[ishare.PartyID]*ishare.Party
	records int
}

// NewList indexes party records by every identifier that they carry. An identifier that two records claim is an error
// that names both: whoever wrote the second record could otherwise take the place of the first party. All such
// identifiers are reported at once. The records must not be changed any more.
func NewList(parties []*ishare.Party) (*List, error) {
	var errs []error
	owner := make(map[ishare.PartyID]int, len(parties))
	byID := make(map[ishare.PartyID]*ishare.Party, len(parties))
	for i, p := range parties {
		for _, id := range p.Identifiers() {
			if first, taken := owner[id]; taken {
				errs = append(errs, fmt.Errorf("identifier %s is claimed by two records: number %d (%s, %q) and number %d (%s, %q)",
					id, first, byID[id].ID, byID[id].Name, i, p.ID, p.Name))
				continue
			}
			owner[id], byID[id] = i, p
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &List{byID: byID, records: len(parties)}, nil
}

// Party returns the record of the party that goes by id, or [ErrUnknown].
func (l *List) Party(_ context.Context, id ishare.PartyID) (*ishare.Party, error) {
	if p, ok := l.byID[id]; ok {
		return p, nil
	}
	return nil, ErrUnknown
}

// Len is the number of records, each counted once however many identifiers it carries.
func (l *List) Len() int { return l.records }
