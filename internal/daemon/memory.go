package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/durable"
	"github.com/waybill-token/waybill/replay"
)

// A memory is what a server must not forget: it stays when the configuration is
// exchanged, and outlives the process in the data folder.
type memory struct {
	folder  *durable.Dir                        // in which the others have their own
	used    *replay.Memory                      // assertions
	revoked *accesstoken.MemoryTokenRevocations // access tokens
}

func openMemory(cfg *config.Config, newborn bool) (*memory, error) {
	m := &memory{}
	if err := m.open(cfg, newborn); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *memory) open(cfg *config.Config, newborn bool) (err error) {
	if err := os.MkdirAll(string(cfg.Data), 0o700); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if m.folder, err = durable.OpenDir(string(cfg.Data)); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := durable.CheckLocks(string(cfg.Data)); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	served, err := hasServed(cfg) // before anything is made
	if err != nil {
		return err
	}
	m.used, err = replay.Open(replay.Config{
		Dir:       replayFolder(cfg),
		Leeway:    cfg.Policy.Leeway,
		NoHistory: newborn,
	})
	if errors.Is(err, replay.ErrInUse) {
		return fmt.Errorf("data: %w; stop that one, or name another folder", err)
	}
	if err != nil {
		return fmt.Errorf("replay memory: %w", err)
	}
	m.revoked, err = accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: revocationsFolder(cfg), NoHistory: !served})
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

// hasServed reports whether tokens may have been issued from the data folder that are still
// accepted: there are keys, and if they lie elsewhere, where other servers may have made
// them, the folder shows an earlier life besides.
func hasServed(cfg *config.Config) (bool, error) {
	keys, err := accesstoken.HaveKeys(keysFolder(cfg))
	if err != nil {
		return false, fmt.Errorf("tokens.keys: %w", err)
	}
	within, err := filepath.Rel(string(cfg.Data), keysFolder(cfg))
	if !keys || err == nil && filepath.IsLocal(within) {
		return keys, nil
	}
	if _, err = os.Stat(replayFolder(cfg)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func revocationsFolder(cfg *config.Config) string {
	return filepath.Join(string(cfg.Data), "revocations")
}

func replayFolder(cfg *config.Config) string { return filepath.Join(string(cfg.Data), "replay") }

// tellDoubts logs what was lost, and what it costs.
func (m *memory) tellDoubts(ctx context.Context, log *slog.Logger) {
	if doubt := m.used.RecoveryError(); doubt != nil {
		log.WarnContext(ctx, "assertions issued before this start get no token, as they may have been used; until tokens are given, /readyz is 503",
			slog.Any("reason", doubt), slog.Time("issued_before", m.used.AcceptsIssuedFrom()), slog.Time("tokens_from", m.tokensFrom()))
	}
	if doubt := m.revoked.RecoveryError(); doubt != nil {
		log.WarnContext(ctx, "old access tokens are refused, as they may have been revoked", slog.Any("reason", doubt))
	}
}

// lost is an error when the data folder, or one in it, is not at its path any more, or can have become
// that of another server.
func (m *memory) lost() error {
	for _, folder := range []interface{ Lost() error }{m.folder, m.used, m.revoked} {
		if err := folder.Lost(); err != nil {
			return err // one cause is one problem
		}
	}
	return nil
}

func (m *memory) close() error {
	var errs []error
	if m.revoked != nil {
		errs = append(errs, m.revoked.Close())
	}
	if m.used != nil {
		errs = append(errs, m.used.Close())
	}
	if m.folder != nil {
		errs = append(errs, m.folder.Close())
	}
	return errors.Join(errs...)
}

// tokensFrom is when an assertion that is issued then gets a token, after a start at which nobody
// knew what was used. Its iat says the second only.
func (m *memory) tokensFrom() time.Time {
	return m.used.AcceptsIssuedFrom().Add(time.Second - 1).Truncate(time.Second).UTC()
}
