package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/trust"
)

// listEntry is a certificate authority on the trusted list, in either shape.
type listEntry struct {
	Subject      string `json:"subject"`
	Fingerprint3 string `json:"certificateFingerprint"`
	Fingerprint2 string `json:"certificate_fingerprint"`
	Validity     string `json:"validity"`
	Status       string `json:"status"`
}

// parseTrustedList reads the anchors that a trusted list grants.
//
// An entry that cannot be read is left out and logged: its authority is not trusted, and one slip of the registry does
// not shut out the clients of all others. A list of which nothing can be read is refused. An authority that is listed
// twice is trusted only if both entries can be read and grant it.
func parseTrustedList(payload []byte, log *slog.Logger) (trust.Anchors, Version, error) {
	entries, version, err := listEntries(payload)
	if err != nil {
		return nil, "", err
	}
	anchors, barred, read := trust.Anchors{}, trust.Anchors{}, 0
	for i, written := range entries {
		entry, fingerprint, err := readEntry(written)
		if err != nil {
			log.Warn("an entry of the trusted list cannot be read and grants nothing", slog.Int("entry", i), slog.Any("error", err))
			maps.Copy(barred, fingerprintsIn(written))
			continue
		}
		read++
		into := barred
		if strings.EqualFold(entry.Validity, "valid") && strings.EqualFold(entry.Status, "granted") { // registries differ in the case
			into = anchors
		}
		into[fingerprint] = fmt.Sprintf("trusted list: %.200s", entry.Subject)
	}
	if read == 0 && len(entries) > 0 {
		return nil, "", errors.New("no entry of the trusted list can be read")
	}
	for fingerprint := range barred {
		delete(anchors, fingerprint)
	}
	return anchors, version, nil
}

func listEntries(payload []byte) ([]jsontext.Value, Version, error) {
	var p struct {
		List3 jsontext.Value `json:"trustedList"`
		List2 jsontext.Value `json:"trusted_list"`
	}
	if err := jws.UnmarshalObject(payload, &p); err != nil {
		return nil, "", fmt.Errorf("the signed answer: %w", err)
	}
	list, version := p.List3, Version3
	if p.List2 != nil {
		list, version = p.List2, Version2
	}
	var entries []jsontext.Value
	switch {
	case p.List3 != nil && p.List2 != nil:
		return nil, "", errors.New("the signed answer holds two trusted lists")
	case list.Kind() != '[' || json.Unmarshal(list, &entries) != nil:
		return nil, "", errors.New("the signed answer holds no trusted list")
	}
	return entries, version, nil
}

func readEntry(written jsontext.Value) (*listEntry, trust.Fingerprint, error) {
	var entry listEntry
	if err := json.Unmarshal(written, &entry); err != nil {
		return nil, trust.Fingerprint{}, fmt.Errorf("%.200s", err.Error())
	}
	if entry.Fingerprint3 != "" && entry.Fingerprint2 != "" {
		return nil, trust.Fingerprint{}, errors.New("the entry has two fingerprints")
	}
	fingerprint, err := trust.ParseFingerprint(strings.TrimSpace(entry.Fingerprint3 + entry.Fingerprint2))
	return &entry, fingerprint, err
}

// fingerprintsIn finds the authorities that are named by an entry that cannot be read: nobody knows
// whether it withdraws them.
func fingerprintsIn(written jsontext.Value) trust.Anchors {
	var members map[string]jsontext.Value
	named := trust.Anchors{}
	if json.Unmarshal(written, &members) != nil {
		return named
	}
	for _, member := range []string{"certificateFingerprint", "certificate_fingerprint"} {
		if fingerprint, err := trust.ParseFingerprint(strings.TrimSpace(textOf(members[member]))); err == nil {
			named[fingerprint] = ""
		}
	}
	return named
}
