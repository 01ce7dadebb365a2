package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/replay"
)

// A memory is what a server must not forget: it stays when the configuration is
// exchanged, and outlives the process in the data folder.
type memory struct {
	used    *replay.Memory                 // assertions
	revoked *accesstoken.MemoryRevocations // access tokens
}

func openMemory(cfg *config.Config, newborn bool) (*memory, error) {
	used, err := replay.Open(replay.Config{
		Dir:     replayFolder(cfg),
		Leeway:  cfg.Policy.Leeway,
		Newborn: newborn,
	})
	if err != nil {
		return nil, fmt.Errorf("replay memory: %w", err)
	}
	had, err := accesstoken.HaveKeys(keysFolder(cfg)) // before the service makes the first
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tokens.keys: %w", err), used.Close())
	}
	revoked, err := accesstoken.OpenRevocations(accesstoken.RevocationConfig{
		Dir:     filepath.Join(string(cfg.Data), "revocations"),
		Newborn: !had,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("revocations: %w", err), used.Close())
	}
	return &memory{used, revoked}, nil
}

func replayFolder(cfg *config.Config) string { return filepath.Join(string(cfg.Data), "replay") }

// tellDoubts logs what was lost, and what it costs.
func (m *memory) tellDoubts(ctx context.Context, log *slog.Logger) {
	if doubt := m.used.Doubt(); doubt != nil {
		log.WarnContext(ctx, "assertions issued before this start get no token, as they may have been used",
			slog.Any("reason", doubt), slog.Time("issued_before", m.used.VouchesFrom()))
	}
	if doubt := m.revoked.Doubt(); doubt != nil {
		log.WarnContext(ctx, "old access tokens are refused, as they may have been revoked", slog.Any("reason", doubt))
	}
}

func (m *memory) close() error { return errors.Join(m.revoked.Close(), m.used.Close()) }
