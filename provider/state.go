package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/durable"
	"github.com/waybill-token/waybill/replay"
)

// A state is what a provider must not forget: it stays when the configuration is
// exchanged, and outlives the process in the data folder.
type state struct {
	folder  *durable.Dir                        // in which the others have their own
	used    *replay.Memory                      // assertions
	revoked *accesstoken.MemoryTokenRevocations // access tokens
}

// openState opens all of it, or nothing.
func openState(c *Config) (_ *state, err error) {
	s := &state{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err = os.MkdirAll(c.Data, 0o700); err == nil {
		s.folder, err = durable.OpenDir(c.Data)
	}
	if err == nil {
		err = durable.CheckLocks(c.Data)
	}
	if err != nil {
		return nil, c.problem("Data", err)
	}
	served, err := c.folder().HasServed() // before anything is made
	if err != nil {
		return nil, c.problem("Tokens.Keys", err)
	}
	s.used, err = replay.Open(replay.Config{Dir: c.folder().Replay(), Leeway: c.Leeway, NoHistory: c.NoHistory})
	if errors.Is(err, replay.ErrInUse) {
		return nil, c.problem("Data", fmt.Errorf("%w; stop that one, or name another folder", err))
	}
	if err != nil {
		return nil, fmt.Errorf("replay memory: %w", err)
	}
	s.revoked, err = accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: c.folder().Revocations(), NoHistory: !served})
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	return s, nil
}

// logRecoveryErrors says what could not be recovered at the start, and what that costs.
func (s *state) logRecoveryErrors(ctx context.Context, log *slog.Logger) {
	if err := s.used.RecoveryError(); err != nil {
		log.WarnContext(ctx, "assertions issued before this start get no token, as they may have been used; until tokens are given, /readyz is 503",
			slog.Any("reason", err), slog.Time("issued_before", s.used.AcceptsIssuedFrom()), slog.Time("tokens_from", s.tokensFrom()))
	}
	if err := s.revoked.RecoveryError(); err != nil {
		log.WarnContext(ctx, "old access tokens are refused, as they may have been revoked", slog.Any("reason", err))
	}
}

// lost is an error when the data folder, or one in it, is not at its path any more, or can have become
// that of another server.
func (s *state) lost() error {
	for _, folder := range []interface{ Lost() error }{s.folder, s.used, s.revoked} {
		if err := folder.Lost(); err != nil {
			return err // one cause is one problem
		}
	}
	return nil
}

func (s *state) close() error {
	var errs []error
	if s.revoked != nil {
		errs = append(errs, s.revoked.Close())
	}
	if s.used != nil {
		errs = append(errs, s.used.Close())
	}
	if s.folder != nil {
		errs = append(errs, s.folder.Close())
	}
	return errors.Join(errs...)
}

// tokensFrom is when an assertion that is issued then gets a token, after a start at which nobody
// knew what was used. Its iat says the second only.
func (s *state) tokensFrom() time.Time {
	return s.used.AcceptsIssuedFrom().Add(time.Second - 1).Truncate(time.Second).UTC()
}
