package audit_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/waybill-token/waybill/internal/audit"
	"github.com/waybill-token/waybill/internal/smalldisk"
)

// On a full disk there is no token without its line, and with room again there are tokens, in a trail that is whole.
func TestFullDisk(t *testing.T) {
	dir, grow := smalldisk.Mount(t)
	path := filepath.Join(dir, "audit.jsonl")
	trail := open(t, path, true)
	given := 0
	for ; given < 1000; given++ {
		if trail.Token(t.Context(), issued(given)) != nil {
			break
		}
	}
	if given == 0 || given == 1000 || trail.Stats().Err == nil {
		t.Fatalf("%d tokens, %+v", given, trail.Stats())
	}
	for range 3 {
		if err := trail.Token(t.Context(), issued(0)); err == nil {
			t.Error("a token on a full disk")
		}
	}
	grow()
	put(t, trail, issued(given))
	closed(t, trail)
	if report := wantWhole(t, read(t, path)); report.Tokens < uint64(given)+1 {
		t.Errorf("%d tokens were given: %+v", given+1, report)
	}
}

// A trail that is not required keeps nobody out.
func TestFullDiskWithoutNeed(t *testing.T) {
	dir, _ := smalldisk.Mount(t)
	path := filepath.Join(dir, "audit.jsonl")
	fill := func() {
		trail := open(t, path, false)
		for i := range 1000 {
			put(t, trail, issued(i))
		}
		if s := trail.Stats(); s.Err == nil || s.Failures == 0 {
			t.Errorf("%+v", s)
		}
		closed(t, trail)
	}
	fill()
	fill() // begins on a full disk
	if _, err := audit.Open(audit.Config{File: path, Required: true, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a trail that is required was opened on a full disk")
	}
}
